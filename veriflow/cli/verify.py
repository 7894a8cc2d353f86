"""``veriflow verify``: a verdict on a level set, or on a property file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from verify import Outcome, Verdict
from verify import verify as decide

from ..errors import RegionError
from ..query import Query
from ..regions import Ball
from .findings import count_violations, rounded_entry, rounded_if_whole, witness_entry, witness_table
from .inputs import ClassOption, DataOption, LabelOption, read_rows
from .output import Document, ExitCode, JsonOption, facts, show
from .question import (
    LATENT_TO_DATA,
    DirectionOption,
    MassOption,
    PropertyOption,
    RadiusOption,
    ask,
    ask_without_flow,
    single_network,
)

EXIT_CODES = {
    Outcome.HOLDS: ExitCode.DONE,
    Outcome.VIOLATED: ExitCode.VIOLATED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}


def verify(
    *,
    network: Annotated[
        list[str],
        typer.Option(
            metavar="FILE", help="The network under test, as ONNX; NAME=FILE for each network of a file of several."
        ),
    ],
    prop: PropertyOption,
    flow: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="A flow; without it a property file decides.")
    ] = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    direction: DirectionOption = LATENT_TO_DATA,
    engine: Annotated[
        str | None, typer.Option("--with", metavar="ENGINE", help="See `veriflow solvers`; by the region by default.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds, in equal parts for each shell or box.")] = 60.0,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the network has a property on the whole level set, or whether a property file is satisfied.

    Exit codes: 0 it holds (the file is unsatisfiable), 1 it is violated, 3 unknown.

    Example: `veriflow verify --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.5`
    """
    question = None
    if flow is None:
        if (mass, radius, data) != (None, None, None) or direction != LATENT_TO_DATA:
            raise RegionError("expected --flow beside --mass, --radius, --direction or --data; got none")
        queries = ask_without_flow(network, prop)
    else:
        question = ask(flow, single_network(network), prop, mass, radius, direction)
        queries = question.queries
    rows = None if data is None or question is None else read_rows(data, question.flow, label, keep_class)
    verdicts = _decide_in_turn(queries, engine, timeout)
    verdict = _joint(verdicts)
    seconds = math.fsum(part.seconds for part in verdicts)
    counts, counted = count_violations(None if question is None else question.counted, rows)
    decisive = queries[verdicts.index(verdict)]
    mass = None if question is None else question.level_set.mass

    rounded = rounded_if_whole(verdict.witness, decisive)
    document: dict[str, Document] = {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "engine": verdict.engine,
        "seconds": seconds,
        "property": decisive.text,
        "mass": mass,
        "regions": [_region_entry(query, part) for query, part in zip(queries, verdicts, strict=False)],
        "witness": witness_entry(verdict.witness, decisive),
        "rounded": rounded_entry(rounded, decisive),
        **counts,
    }
    answer = facts(
        {
            "verdict": verdict.outcome.upper(),
            "property": decisive.text,
            "on the level set of mass": mass,
            "reason": verdict.reason,
            "time": f"{seconds:.2f} s with {verdict.engine}",
        }
    )
    shown: list[RenderableType] = (
        [] if verdict.witness is None else [witness_table(verdict.witness, decisive, None, rounded), ""]
    )
    show(document, as_json, answer, "", *shown, counted)
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def _region_entry(query: Query, verdict: Verdict) -> Document:
    """The latent norms of a query's region, null for a box, and what was found out about it."""
    region = query.latent_region
    ends = (region.inner, region.radius) if isinstance(region, Ball) else (None, None)
    return {"inner": ends[0], "outer": ends[1], "outcome": str(verdict.outcome), "reason": verdict.reason}


def _decide_in_turn(queries: Sequence[Query], engine: str | None, timeout: float) -> list[Verdict]:
    """A verdict for each query (for a level set from the centre outwards), up to the first violation."""
    verdicts: list[Verdict] = []
    for query in queries:
        verdicts.append(decide(query, engine, timeout=timeout / len(queries)))
        if verdicts[-1].outcome is Outcome.VIOLATED:
            break
    return verdicts


def _joint(verdicts: list[Verdict]) -> Verdict:
    """The verdict on the union: that of a violated part, else of an unknown one, else of any."""
    order = (Outcome.VIOLATED, Outcome.UNKNOWN, Outcome.HOLDS)
    return min(verdicts, key=lambda verdict: order.index(verdict.outcome))
