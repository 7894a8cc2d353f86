"""Several queries as one question, such as the shells of a level set or the boxes of a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from veriflow.errors import QueryError
from veriflow.queries.query import Query

from ..bab.checkpoint import SearchFile
from ..tools.process import MEMORY_LIMIT
from ..witness.interrupted import InterruptedSearch
from ..witness.verdict import LATE, NoTruthValue, Outcome, Verdict
from .limits import Limits
from .portfolio import ANSWERING, AUTO, Answers, answered
from .registry import check_checkpoint

_ORDER = (Outcome.VIOLATED, Outcome.UNKNOWN, Outcome.HOLDS)


@dataclass(frozen=True)
class JointAnswers(NoTruthValue):
    """The answer to several queries as one question.

    Attributes:
        verdict: VIOLATED where one query is, else UNKNOWN where one is open, else HOLDS; with the seconds of all.
        decisive: place of the query whose verdict it is.
        each: the solvers' answers to each query, up to the first violation.
        is_late: whether a query used up its time and stays open.
    """

    verdict: Verdict
    decisive: int
    each: tuple[Answers, ...]
    is_late: bool


def verify_all(
    queries: Sequence[Query],
    names: Sequence[str] = (AUTO,),
    *,
    timeout: float = 60.0,
    memory: float = MEMORY_LIMIT,
    wait_for_all: bool = False,
    checkpoint: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> JointAnswers:
    """Decide queries one after the other, up to the first violation.

    Each query may take an equal share of the time that is left; ``timeout`` is for all together. The other arguments are
    those of `verify_with`. A checkpoint is one file for all queries.

    Raises:
        QueryError: no queries; otherwise as `verify_with`.
        InterruptedSearch: Ctrl-C before the question was decided; it has the joint answers by then.
    """
    limits = Limits(timeout, memory, checkpoint, report)
    if not queries:
        raise QueryError("expected one query at least; got none")
    if checkpoint is not None:
        if list(names) != [AUTO]:
            check_checkpoint(names)
        SearchFile(checkpoint, queries[0], queries=queries)
    deadline = time.monotonic() + timeout
    answers: list[Answers] = []
    begun, is_late, last = time.monotonic(), False, f"asking {', '.join(names)}"

    def keep(text: str) -> None:
        nonlocal last
        last = text
        if report is not None:
            report(text)

    try:
        for place, query in enumerate(queries):
            begun = time.monotonic()
            left = deadline - begun
            if left <= 0:
                late = Verdict(Outcome.UNKNOWN, LATE, engine=", ".join(names))
                answers.append(Answers(late, (late,)))
                is_late = True
                continue
            share = left / (len(queries) - place)
            here = replace(limits, timeout=share, report=_placed(keep, place, len(queries)))
            found = answered(query, names, here, wait_for_all)
            answers.append(found)
            if found.verdict.outcome is Outcome.VIOLATED:
                break
            is_late |= found.verdict.outcome is Outcome.UNKNOWN and found.verdict.seconds >= share * (1 - ANSWERING)
    except KeyboardInterrupt as stop:
        if isinstance(stop, InterruptedSearch):
            answers.append(stop.found)
        if len(answers) < len(queries) and (not answers or answers[-1].verdict.outcome is Outcome.HOLDS):
            open_one = Verdict(
                Outcome.UNKNOWN, f"interrupted: {last}", None, ", ".join(names), time.monotonic() - begun
            )
            answers.append(Answers(open_one, (open_one,)))
        joint = _joint(answers, is_late)
        if joint.verdict.outcome is Outcome.UNKNOWN:
            raise InterruptedSearch(joint) from None
        return joint
    return _joint(answers, is_late)


def _joint(answers: Sequence[Answers], is_late: bool) -> JointAnswers:
    verdicts = [found.verdict for found in answers]
    decisive = min(range(len(verdicts)), key=lambda place: _ORDER.index(verdicts[place].outcome))
    verdict = replace(
        verdicts[decisive], reason=_reason(verdicts, decisive), seconds=math.fsum(one.seconds for one in verdicts)
    )
    return JointAnswers(verdict, decisive, tuple(answers), is_late)


def _reason(verdicts: Sequence[Verdict], decisive: int) -> str:
    """Why the answer is what it is; of several that are open also how many there are."""
    count = sum(verdict.outcome is Outcome.UNKNOWN for verdict in verdicts)
    if verdicts[decisive].outcome is not Outcome.UNKNOWN or len(verdicts) == 1:
        return verdicts[decisive].reason
    stay = "stays" if count == 1 else "stay"
    return f"{count} of {len(verdicts)} regions {stay} open, the first as {verdicts[decisive].reason}"


def _placed(report: Callable[[str], None], place: int, count: int) -> Callable[[str], None]:
    """Lines that begin with which query they are about, where there are several."""
    if count == 1:
        return report
    return lambda text: report(f"{place + 1} of {count}: {text}")
