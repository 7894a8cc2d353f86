"""``veriflow certify``: how far out a property holds, and the most probable counterexample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from veriflow.errors import QueryError
from veriflow.runtime.lazy_imports import LazyImports

from ..long_runs import long_run
from ..options import (
    ClassOption,
    DataOption,
    DecimalOption,
    FlowOption,
    HeaderOption,
    LabelOption,
    MassOption,
    NetworkOption,
    OutputOption,
    PropertyOption,
    RadiusOption,
    SeparatorOption,
    TrimOption,
)
from ..output import Document, ExitCode, JsonOption, facts, show

with LazyImports(__name__) as imports:
    from veriflow.density.box_masses import check_box_masses
    from veriflow.queries.query import Query
    from veriflow.regions.ball import Ball
    from veriflow.tables.text import Dialect

    from ... import Certificate, InterruptedSearch, ViolationBounds, trimmed_for_proof, verdict_curve, violation_bounds
    from ... import certify as search
    from ...bab.progress import progress_text
    from ..findings import count_violations, rounded_entry, rounded_if_whole, witness_entry, witness_table
    from ..inputs import read_rows
    from ..mass_bars import checked_picture, mass_bar, write_mass_plot
    from ..question import ask, trim_limit

FARTHEST_MASS = 0.999
CURVE = (*(step / 20 for step in range(1, 20)), 0.99)
"""Masses whose verdicts are printed, all from one search."""

CHOOSING = 0.1
"""Share of the time in which --trim auto may try limits."""


@imports.on_call
def certify(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    output: OutputOption = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    trim: TrimOption = None,
    gap: Annotated[float, typer.Option(help="Relative difference of both radii at which the search ends.")] = 1e-3,
    timeout: Annotated[float, typer.Option(help="Seconds; what is proved by then counts.")] = 60.0,
    probability: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1e-3, help="Then bound the probability of a violation by proof, for so long at most."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is found out there, and go on from it if it is there."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what is proved and refuted: .png, .svg or .pdf.")
    ] = None,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the most probable counterexample, and the largest level set on which the property is proved.

    Without --mass or --radius the search goes out to mass 0.999. With --trim half of the time is for the same ball without
    latent coordinates beyond a limit, which holds more of what can be proved in many dimensions.
    Exit codes: 0 no violation up to there, 1 a violation was found, 3 neither.

    Example: `veriflow certify --flow setosa.safetensors --network net.onnx --property "classified_as(0)"
    --data flowers.csv`
    """
    dialect = Dialect(separator, decimal, header)
    farthest = FARTHEST_MASS if mass is None and radius is None else mass
    question = ask(flow, network, prop, farthest, radius, output=output)
    if checkpoint is not None and trim is not None:
        raise QueryError("expected --checkpoint without --trim, which is a second search; got both")
    picture = None if plot is None else checked_picture(plot)
    if probability is not None:
        check_box_masses(question.flow.base)
    rows = None if data is None else read_rows(data, question.flow, label, keep_class, dialect)
    query, features = question.queries[0], question.flow.features
    whole = timeout if trim is None else timeout / 2
    certificate = trimmed = beside = proved = None
    counts, counted = count_violations(None, None)
    is_interrupted = False
    try:
        certificate = _search_visibly(query, gap, whole, checkpoint, quiet=as_json)
        trimmed = None if trim is None else _trimmed(query, trim_limit(trim), timeout=CHOOSING * timeout)
        beside = None if trimmed is None else _search_visibly(trimmed, gap, timeout - whole, None, quiet=as_json)
        if probability is not None:
            proved = violation_bounds(query, timeout=probability, proved_radius=certificate.proved_radius)
        counts, counted = count_violations(question.counted, rows, proved)
    except KeyboardInterrupt as stop:
        is_interrupted = True
        if isinstance(stop, InterruptedSearch) and certificate is not None:
            beside = stop.found
        elif isinstance(stop, InterruptedSearch):
            certificate = stop.found
        if certificate is None:
            raise
    median = None if rows is None else rows.double().quantile(0.5, dim=0).tolist()
    rounded = rounded_if_whole(certificate.witness, query)
    if picture is not None:
        write_mass_plot(certificate, picture)
    document: dict[str, Document] = {
        "property": certificate.property,
        **_entry(certificate, query),
        "trimmed": None
        if trimmed is None or beside is None
        else {"limit": _ball(trimmed).reach, **_entry(beside, trimmed)},
        "rounded": rounded_entry(rounded, query),
        "median": None if median is None else dict(zip(features, median, strict=True)),
        "curve": [{"mass": level, "verdict": verdict} for level, verdict in verdict_curve(certificate, CURVE)],
        "violation_bounds": None if proved is None else _bounds_entry(proved),
        **counts,
    }
    answer = facts(
        {
            "property": certificate.property,
            "certified mass": _certified_text(certificate),
            "latent radii": _radii_text(certificate),
            "reason": certificate.reason,
            "time": f"{certificate.seconds:.2f} s, {certificate.boxes} boxes",
            **({} if trimmed is None or beside is None else _trimmed_facts(beside, _ball(trimmed))),
        }
    )
    witness = certificate.witness if certificate.witness or beside is None else beside.witness
    shown: list[RenderableType] = [] if witness is None else [witness_table(witness, query, median, rounded), ""]
    show(document, as_json, answer, "", mass_bar(certificate), "", *shown, counted)
    if witness is not None:
        raise typer.Exit(ExitCode.VIOLATED)
    if certificate.complete:
        raise typer.Exit(ExitCode.DONE)
    raise typer.Exit(ExitCode.INTERRUPTED if is_interrupted else ExitCode.UNKNOWN)


def _trimmed_facts(certificate: Certificate, ball: Ball) -> dict[str, object]:
    return {
        "trimmed": f"where no latent coordinate is beyond {ball.reach:.6g}:",
        "  certified mass": _certified_text(certificate),
        "  latent radii": _radii_text(certificate),
        "  reason": certificate.reason,
        "  time": f"{certificate.seconds:.2f} s, {certificate.boxes} boxes",
    }


def _trimmed(query: Query, limit: float | None, *, timeout: float) -> Query:
    """The query over its ball with a limit of latent coordinates: a given one, or one at which much can be proved."""
    return trimmed_for_proof(query, timeout=timeout) if limit is None else query.at(replace(_ball(query), limit=limit))


def _ball(query: Query) -> Ball:
    if (ball := query.region.ball) is None:
        raise QueryError(f"expected a question about latents alone, to trim their ball; got {query.region}")
    return ball


def _entry(certificate: Certificate, query: Query) -> dict[str, Document]:
    """What a search found."""
    return {
        "certified_mass": certificate.certified_mass,
        "refuted_mass": certificate.refuted_mass,
        "searched_mass": certificate.searched_mass,
        "proved_radius": certificate.proved_radius,
        "refuted_radius": certificate.refuted_radius,
        "complete": certificate.complete,
        "reason": certificate.reason,
        "seconds": certificate.seconds,
        "boxes": certificate.boxes,
        "witness": witness_entry(certificate.witness, query),
    }


def _search_visibly(query: Query, gap: float, timeout: float, checkpoint: Path | None, *, quiet: bool) -> Certificate:
    """Search with both radii on a live line."""
    with long_run("looking for a violation", checkpoint, quiet=quiet) as line:
        return search(
            query,
            gap=gap,
            timeout=timeout,
            checkpoint=checkpoint,
            report=lambda state: line(progress_text(state, query)),
        )


def _radii_text(certificate: Certificate) -> str:
    return f"proved to {certificate.proved_radius:.6g}, refuted at {certificate.refuted_radius:.6g}"


def _bounds_entry(bounds: ViolationBounds) -> Document:
    return {
        "low": bounds.low,
        "high": bounds.high,
        "complete": bounds.complete,
        "reason": bounds.reason,
        "seconds": bounds.seconds,
        "boxes": bounds.boxes,
    }


def _certified_text(certificate: Certificate) -> str:
    if certificate.witness is None:
        return f"at least {certificate.certified_mass:.6g}, searched to {certificate.searched_mass:.6g}"
    return f"[{certificate.certified_mass:.6g}, {certificate.refuted_mass:.6g}]"
