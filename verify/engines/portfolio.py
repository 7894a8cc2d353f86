"""Several solvers on one query, in processes that can be killed: first answer, or all compared.

VIOLATED is always replayed here and so counts from every solver; HOLDS counts from the engines of veriflow. HOLDS from an
outside tool ends the run too, but its reason says that it is that tool's claim.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from exporters import query_to_bytes, write_bundle
from veriflow.errors import DisagreementError, QueryError, SolverError, VeriflowError
from veriflow.queries.query import Query
from veriflow.runtime.deadline import OutOfTime, until

from ..bab.checkpoint import SearchFile
from ..tools.process import MEMORY_LIMIT, run_tool
from ..tools.tool import ExternalTool
from ..witness.interrupted import InterruptedSearch
from ..witness.onnx_replay import confirmed
from ..witness.replay import replay
from ..witness.verdict import LATE, NoTruthValue, Outcome, Verdict
from .limits import Limits
from .registry import ENGINES, EngineInfo, check_checkpoint, solver, verify_alone

_log = logging.getLogger(__name__)

STOPPED = "was stopped, as another answer came first"

ANSWERING, MOST_ANSWERING = 0.1, 0.25
"""Share of its time, and seconds at most, that an engine in a process has for writing its answer."""

AUTO, DEFAULT, ALONE = "auto", "bab", 2.0
"""The name for the engines in the order that decides most, the first of them, and its seconds alone."""


@dataclass(frozen=True)
class Answers(NoTruthValue):
    """What several solvers said.

    Attributes:
        verdict: the one that counts; its ``engine`` says whose it is.
        each: one verdict for each name, in the order of the names; UNKNOWN with the reason for those that were stopped.
            onnxruntime has looked at the witness of ``verdict`` alone.
    """

    verdict: Verdict
    each: tuple[Verdict, ...]


def verify(
    query: Query,
    name: str = AUTO,
    *,
    timeout: float = 60.0,
    memory: float = MEMORY_LIMIT,
    checkpoint: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Verdict:
    """Decide a query: HOLDS, VIOLATED with a replayed witness, or UNKNOWN with the reason.

    Args:
        query: what to decide.
        name: ``auto``, an engine of `ENGINES`, which runs in this process, or an outside tool, as `solver` takes them.
        timeout: seconds after which the answer is UNKNOWN.
        memory: gigabytes for each process of an engine under ``auto``.
        checkpoint: a file in which ``bab`` keeps what is open, and from which a stopped run goes on.
        report: called with a line on how it gets on, now and then.

    Raises:
        VeriflowError: as `verify_with`.
    """
    limits = Limits(timeout, memory, checkpoint, report)
    return answered(query, [AUTO], limits).verdict if name == AUTO else verify_alone(query, name, limits)


def verify_with(
    query: Query,
    names: Sequence[str] = (AUTO,),
    *,
    timeout: float = 60.0,
    memory: float = MEMORY_LIMIT,
    wait_for_all: bool = False,
    evidence: str | Path = "disagreement",
    checkpoint: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Answers:
    """Decide a query by several solvers at once, all within the same time.

    One name alone that is an engine of veriflow runs in this process; everything else in processes of its own. ``auto``
    alone is ``bab`` in this process for two seconds, which is more than most queries take and than a process
    needs to start. Where these do not suffice, ``bab``, ``milp`` and ``smt`` go on at once; where a near miss is all that
    is open, ``smt`` alone, which tells it from a violation. Of these, engines that do not take the region are not asked.

    Args:
        query: what to decide.
        names: engines and outside tools, as `solver` takes them, or ``auto``.
        timeout: seconds for each solver.
        memory: gigabytes for each process of a solver.
        wait_for_all: whether to wait for every solver and compare, instead of stopping the others at the first answer.
        evidence: where a bundle goes that shows a disagreement; a number is added where that name is taken.
        checkpoint: a file in which ``bab`` keeps what is open, and from which a stopped run goes on.
        report: called with a line on how it gets on, now and then.

    Raises:
        SolverError: no name or one that is given twice, a solver that is unknown or not installed, limits not positive, a
            checkpoint for solvers without ``bab``.
        QueryError: a query that none of the solvers can take, a checkpoint of another query.
        StorageError: a checkpoint that cannot be read or written.
        DisagreementError: one solver says HOLDS and another has a violation that replays.
        InterruptedSearch: Ctrl-C while several solvers run; it has the answers by then.
        GraphError: a violation at which a network's file gives what no rounding of the exact outputs explains.
    """
    return answered(query, names, Limits(timeout, memory, checkpoint, report), wait_for_all, evidence)


def answered(
    query: Query,
    names: Sequence[str],
    limits: Limits,
    wait_for_all: bool = False,
    evidence: str | Path = "disagreement",
) -> Answers:
    """`verify_with`, with its limits as one object."""
    if not query.violation:
        verdict = verify_alone(query, DEFAULT, replace(limits, checkpoint=None))
        return Answers(verdict, (verdict,))
    if list(names) == [AUTO]:
        return _in_order(query, limits)
    if not names or len(set(names)) < len(names):
        raise SolverError(f"expected solvers that are named once; got {', '.join(names) or 'none'}")
    solvers = {name: solver(name) for name in names}
    if len(names) == 1 and names[0] in ENGINES:
        verdict = verify_alone(query, names[0], limits)
        return Answers(verdict, (verdict,))
    if limits.checkpoint is not None:
        check_checkpoint(names)
        SearchFile(limits.checkpoint, query)  # refused here, and not in a process
    if limits.report is not None:
        limits.report(f"asking {', '.join(names)}")
    each, is_interrupted = _asked(query, solvers, limits, wait_for_all)
    _compare(query, each, Path(evidence))
    order = (Outcome.VIOLATED, Outcome.HOLDS, Outcome.UNKNOWN)
    best = min(each, key=lambda verdict: (order.index(verdict.outcome), verdict.engine not in ENGINES, verdict.seconds))
    if best.outcome is Outcome.UNKNOWN and len(each) > 1:
        best = replace(best, reason="; ".join(f"{verdict.engine}: {verdict.reason}" for verdict in each))
        best = replace(best, engine=", ".join(names), seconds=max(verdict.seconds for verdict in each))
    answers = Answers(confirmed(query, best), tuple(each))
    if is_interrupted:
        raise InterruptedSearch(answers)
    return answers


def _in_order(query: Query, limits: Limits) -> Answers:
    """What ``auto`` answers."""
    deadline = time.monotonic() + limits.timeout
    alone = verify_alone(query, DEFAULT, replace(limits, timeout=min(ALONE, limits.timeout)))
    left = deadline - time.monotonic()
    if alone.outcome is not Outcome.UNKNOWN or left <= ANSWERING * limits.timeout:
        return Answers(alone, (alone,))
    others = ("bab", "milp", "smt") if alone.seconds >= ALONE else ("smt",)
    names = tuple(name for name in others if ENGINES[name].takes(query.region))
    if not names:
        return Answers(alone, (alone,))
    checkpoint = limits.checkpoint if "bab" in names else None
    together = answered(query, names, replace(limits, timeout=left, checkpoint=checkpoint))
    verdict = replace(together.verdict, seconds=alone.seconds + together.verdict.seconds)
    return Answers(verdict, (alone, *together.each))


def _asked(
    query: Query, solvers: Mapping[str, EngineInfo | ExternalTool], limits: Limits, wait_for_all: bool
) -> tuple[list[Verdict], bool]:
    """Every solver's verdict, and whether an interrupt stopped some. The first answer stops the others, if it may."""
    stop, is_interrupted = threading.Event(), False
    refusals: list[VeriflowError] = []

    def ask(name: str, chosen: EngineInfo | ExternalTool) -> Verdict:
        start = time.monotonic()
        if stop.is_set():
            return Verdict(Outcome.UNKNOWN, STOPPED, engine=name)
        _log.info("asking %s in a process of its own for %g s: %r", name, limits.timeout, query)
        try:
            if isinstance(chosen, ExternalTool):
                verdict = chosen.run(query, timeout=limits.timeout, memory=limits.memory, stop=stop)
            else:
                checkpoint = limits.checkpoint if chosen.keeps_checkpoints else None
                verdict = _in_a_process(query, chosen, replace(limits, checkpoint=checkpoint), stop)
        except OutOfTime:
            verdict = Verdict(Outcome.UNKNOWN, LATE)
        except SolverError as error:
            verdict = Verdict(Outcome.UNKNOWN, f"failed: {error}")
        except VeriflowError as error:
            refusals.append(error)
            verdict = Verdict(Outcome.UNKNOWN, f"cannot take the query: {error}")
        verdict = replace(verdict, engine=name, seconds=time.monotonic() - start)
        _log.info("%s: %s, %s (%.2f s)", name, verdict.outcome, verdict.reason, verdict.seconds)
        return verdict

    with ThreadPoolExecutor(max_workers=len(solvers)) as pool:
        futures: list[Future[Verdict]] = [pool.submit(ask, name, chosen) for name, chosen in solvers.items()]
        try:
            for future in as_completed(futures):
                if future.result().outcome is not Outcome.UNKNOWN and not wait_for_all:
                    stop.set()
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            stop.set()
    if len(refusals) == len(solvers):
        raise refusals[0]
    each = [future.result() for future in futures]
    if is_interrupted:
        each = [replace(one, reason="was interrupted") if one.reason == STOPPED else one for one in each]
    return each, is_interrupted


def _in_a_process(query: Query, engine: EngineInfo, limits: Limits, stop: threading.Event) -> Verdict:
    """An engine's verdict from a process of its own; its witness is replayed here once more, with the flow."""
    start, name = time.monotonic(), engine.name
    kept = [] if limits.checkpoint is None else [limits.checkpoint.resolve()]
    deadline, answering = start + limits.timeout, min(ANSWERING * limits.timeout, MOST_ANSWERING)
    with tempfile.TemporaryDirectory(prefix="veriflow-") as folder:
        path = Path(folder) / "query.npz"
        path.write_bytes(query_to_bytes(query))
        run = run_tool(
            [
                sys.executable,
                "-m",
                "verify.engines.worker",
                path,
                name,
                engine.registered_by,
                f"{deadline - answering!r}",
                *kept,
            ],
            timeout=max(deadline - time.monotonic(), 0.01),
            memory=limits.memory,
            folder=folder,
            stop=stop,
            environment={"PYTHONPATH": os.pathsep.join(part for part in sys.path if part), "OMP_NUM_THREADS": "1"},
        )
    if run.failure:
        return Verdict(Outcome.UNKNOWN, run.failure)
    try:
        answer = json.loads(run.output.strip().splitlines()[-1])
        if "error" in answer:
            raise SolverError(answer["error"])
        if "refusal" in answer:
            raise QueryError(answer["refusal"])
        outcome, reason, point = Outcome(answer["outcome"]), answer["reason"], answer["point"]
    except (json.JSONDecodeError, KeyError, IndexError, TypeError):
        raise SolverError(f"expected an answer of the engine {name!r}; got: {run.last_words}") from None
    if outcome is not Outcome.VIOLATED:
        return Verdict(outcome, reason, seconds=time.monotonic() - start)
    with until(deadline + answering):
        witness = replay(query, [Fraction(value) for value in point])
    if witness is None:
        raise SolverError(f"expected {name!r} to give a violation that replays; got one that does not")
    return Verdict(outcome, reason, witness)


def _compare(query: Query, each: Sequence[Verdict], evidence: Path) -> None:
    holds = [verdict for verdict in each if verdict.outcome is Outcome.HOLDS]
    violated = [verdict for verdict in each if verdict.outcome is Outcome.VIOLATED]
    if not (holds and violated):
        return
    claims = {verdict.engine: str(verdict.outcome) for verdict in each}
    saved = _evidence(query, claims, evidence)
    raise DisagreementError(
        f"expected solvers that agree; got that the property holds from {', '.join(v.engine for v in holds)}, and a "
        f"violation that replays from {', '.join(v.engine for v in violated)}; {saved}"
    )


def _evidence(query: Query, claims: dict[str, str], path: Path) -> str:
    """Write a bundle that shows the disagreement, and say where it is."""
    folder, number = path, 1
    while folder.exists():
        number += 1
        folder = path.with_name(f"{path.name}-{number}")
    try:
        write_bundle(folder, {"query": query}, extra={"query": {"claims": claims}})
    except VeriflowError as error:
        return f"no bundle could be written: {error}"
    return f"the query is in {str(folder)!r}"
