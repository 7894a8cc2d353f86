"""Branch and bound on boxes, for regions of few dimensions.

In a ball the search is radial: it looks for the violation of least norm, and bounds the open box of least norm first. That
norm is at any time a radius up to which the property is proved; the norm of the best replayed violation is one at which it
is refuted. A box is closed when symbolic bounds over (box ∩ ball up to the best violation) exclude the violation, when it is
no nearer than the best violation, or when few unstable units are left and a program decides it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from exporters import milp_model
from veriflow.numerics.arrays import Vector
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.region import Region
from veriflow.runtime.deadline import check_deadline

from ..programs.scaling import slack_tolerance
from ..programs.solve import solve_milp
from ..witness.attack import RepeatedAttack
from ..witness.replay import replay
from ..witness.verdict import Witness
from .box_domains import BoxDomains, box_norms, narrowed
from .frontier import Arrays, Frontier, numbers
from .options import SearchOptions
from .search import LEAF_UNITS, MOST_DOMAINS, DomainSearch, domain_at, is_out_of_reach

Entry = tuple[Vector, Vector, Vector]

BATCH, MOST_ROWS = 256, 1 << 16
"""Boxes that are bounded at once, and the largest product of boxes and constraints."""

FEW_DISJUNCTS, PRICE = 32, 16
"""A leaf is decided by programs, one per open disjunct, if there are at most max(FEW_DISJUNCTS, boxes bounded / PRICE)."""

BOXES, RADIAL = "boxes", "boxes by norm"
"""The kinds of domains of both searches."""


@dataclass
class RadialSearch:
    """The state of a radial branch and bound.

    Attributes:
        proved: no violation has a smaller norm than this.
        refuted: norm of the best replayed violation, or infinity.
        witness: that violation.
        boxes: how many boxes were bounded.
        unsettled: least norm of a leaf in which a violation is missed by less than the tolerance.
        settled: whether the search ended before its limits.
        is_full: whether it ended because more boxes are open than it keeps.
        open: how many boxes are neither closed nor split.
        frontier: gives the frontier at the last report.
    """

    proved: float
    refuted: float
    witness: Witness | None
    boxes: int = 0
    unsettled: float = math.inf
    settled: bool = False
    is_full: bool = False
    open: int = 0
    frontier: Callable[[], Frontier] | None = field(default=None, repr=False)


def search_radially(
    query: Query,
    ball: Ball,
    options: SearchOptions[RadialSearch],
    *,
    gap: float = 0.0,
    start: Witness | None = None,
    proved: float = 0.0,
    attack: RepeatedAttack | None = None,
) -> RadialSearch:
    """Find the violation of least norm in a ball, or prove that there is none.

    `RadialSearch.proved` is the ball's radius where no violation is in it. A frontier is taken up only if it was kept for a
    limit no smaller than this search's, and a proved radius no larger: otherwise domains of this search are missing in it.

    Args:
        query: what is asked.
        ball: where.
        options: deadline, report and frontier.
        gap: relative difference of both radii at which the search ends.
        start: a known violation.
        proved: a radius up to which an earlier search has proved the property; no box within it is bounded.
        attack: goes on between the rounds; the search then ends at the first violation.

    Raises:
        StorageError: a frontier that is not of this query.
    """
    _, query = narrowed(query.at(ball))
    state, frontier = RadialSearch(proved, start.norm if start else math.inf, start), options.frontier
    counter = itertools.count()

    def limit() -> float:
        return min(ball.radius, state.refuted * (1 - gap))

    if not query.violation:
        state.proved, state.settled = max(proved, limit()), True
        options.report(state)
        return state
    heap: list[tuple[float, int, Entry]] = []
    if frontier is None or frontier.number("limit") < limit() or frontier.number("within") > proved:
        reach = min(ball.radius, state.refuted)
        heap.append((0.0, next(counter), BoxDomains.whole(query, replace(ball, radius=reach)).entries()[0]))
    else:
        state.boxes, state.unsettled = frontier.count("boxes"), frontier.number("unsettled")
        boxes = BoxDomains.restored(frontier, RADIAL, query, ball)
        norms = box_norms(boxes.lower, boxes.upper, ball.p)[0].tolist()
        heap += [(norm, next(counter), entry) for norm, entry in zip(norms, boxes.entries(), strict=True)]
        heapq.heapify(heap)

    while True:
        nearest = heap[0][0] if heap else math.inf
        state.proved = max(state.proved, min(nearest, state.unsettled, limit()))
        state.open = len(heap)
        counts = numbers(boxes=state.boxes, unsettled=state.unsettled, limit=limit(), within=proved)
        state.frontier = partial(_frontier_by_norm, list(heap), query, ball, counts)
        options.report(state)
        state.is_full = len(heap) > MOST_DOMAINS
        late = state.is_full or time.monotonic() > options.deadline
        state.settled = min(nearest, state.unsettled) >= limit() or (state.unsettled <= nearest and not late)
        if attack and state.witness is None and not state.settled:
            state.witness = attack.after(state.boxes)
        if state.settled or late or (attack and state.witness is not None):
            return state
        taken = [heapq.heappop(heap) for _ in range(min(_batch(query), len(heap)))]
        near = [entry for entry in taken if entry[0] < limit()]
        state.boxes += len(near)
        within = replace(ball, radius=min(ball.radius, state.refuted))
        boxes = BoxDomains.stacked([entry for _, _, entry in near])
        halves = _examine(query, boxes, within, state, limit, options.deadline)
        least, greatest = box_norms(halves.lower, halves.upper, ball.p)
        for norm, most, entry in zip(least.tolist(), greatest.tolist(), halves.entries(), strict=True):
            if norm < limit() and most > proved:
                heapq.heappush(heap, (norm, next(counter), entry))


def _batch(query: Query) -> int:
    """How many boxes to bound at once."""
    return max(1, min(BATCH, MOST_ROWS // max(1, len(query.arrays.conjunctions.bounds))))


def _is_worth(is_open: NDArray[np.bool_], boxes: int) -> NDArray[np.bool_]:
    """Whether to decide the open disjuncts ``[batch, disjuncts]`` of each leaf one by one, after so many boxes.

    Where they are many, bounds over the halves of the box are likely to close most of them at once.
    """
    return np.asarray(is_open.sum(axis=1) <= max(FEW_DISJUNCTS, boxes // PRICE))


def _frontier_by_norm(heap: Sequence[tuple[float, int, Entry]], query: Query, ball: Ball, counts: Arrays) -> Frontier:
    """Open boxes as arrays, the least norm first."""
    return Frontier(RADIAL, {**BoxDomains.arrays([entry for _, _, entry in sorted(heap)], query, ball), **counts})


def _examine(
    query: Query, boxes: BoxDomains, ball: Ball, state: RadialSearch, limit: Callable[[], float], deadline: float
) -> BoxDomains:
    """Halves of the boxes that stay open; leaves are decided by programs, which may improve the witness."""
    bounds, is_open, weights = boxes.examined(query, ball)
    unstable = bounds.unstable(query.graph)
    is_split: NDArray[np.bool_] = np.asarray(is_open.any(axis=1))
    is_worth = _is_worth(is_open, state.boxes)
    for place in np.flatnonzero(is_split & (unstable <= LEAF_UNITS)):
        inside = domain_at(bounds, int(place))
        if not is_worth[place]:
            asked = list(itertools.compress(query.violation, is_open[place]))
            is_split[place] = not is_out_of_reach(query.at(ball), inside, asked, deadline)
            continue
        late = [
            _decide_leaf(query, ball, inside, disjunct, state, limit, deadline)
            for disjunct in itertools.compress(query.violation, is_open[place])
        ]
        is_split[place] = any(late)
    return boxes.halved(query, bounds, is_split, weights, ball)[0]


def _decide_leaf(
    query: Query,
    ball: Ball,
    bounds: Bounds,
    disjunct: tuple[Constraint, ...],
    state: RadialSearch,
    limit: Callable[[], float],
    deadline: float,
) -> bool:
    """Least norm of a violation in a box by a program; what the tolerance leaves open goes to ``unsettled``.

    Returns whether the deadline left it open.
    """
    check_deadline()
    tolerance = slack_tolerance(disjunct, bounds, query.graph)
    here = query.at(ball)
    model = milp_model(here, bounds, disjunct, -tolerance)
    answer = solve_milp(model, (model.norm, 1.0), time_limit=deadline - time.monotonic())
    if answer.proved >= limit() and (answer.status == "infeasible" or limit() < ball.radius):
        return False
    for slack in (tolerance, 0.0):
        model = milp_model(here, bounds, disjunct, slack)
        found = solve_milp(model, (model.norm, 1.0), time_limit=deadline - time.monotonic())
        witness = replay(query, found.solution[model.inputs].tolist()) if found.solution is not None else None
        if witness is not None:
            if witness.norm < state.refuted:
                state.refuted, state.witness = witness.norm, witness
            break
    if answer.proved < limit() or state.witness is None:
        if time.monotonic() > deadline:
            return True
        # on the sphere itself a violation is one: what the program leaves there is not proved
        state.unsettled = min(state.unsettled, answer.proved, math.nextafter(ball.radius, 0.0))
    return False


def search_box(query: Query, options: SearchOptions[DomainSearch], attack: RepeatedAttack) -> DomainSearch:
    """Close every box that covers the region, depth first, or find a violation, or stop at the deadline.

    Raises:
        StorageError: a frontier that is not of this query.
    """
    state, region, frontier, deadline = DomainSearch(), query.region, options.frontier, options.deadline
    _, query = narrowed(query)
    if not query.violation:
        return state
    batch = _batch(query)
    if frontier is None:
        stack = BoxDomains.whole(query, region).entries()
    else:
        state.domains, state.near_misses = frontier.count("pieces"), frontier.count("near_misses")
        stack = BoxDomains.restored(frontier, BOXES, query, region).entries()
    while True:
        state.open = len(stack)
        state.frontier = partial(_frontier, stack, query, region, state.domains, state.near_misses)
        options.report(state)
        is_over = state.witness is not None or state.is_full or state.gave_up or time.monotonic() >= deadline
        if not stack or is_over:
            return state
        taken, stack = stack[-batch:], stack[:-batch]
        state.domains += len(taken)
        boxes = BoxDomains.stacked(taken)
        bounds, is_open, weights = boxes.examined(query, region)
        is_left: NDArray[np.bool_] = np.asarray(is_open.any(axis=1))
        middles = torch.from_numpy((boxes.lower[is_left] + boxes.upper[is_left]) / 2)
        state.try_points(query, region.project(middles).numpy())
        is_worth = _is_worth(is_open, state.domains)
        for place in np.flatnonzero(is_left & (bounds.unstable(query.graph) <= LEAF_UNITS)):
            inside = domain_at(bounds, int(place))
            if not is_worth[place]:
                asked = list(itertools.compress(query.violation, is_open[place]))
                is_left[place] = not is_out_of_reach(query, inside, asked, deadline)
                continue
            stays = [
                state.decide_leaf(query, inside, disjunct, deadline, is_halved=True)
                for disjunct in itertools.compress(query.violation, is_open[place])
                if state.witness is None
            ]
            is_left[place] = any(stays)
            weights[place] = 1.0  # the halves of a leaf are to tell a shell from its inside
        stack += boxes.halved(query, bounds, is_left, weights, region)[0].entries()
        state.witness = state.witness or (attack.after(state.domains) if stack else None)


def _frontier(stack: Sequence[Entry], query: Query, region: Region, domains: int, near_misses: int) -> Frontier:
    """Open boxes as arrays, the last one first to be bounded."""
    arrays = BoxDomains.arrays(stack, query, region)
    return Frontier(BOXES, {**arrays, **numbers(pieces=domains, near_misses=near_misses)})
