"""The most probable counterexample, and how much probable mass is certified."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from veriflow.density.ball_mass import ball_mass
from veriflow.errors import QueryError, RegionError, SolverError
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.runtime.deadline import OutOfTime, until
from veriflow.runtime.threads import one_thread

from ..bab.box_domains import FEW_DIMENSIONS
from ..bab.box_split import RadialSearch, search_radially
from ..bab.checkpoint import SearchFile
from ..bab.frontier import OpenParts, numbers
from ..bab.relu_split import search_splits
from ..bab.search import PieceSearch
from ..engines.bab import FULL
from ..witness.attack import drawn_in, nearest_violation
from ..witness.interrupted import InterruptedSearch
from ..witness.onnx_replay import remark, with_runs
from ..witness.verdict import Witness
from .local_search import polished

_log = logging.getLogger(__name__)

GROWTH, STAGES = 1.5, 13
"""Factor between the radii of successive searches, and how many there are: bounds are tight only near their radius."""


@dataclass(frozen=True)
class Certificate:
    """How far out a property is proved, and the most probable violation.

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

    An attack gives a first violation; the search then proves balls that grow up to its norm (or up to the whole ball),
    since bounds are tight only near the radius that they are made for.

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

    def tell(state: RadialSearch) -> None:
        known.proved, known.boxes = max(known.proved, state.proved), state.boxes
        if state.witness is not None and state.refuted < known.refuted:
            known.refuted, known.witness = state.refuted, state.witness
        report(state)
        if file is not None:
            file.keep(state)

    def certificate(state: RadialSearch, end: str) -> Certificate:
        return _certificate(
            query, ball, state, gap, time.monotonic() - start, end, "" if file is None else file.failure
        )

    try:
        with one_thread(), until(start + timeout):
            state = _search(query, ball, file, gap, start + timeout, tell)
            tell(state)
    except OutOfTime:
        state = known
    except KeyboardInterrupt:
        raise InterruptedSearch(certificate(known, "interrupted")) from None
    finally:
        if file is not None:
            file.write()
    return certificate(state, f"{FULL if state.is_full else f'time limit of {timeout:g} s'} reached")


def _certificate(
    query: Query, ball: Ball, state: RadialSearch, gap: float, seconds: float, end: str, failure: str
) -> Certificate:
    """What a search that came to its end, or to this ``end``, has found."""
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
        f"{reason}; {failure}" if failure else reason,
        seconds,
        state.boxes,
    )


def _masses(query: Query, ball: Ball, radius: float) -> tuple[float, float]:
    """Mass of the ball with another radius, but the same limit: not above the truth, and not below it."""
    assert query.flow is not None  # noqa: S101 - as checked
    value, error = ball_mass(query.flow.base, replace(ball, radius=radius))
    return max(value - error, 0.0), min(value + error, 1.0)


def _kept(radius: float, proved: float, left: Callable[[], OpenParts] | None) -> OpenParts:
    """What is open in the ball of a radius, and the radius that is proved."""
    way, arrays = "", {}
    if left is not None:
        found = left()
        way, arrays = found.way, dict(found.arrays)
    return OpenParts(way, {**arrays, **numbers(radius=radius, proved=proved)})


def _search(
    query: Query,
    ball: Ball,
    file: SearchFile | None,
    gap: float,
    deadline: float,
    report: Callable[[RadialSearch], None],
) -> RadialSearch:
    """Both radii, from what the file knows on."""
    proved, begun, left = 0.0, 0.0, None
    if file is not None and file.left is not None:
        proved, begun = min(file.left.number("proved"), ball.radius), file.left.number("radius")
        left = file.left if file.left.way and begun > proved else None
    known = None if file is None else file.witness
    report(RadialSearch(proved, known.norm if known else math.inf, known))
    witness = known or nearest_violation(query, ball)
    state = RadialSearch(proved, witness.norm if witness else math.inf, witness)
    report(state)
    if ball.dim > FEW_DIMENSIONS and query.graph.relus:
        return _grow_balls(query, ball, state, gap, deadline, report, begun, left)
    outermost = min(ball.radius, state.refuted)
    radii = [outermost / GROWTH**stage for stage in reversed(range(STAGES))]
    if left is not None:
        radii = [begun, *(radius for radius in radii if radius > begun)]
    boxes = 0

    def tell(state: RadialSearch) -> None:
        state.left = partial(_kept, radius, state.proved, state.left)
        report(state)

    for radius in radii:
        if radius <= proved and radius < outermost:
            continue
        inner = replace(ball, radius=radius)
        start = witness if radius >= outermost else None
        state = search_radially(query, inner, start, gap=gap, deadline=deadline, proved=proved, report=tell, left=left)
        state.boxes, left = boxes + state.boxes, None
        boxes = state.boxes
        if state.witness is not None or state.proved < radius:
            break
        proved = state.proved
    if witness is not None and witness.norm < state.refuted:
        state.refuted, state.witness = witness.norm, witness
    return state


def _grow_balls(
    query: Query,
    ball: Ball,
    state: RadialSearch,
    gap: float,
    deadline: float,
    report: Callable[[RadialSearch], None],
    begun: float = 0.0,
    left: OpenParts | None = None,
) -> RadialSearch:
    """Decide balls that grow, or shrink where one is too hard; each gets half of the time that is left.

    The first violation is polished before the ball that reaches it is asked for, which is the hardest. A ball that was
    ``begun``, with parts ``left`` open, comes first, unless a violation in it is known.
    """
    limit, too_hard = min(ball.radius, state.refuted * (1 - gap)), math.inf
    radius, is_polished = min(limit, max(state.proved * GROWTH, limit / GROWTH**4)), False
    if left is not None and begun <= replace(ball, radius=limit).rounded_outward().radius:
        radius = min(begun, limit)
    while state.proved < limit and too_hard > state.proved * (1 + gap) and time.monotonic() < deadline:
        if state.witness is not None and not is_polished and radius * GROWTH > limit:
            state.witness = polished(query, state.witness, deadline=(3 * time.monotonic() + deadline) / 4)
            state.refuted, is_polished = state.witness.norm, True
            limit = state.refuted * (1 - gap)
            radius = min(radius, limit)
        report(state)
        inner = replace(ball, radius=radius).rounded_outward()
        here = query.at(inner)
        before = state.boxes

        def tell(found: PieceSearch, before: int = before, radius: float = inner.radius) -> None:
            state.boxes, state.open = before + found.pieces, found.open
            if found.witness is None:  # parts may be closed that hold the violation
                state.left = partial(_kept, radius, state.proved, found.left)
            report(state)

        half = (time.monotonic() + deadline) / 2
        found = search_splits(here, deadline=half, report=tell, left=left if inner.radius == begun else None)
        state.boxes, left = before + found.pieces, None
        if found.witness is not None:
            state.witness = drawn_in(here, found.witness)
            state.refuted, is_polished = state.witness.norm, False
            limit = state.refuted * (1 - gap)
        elif found.open or found.near_misses:
            too_hard = radius
        else:
            state.proved = inner.radius
            state.left = partial(_kept, inner.radius, state.proved, None)
        if too_hard > limit:
            radius = min(limit, max(state.proved * GROWTH, limit / GROWTH**4))
        else:
            radius = math.sqrt(too_hard * max(state.proved, too_hard / GROWTH**4))
    return state
