"""``veriflow verify``: a verdict on a level set, or on a property file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from veriflow.errors import RegionError
from veriflow.runtime.lazy_imports import LazyImports

from ...tools.process import MEMORY_LIMIT
from ...witness.verdict import Outcome
from ..long_runs import long_run
from ..options import (
    LATENT_TO_DATA,
    ClassOption,
    DataOption,
    DecimalOption,
    DirectionOption,
    HeaderOption,
    LabelOption,
    MassOption,
    OutputOption,
    PropertyOption,
    RadiusOption,
    SeparatorOption,
    TrimOption,
    readable,
    readable_networks,
)
from ..output import Document, ExitCode, JsonOption, facts, grid, show

with LazyImports(__name__) as imports:
    from veriflow.queries.query import Query
    from veriflow.tables.text import Dialect

    from ... import Answers, InterruptedSearch
    from ... import verify_all as decide
    from ..findings import count_violations, rounded_entry, rounded_if_whole, witness_entry, witness_table
    from ..inputs import read_rows, split_list
    from ..question import ask, ask_without_flow, single_network, trimmed_entry

EXIT_CODES = {
    Outcome.HOLDS: ExitCode.DONE,
    Outcome.VIOLATED: ExitCode.VIOLATED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}


@imports.on_call
def verify(
    *,
    network: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            callback=readable_networks,
            help="The network under test, as ONNX; NAME=FILE for each network of a file of several.",
        ),
    ],
    prop: PropertyOption,
    flow: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", callback=readable, help="A flow; without it a property file decides."),
    ] = None,
    output: OutputOption = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    trim: TrimOption = None,
    direction: DirectionOption = LATENT_TO_DATA,
    solvers: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="NAMES",
            help="One or more of `veriflow solvers`, with commas; auto: one engine, then several at once.",
        ),
    ] = "auto",
    wait_for_all: Annotated[
        bool, typer.Option("--all", help="Wait for every solver and compare, instead of stopping at the first answer.")
    ] = False,
    memory: Annotated[float, typer.Option(help="Gigabytes for each process of a solver.")] = MEMORY_LIMIT,
    timeout: Annotated[
        float, typer.Option(help="Seconds for each solver, in equal parts for each shell or box.")
    ] = 60.0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what bab has open there, and go on from it if it is there."),
    ] = None,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the network has a property on the whole level set, or whether a property file is satisfied.

    Exit codes: 0 it holds (the file is unsatisfiable), 1 it is violated, 3 unknown, 2 bad input or solvers that disagree.

    Example: `veriflow verify --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.5`
    """
    dialect = Dialect(separator, decimal, header)
    question = None
    if flow is None:
        if (mass, radius, trim, data) != (None,) * 4 or direction != LATENT_TO_DATA:
            raise RegionError("expected --flow beside --mass, --radius, --trim, --direction or --data; got none")
        queries = ask_without_flow(network, prop, output)
    else:
        question = ask(flow, single_network(network), prop, mass, radius, direction, trim, output)
        queries = question.queries
    rows = None if data is None or question is None else read_rows(data, question.flow, label, keep_class, dialect)
    names = split_list(solvers) or []
    counted, code = None if question is None else question.counted, None
    try:
        with long_run(f"asking {', '.join(names)}", checkpoint, quiet=as_json) as line:
            joint = decide(
                queries,
                names,
                timeout=timeout,
                memory=memory,
                wait_for_all=wait_for_all,
                checkpoint=checkpoint,
                report=line,
            )
    except InterruptedSearch as stop:
        joint, counted, code = stop.found, None, ExitCode.INTERRUPTED
    verdict, answers = joint.verdict, joint.each
    try:
        counts, table_of_counts = count_violations(counted, rows)
    except KeyboardInterrupt:
        counts, table_of_counts = count_violations(None, None)
    decisive = queries[joint.decisive]
    mass = None if question is None else question.level_set.mass
    trimmed = None if question is None else question.trimmed

    rounded = rounded_if_whole(verdict.witness, decisive)
    document: dict[str, Document] = {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "engine": verdict.engine,
        "seconds": verdict.seconds,
        "property": decisive.text,
        "mass": mass,
        "trimmed": trimmed_entry(trimmed),
        "regions": [_region_entry(query, part) for query, part in zip(queries, answers, strict=False)],
        "witness": witness_entry(verdict.witness, decisive),
        "rounded": rounded_entry(rounded, decisive),
        **counts,
    }
    answer = facts(
        {
            "verdict": verdict.outcome.upper(),
            "property": decisive.text,
            "on the level set of mass": mass if trimmed is None else None,
            "on the": trimmed,
            "reason": verdict.reason,
            "time": f"{verdict.seconds:.2f} s with {verdict.engine}",
        }
    )
    shown: list[RenderableType] = (
        [] if verdict.witness is None else [witness_table(verdict.witness, decisive, None, rounded), ""]
    )
    if len(answers[0].each) > 1:
        shown = [_answers_table(answers), "", *shown]
    show(document, as_json, answer, "", *shown, table_of_counts)
    raise typer.Exit(EXIT_CODES[verdict.outcome] if code is None else code)


def _region_entry(query: Query, answers: Answers) -> Document:
    """The latent norms of a query's region, null for a box, and what was found out about it."""
    ball = query.latent_region.ball
    return {
        "inner": None if ball is None else ball.inner,
        "outer": None if ball is None else ball.radius,
        "outcome": str(answers.verdict.outcome),
        "reason": answers.verdict.reason,
        "answers": [
            {"engine": one.engine, "outcome": str(one.outcome), "reason": one.reason, "seconds": one.seconds}
            for one in answers.each
        ],
    }


def _answers_table(answers: Sequence[Answers]) -> Table:
    """What every solver said, region by region."""
    table = grid("solver", "answer", "seconds", "reason")
    for one in (one for part in answers for one in part.each):
        table.add_row(one.engine, str(one.outcome), f"{one.seconds:.2f}", one.reason)
    return table
