"""``veriflow certify``: how far out a property holds, and the most probable counterexample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from verify import Certificate, RadialSearch, ViolationBounds, verdict_curve, violation_bounds
from verify import certify as search

from ..box_masses import check_box_masses
from .findings import count_violations, rounded_entry, rounded_if_whole, witness_entry, witness_table
from .inputs import ClassOption, DataOption, LabelOption, read_rows
from .mass_bars import checked_picture, mass_bar, write_mass_plot
from .output import Document, ExitCode, JsonOption, facts, show
from .question import FlowOption, MassOption, NetworkOption, PropertyOption, Question, RadiusOption, ask

FARTHEST_MASS = 0.999
CURVE = (*(step / 20 for step in range(1, 20)), 0.99)
"""Masses at which the verdict is told, all from one search."""


def certify(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    mass: MassOption = None,
    radius: RadiusOption = None,
    gap: Annotated[float, typer.Option(help="Relative difference of both radii at which the search ends.")] = 1e-3,
    timeout: Annotated[float, typer.Option(help="Seconds; what is proved by then counts.")] = 60.0,
    probability: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1e-3, help="Then bound the probability of a violation by proof, for so long at most."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what is proved and refuted: .png, .svg or .pdf.")
    ] = None,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the most probable counterexample, and the largest level set on which the property is proved.

    Without --mass or --radius the search goes out to mass 0.999.
    Exit codes: 0 no violation up to there, 1 a violation was found, 3 neither.

    Example: `veriflow certify --flow setosa.safetensors --network net.onnx --property "classified_as(0)"
    --data flowers.csv`
    """
    farthest = FARTHEST_MASS if mass is None and radius is None else mass
    question = ask(flow, network, prop, farthest, radius)
    picture = None if plot is None else checked_picture(plot)
    if probability is not None:
        check_box_masses(question.flow.base)
    rows = None if data is None else read_rows(data, question.flow, label, keep_class)
    certificate = _search_visibly(question, gap, timeout, quiet=as_json)
    proved = (
        None
        if probability is None
        else violation_bounds(question.queries[0], timeout=probability, proved_radius=certificate.proved_radius)
    )
    counts, counted = count_violations(question.counted, rows, proved)

    query, features = question.queries[0], question.flow.features
    median = None if rows is None else rows.double().quantile(0.5, dim=0).tolist()
    rounded = rounded_if_whole(certificate.witness, query)
    if picture is not None:
        write_mass_plot(certificate, picture)
    document: dict[str, Document] = {
        "property": certificate.property,
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
            "latent radii": f"proved to {certificate.proved_radius:.6g}, refuted at {certificate.refuted_radius:.6g}",
            "reason": certificate.reason,
            "time": f"{certificate.seconds:.2f} s, {certificate.boxes} boxes",
        }
    )
    shown: list[RenderableType] = (
        [] if certificate.witness is None else [witness_table(certificate.witness, query, median, rounded), ""]
    )
    show(document, as_json, answer, "", mass_bar(certificate), "", *shown, counted)
    if certificate.witness is not None:
        raise typer.Exit(ExitCode.VIOLATED)
    raise typer.Exit(ExitCode.DONE if certificate.complete else ExitCode.UNKNOWN)


def _search_visibly(question: Question, gap: float, timeout: float, *, quiet: bool) -> Certificate:
    """Search with both radii on a live line of stderr, where that is a terminal."""
    law = question.flow.base.law
    with Console(stderr=True, quiet=quiet).status("looking for a violation …") as line:

        def report(state: RadialSearch) -> None:
            line.update(
                f"proved to {state.proved:.4g} (mass {float(law.cdf(state.proved)):.4g}), "
                f"refuted at {state.refuted:.4g} (mass {float(law.cdf(state.refuted)):.4g})"
            )

        return search(question.queries[0], gap=gap, timeout=timeout, report=report)


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
