"""The most probable counterexample, and how much probable mass is certified."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from veriflow.density.ball_mass import ball_mass
from veriflow.errors import QueryError, RegionError, SolverError
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.runtime.deadline import OutOfTime, until
from veriflow.runtime.threads import one_thread

from ..bab.box_split import RadialSearch
from ..bab.checkpoint import SearchFile
from ..bab.options import SearchOptions
from ..bab.search import MEMORY_FULL
from ..witness.interrupted import InterruptedSearch
from ..witness.onnx_replay import remark, with_runs
from ..witness.verdict import Witness
from .growing_balls import search_outwards

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certificate:
    """The radius up to which a property is proved, and the most probable violation.

    Attributes:
        property: the property in words.
        proved_radius: no violation has a smaller latent norm.
        refuted_radius: norm of the witness; infinity where there is none.
        certified_mass: mass of the ball of the proved radius, trimmed as the query's, rounded down: the property holds on that
            much.
        refuted_mass: mass of the ball of the refuted radius, rounded up; 1 where there is no witness.
        searched_mass: mass of the largest ball that was searched, rounded down.
        witness: the violation of least norm, up to the gap.
        complete: whether the search came to its end: the gap is closed, or the largest ball is proved.
        reason: how it ended, in a sentence.
        seconds: wall-clock time.
        boxes: how many boxes were bounded.
    """

    property: str
    proved_radius: float
    refuted_radius: float
    certified_mass: float
    refuted_mass: float
    searched_mass: float
    witness: Witness | None
    complete: bool
    reason: str
    seconds: float
    boxes: int


def certify(
    query: Query,
    *,
    gap: float = 1e-3,
    timeout: float = 60.0,
    checkpoint: Path | None = None,
    report: Callable[[RadialSearch], None] = lambda state: None,
) -> Certificate:
    """The smallest-norm violating latent in the query's ball, which is the most probable counterexample.

    An attack gives a first violation; branch and bound then proves balls of growing radius, up to its norm or the whole ball:
    bounds are tight only near the radius for which they are computed.

    Args:
        query: on a flow, over a ball: how far out to look.
        gap: relative difference of both radii at which the search ends.
        timeout: seconds; what is proved by then is reported.
        checkpoint: a file in which what is found out is kept, and from which a stopped search goes on.
        report: called with the state of the search now and then.

    Raises:
        QueryError: a query without a flow, or over a shell or a ball of another norm than the flow's.
        RegionError: a flow whose density does not decrease with the norm: its balls are not level sets.
        SolverError: a gap or time limit that is not positive.
        StorageError: a checkpoint that cannot be read or written.
        InterruptedSearch: Ctrl-C; it has the certificate that was reached.
        GraphError: a violation at which the network's file gives what no rounding of the exact outputs explains.
    """
    ball = query.region.ball
    if query.flow is None or ball is None or ball.inner:
        raise QueryError(f"expected a query on a flow over a ball; got {query.region}")
    if ball.p != query.flow.base.p:
        raise QueryError(f"expected a ball of the norm of the flow's base, {query.flow.base.p:g}; got {ball}")
    if not query.flow.base.law.is_decreasing:
        raise RegionError(
            "expected a flow whose density decreases with the latent norm; got one whose level sets are shells"
        )
    if not (timeout > 0 and 0 < gap < 1):
        raise SolverError(f"expected a positive time limit and a gap between 0 and 1; got {timeout} and {gap}")
    _log.info("searching outwards for %g s: %r", timeout, query)
    start = time.monotonic()
    file = None if checkpoint is None else SearchFile(checkpoint, query, task="certify")

    known = RadialSearch(0.0, math.inf, None)

    def keep(state: RadialSearch) -> None:
        known.proved, known.boxes = max(known.proved, state.proved), state.boxes
        if state.witness is not None and state.refuted < known.refuted:
            known.refuted, known.witness = state.refuted, state.witness
        report(state)
        if file is not None:
            file.keep(state)

    def certificate(state: RadialSearch, end: str) -> Certificate:
        found = _certificate(query, ball, state, gap, time.monotonic() - start, end)
        failure = "" if file is None else file.failure
        return replace(found, reason=f"{found.reason}; {failure}") if failure else found

    try:
        with one_thread(), until(start + timeout):
            options = SearchOptions(start + timeout, keep, None if file is None else file.frontier)
            state = search_outwards(query, ball, options, gap, None if file is None else file.witness)
            keep(state)
    except OutOfTime:
        state = known
    except KeyboardInterrupt:
        raise InterruptedSearch(certificate(known, "interrupted")) from None
    finally:
        if file is not None:
            file.write()
    return certificate(state, f"{MEMORY_FULL if state.is_full else f'time limit of {timeout:g} s'} reached")


def _certificate(query: Query, ball: Ball, state: RadialSearch, gap: float, seconds: float, end: str) -> Certificate:
    """The certificate of a search; ``end`` says why it ended where it is not complete."""
    complete = state.proved >= min(ball.radius, state.refuted * (1 - gap))
    if not complete:
        reason = "a near miss within the tolerance stays open" if state.settled else end
    elif state.witness is None:
        reason = "no violation in the whole ball"
    else:
        reason = f"both radii agree within {gap:g}"
    _log.info("proved to norm %g, refuted from %g: %s", state.proved, state.refuted, reason)
    witness = None if state.witness is None else with_runs(query, state.witness)
    if witness is not None:
        reason += remark(witness)
    return Certificate(
        query.text,
        state.proved,
        state.refuted,
        _masses(query, ball, state.proved)[0],
        _masses(query, ball, state.refuted)[1] if math.isfinite(state.refuted) else 1.0,
        _masses(query, ball, ball.radius)[0],
        witness,
        complete,
        reason,
        seconds,
        state.boxes,
    )


def _masses(query: Query, ball: Ball, radius: float) -> tuple[float, float]:
    """Lower and upper bound on the mass of the ball with another radius and the same limit."""
    assert query.flow is not None  # noqa: S101 - as checked
    value, error = ball_mass(query.flow.base, replace(ball, radius=radius))
    return max(value - error, 0.0), min(value + error, 1.0)
