"""``veriflow verify``: a verdict on a level set."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from verify import MEMORY_LIMIT, Answers, Outcome, Verdict
from verify import verify_with as decide

from .findings import count_violations, witness_entry, witness_table
from .inputs import ClassOption, DataOption, LabelOption, read_rows, split_list
from .output import Document, ExitCode, JsonOption, facts, grid, show
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
    solvers: Annotated[
        str, typer.Option("--with", metavar="NAMES", help="One or more of `veriflow solvers`, with commas.")
    ] = "bab",
    wait_for_all: Annotated[
        bool, typer.Option("--all", help="Wait for every solver and compare, instead of stopping at the first answer.")
    ] = False,
    memory: Annotated[float, typer.Option(help="Gigabytes for each process of a solver.")] = MEMORY_LIMIT,
    timeout: Annotated[
        float, typer.Option(help="Seconds for each solver, in equal parts for each shell of the level set.")
    ] = 60.0,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the network has a property on the whole level set.

    Exit codes: 0 it holds, 1 it is violated, 3 unknown, 2 bad input or solvers that disagree.

    Example: `veriflow verify --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.5`
    """
    question = ask(flow, network, prop, mass, radius)
    rows = None if data is None else read_rows(data, question.flow, label, keep_class)
    answers = _decide_outwards(question, split_list(solvers) or [], timeout, memory, wait_for_all)
    verdicts = [part.verdict for part in answers]
    verdict = _joint(verdicts)
    seconds = math.fsum(part.seconds for part in verdicts)
    counts, counted = count_violations(question.queries[0], rows)

    document: dict[str, Document] = {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "engine": verdict.engine,
        "seconds": seconds,
        "property": question.queries[0].text,
        "mass": question.level_set.mass,
        "regions": [
            {
                "inner": inner,
                "outer": outer,
                "outcome": str(part.verdict.outcome),
                "reason": part.verdict.reason,
                "answers": [_answer_entry(one) for one in part.each],
            }
            for (inner, outer), part in zip(question.level_set.intervals, answers, strict=False)
        ],
        "witness": witness_entry(verdict.witness, question.flow.features),
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
        [] if verdict.witness is None else [witness_table(verdict.witness, question.flow.features), ""]
    )
    if len(answers[0].each) > 1:
        shown = [_answers_table(answers), "", *shown]
    show(document, as_json, answer, "", *shown, counted)
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def _decide_outwards(
    question: Question, names: list[str], timeout: float, memory: float, wait_for_all: bool
) -> list[Answers]:
    """The solvers' answers for each interval from the centre outwards, up to the first violation."""
    answers: list[Answers] = []
    for query in question.queries:
        share = timeout / len(question.queries)
        answers.append(decide(query, names, timeout=share, memory=memory, wait_for_all=wait_for_all))
        if answers[-1].verdict.outcome is Outcome.VIOLATED:
            break
    return answers


def _joint(verdicts: list[Verdict]) -> Verdict:
    """The verdict on the union: that of a violated part, else of an unknown one, else of any."""
    order = (Outcome.VIOLATED, Outcome.UNKNOWN, Outcome.HOLDS)
    return min(verdicts, key=lambda verdict: order.index(verdict.outcome))


def _answer_entry(verdict: Verdict) -> dict[str, Document]:
    return {
        "engine": verdict.engine,
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "seconds": verdict.seconds,
    }


def _answers_table(answers: list[Answers]) -> Table:
    """What every solver said, region by region."""
    table = grid("solver", "answer", "seconds", "reason")
    for one in (one for part in answers for one in part.each):
        table.add_row(one.engine, str(one.outcome), f"{one.seconds:.2f}", one.reason)
    return table
