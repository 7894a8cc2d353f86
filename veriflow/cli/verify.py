"""``veriflow verify``: a verdict on a level set."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import RenderableType

from verify import Outcome, Verdict
from verify import verify as decide

from ..query import Query
from ..regions import Ball
from .findings import count_violations, rounded_entry, rounded_if_whole, witness_entry, witness_table
from .inputs import ClassOption, DataOption, LabelOption, read_rows
from .output import Document, ExitCode, JsonOption, facts, show
from .question import FlowOption, MassOption, NetworkOption, PropertyOption, Question, RadiusOption, ask

EXIT_CODES = {
    Outcome.HOLDS: ExitCode.DONE,
    Outcome.VIOLATED: ExitCode.VIOLATED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}


def verify(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    mass: MassOption = None,
    radius: RadiusOption = None,
    engine: Annotated[
        str | None, typer.Option("--with", metavar="ENGINE", help="See `veriflow solvers`; by the region by default.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds, in equal parts for each shell of the level set.")] = 60.0,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the network has a property on the whole level set.

    Exit codes: 0 it holds, 1 it is violated, 3 unknown.

    Example: `veriflow verify --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.5`
    """
    question = ask(flow, network, prop, mass, radius)
    rows = None if data is None else read_rows(data, question.flow, label, keep_class)
    verdicts = _decide_outwards(question, engine, timeout)
    verdict = _joint(verdicts)
    seconds = math.fsum(part.seconds for part in verdicts)
    counts, counted = count_violations(question.queries[0], rows)

    rounded = rounded_if_whole(verdict.witness, question.queries[0])
    document: dict[str, Document] = {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "engine": verdict.engine,
        "seconds": seconds,
        "property": question.queries[0].text,
        "mass": question.level_set.mass,
        "regions": [
            {**_radii(query), "outcome": str(part.outcome), "reason": part.reason}
            for query, part in zip(question.queries, verdicts, strict=False)
        ],
        "witness": witness_entry(verdict.witness, question.queries[0]),
        "rounded": rounded_entry(rounded, question.queries[0]),
        **counts,
    }
    answer = facts(
        {
            "verdict": verdict.outcome.upper(),
            "property": question.queries[0].text,
            "on the level set of mass": question.level_set.mass,
            "reason": verdict.reason,
            "time": f"{seconds:.2f} s with {verdict.engine}",
        }
    )
    shown: list[RenderableType] = (
        [] if verdict.witness is None else [witness_table(verdict.witness, question.queries[0], None, rounded), ""]
    )
    show(document, as_json, answer, "", *shown, counted)
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def _radii(query: Query) -> dict[str, Document]:
    ball = query.latent_region
    assert isinstance(ball, Ball)  # noqa: S101 - from `ask`
    return {"inner": ball.inner, "outer": ball.radius}


def _decide_outwards(question: Question, engine: str | None, timeout: float) -> list[Verdict]:
    """A verdict for each interval from the centre outwards, up to the first violation."""
    verdicts: list[Verdict] = []
    for query in question.queries:
        verdicts.append(decide(query, engine, timeout=timeout / len(question.queries)))
        if verdicts[-1].outcome is Outcome.VIOLATED:
            break
    return verdicts


def _joint(verdicts: list[Verdict]) -> Verdict:
    """The verdict on the union: that of a violated part, else of an unknown one, else of any."""
    order = (Outcome.VIOLATED, Outcome.UNKNOWN, Outcome.HOLDS)
    return min(verdicts, key=lambda verdict: order.index(verdict.outcome))
