"""Branch and bound on boxes, for regions of few dimensions.

In a ball the search is radial: the violation of least norm, by splitting latent space into boxes, nearest to the centre
first. Open boxes are kept in order of their least norm, so the least among them is at any time a radius up to which the
property is proved, and the norm of the best replayed violation one at which it is refuted. A box goes when symbolic
bounds over (box ∩ ball of the best violation) exclude the violation, when it is no nearer than the best violation, or
when few unstable units are left and a small program decides it exactly.
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
from .box_domains import OpenBoxes, box_norms, narrowed
from .frontier import Arrays, OpenParts, numbers
from .search import LEAF_UNITS, MOST_PIECES, PieceSearch, is_out_of_reach, piece_of

Entry = tuple[Vector, Vector, Vector]

BATCH, MOST_ROWS = 256, 1 << 16
"""How many boxes are bounded at once, and at most so many constraints over boxes."""

FEW_DISJUNCTS, PRICE = 32, 16
"""So many disjuncts of a leaf are decided by programs at once, more of them when boxes by this factor more were bounded."""

BOXES, RADIAL = "boxes", "boxes by norm"
"""What the parts of both searches are."""


@dataclass
class RadialSearch:
    """Where a radial branch and bound stands.

    Attributes:
        proved: no violation has a smaller norm than this.
        refuted: norm of the best replayed violation, or infinity.
        witness: that violation.
        boxes: how many boxes were bounded.
        unsettled: least norm of a leaf in which a violation is only missed by less than the tolerance.
        settled: whether the search came to its end before the deadline.
        is_full: whether it ended because more boxes are open than it keeps.
        open: how many boxes are neither closed nor split.
        left: gives what was open when the search last told of itself.
    """

    proved: float
    refuted: float
    witness: Witness | None
    boxes: int = 0
    unsettled: float = math.inf
    settled: bool = False
    is_full: bool = False
    open: int = 0
    left: Callable[[], OpenParts] | None = field(default=None, repr=False)


def search_radially(
    query: Query,
    ball: Ball,
    start: Witness | None,
    *,
    gap: float,
    deadline: float,
    proved: float = 0.0,
    attack: RepeatedAttack | None = None,
    report: Callable[[RadialSearch], None] = lambda state: None,
    left: OpenParts | None = None,
) -> RadialSearch:
    """Find the violation of least norm in a ball, or prove that there is none.

    Ends when the relative gap between both radii is closed, or at ``deadline`` (a `time.monotonic` value); with an attack, at
    the first violation, which the attack goes on to look for as well. Nothing is looked for within the radius ``proved``,
    which an earlier search has settled. What that one has ``left`` open is all that this one looks at, unless it kept less
    than this one asks for: its violation, which is to be ``start`` then, was nearer, or its gap larger.
    `RadialSearch.proved` is the ball's radius where no violation is in it.

    Raises:
        StorageError: open parts that are not those of this query.
    """
    _, query = narrowed(query.at(ball))
    state = RadialSearch(proved, start.norm if start else math.inf, start)
    counter = itertools.count()

    def limit() -> float:
        return min(ball.radius, state.refuted * (1 - gap))

    if not query.violation:
        state.proved, state.settled = max(proved, limit()), True
        report(state)
        return state
    heap: list[tuple[float, int, Entry]] = []
    if left is None or left.number("limit") < limit() or left.number("within") > proved:
        reach = min(ball.radius, state.refuted)
        heap.append((0.0, next(counter), OpenBoxes.whole(query, replace(ball, radius=reach)).entries()[0]))
    else:
        state.boxes, state.unsettled = left.count("boxes"), left.number("unsettled")
        boxes = OpenBoxes.restored(left, RADIAL, query, ball)
        norms = box_norms(boxes.lower, boxes.upper, ball.p)[0].tolist()
        heap += [(norm, next(counter), entry) for norm, entry in zip(norms, boxes.entries(), strict=True)]
        heapq.heapify(heap)

    while True:
        nearest = heap[0][0] if heap else math.inf
        state.proved = max(state.proved, min(nearest, state.unsettled, limit()))
        state.open = len(heap)
        counts = numbers(boxes=state.boxes, unsettled=state.unsettled, limit=limit(), within=proved)
        state.left = partial(_left_by_norm, list(heap), query, ball, counts)
        report(state)
        state.is_full = len(heap) > MOST_PIECES
        late = state.is_full or time.monotonic() > deadline
        state.settled = min(nearest, state.unsettled) >= limit() or (state.unsettled <= nearest and not late)
        if attack and state.witness is None and not state.settled:
            state.witness = attack.after(state.boxes)
        if state.settled or late or (attack and state.witness is not None):
            return state
        taken = [heapq.heappop(heap) for _ in range(min(_batch(query), len(heap)))]
        near = [entry for entry in taken if entry[0] < limit()]
        state.boxes += len(near)
        within = replace(ball, radius=min(ball.radius, state.refuted))
        boxes = OpenBoxes.stacked([entry for _, _, entry in near])
        halves = _examine(query, boxes, within, state, limit, deadline)
        least, greatest = box_norms(halves.lower, halves.upper, ball.p)
        for norm, most, entry in zip(least.tolist(), greatest.tolist(), halves.entries(), strict=True):
            if norm < limit() and most > proved:
                heapq.heappush(heap, (norm, next(counter), entry))


def _batch(query: Query) -> int:
    """How many boxes to bound at once."""
    return max(1, min(BATCH, MOST_ROWS // max(1, len(query.arrays.conjunctions.bounds))))


def _is_worth(is_open: NDArray[np.bool_], boxes: int) -> NDArray[np.bool_]:
    """Whether to decide the open disjuncts ``[batch, disjuncts]`` of a leaf one by one, when so many boxes were bounded.

    Where they are many, halves of the box are likely to close most of them at once.
    """
    return np.asarray(is_open.sum(axis=1) <= max(FEW_DISJUNCTS, boxes // PRICE))


def _left_by_norm(heap: Sequence[tuple[float, int, Entry]], query: Query, ball: Ball, counts: Arrays) -> OpenParts:
    """Open boxes as arrays, in their order; their norms can be had from their ends."""
    return OpenParts(RADIAL, {**OpenBoxes.arrays([entry for _, _, entry in sorted(heap)], query, ball), **counts})


def _examine(
    query: Query, boxes: OpenBoxes, ball: Ball, state: RadialSearch, limit: Callable[[], float], deadline: float
) -> OpenBoxes:
    """Halves of the boxes that bounds do not settle; leaves are decided on the way and may improve the witness."""
    bounds, is_open, weights = boxes.examined(query, ball)
    unstable = bounds.unstable(query.graph)
    is_split: NDArray[np.bool_] = np.asarray(is_open.any(axis=1))
    is_worth = _is_worth(is_open, state.boxes)
    for place in np.flatnonzero(is_split & (unstable <= LEAF_UNITS)):
        inside = piece_of(bounds, int(place))
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
    """Least norm of a violation in a box by a small program; what the tolerance leaves open goes to ``unsettled``.

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


def search_box(
    query: Query,
    region: Region,
    attack: RepeatedAttack,
    *,
    deadline: float,
    report: Callable[[PieceSearch], None] = lambda state: None,
    left: OpenParts | None = None,
) -> PieceSearch:
    """Close every part of a region, or find a violation, or stop at ``deadline`` (a `time.monotonic` value).

    The parts made last come first, so that few of them are open at any time. It begins with what an earlier search of the
    same query has ``left`` open.

    Raises:
        StorageError: open parts that are not those of this query.
    """
    state = PieceSearch()
    _, query = narrowed(query)
    if not query.violation:
        return state
    batch = _batch(query)
    if left is None:
        stack = OpenBoxes.whole(query, region).entries()
    else:
        state.pieces, state.near_misses = left.count("pieces"), left.count("near_misses")
        stack = OpenBoxes.restored(left, BOXES, query, region).entries()
    while True:
        state.open = len(stack)
        state.left = partial(_left, stack, query, region, state.pieces, state.near_misses)
        report(state)
        is_over = state.witness is not None or state.is_full or state.is_vain or time.monotonic() >= deadline
        if not stack or is_over:
            return state
        taken, stack = stack[-batch:], stack[:-batch]
        state.pieces += len(taken)
        boxes = OpenBoxes.stacked(taken)
        bounds, is_open, weights = boxes.examined(query, region)
        is_left: NDArray[np.bool_] = np.asarray(is_open.any(axis=1))
        middles = torch.from_numpy((boxes.lower[is_left] + boxes.upper[is_left]) / 2)
        state.try_points(query, region.project(middles).numpy())
        is_worth = _is_worth(is_open, state.pieces)
        for place in np.flatnonzero(is_left & (bounds.unstable(query.graph) <= LEAF_UNITS)):
            inside = piece_of(bounds, int(place))
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
        state.witness = state.witness or (attack.after(state.pieces) if stack else None)


def _left(stack: Sequence[Entry], query: Query, region: Region, pieces: int, near_misses: int) -> OpenParts:
    """Open boxes as arrays, in their order."""
    arrays = OpenBoxes.arrays(stack, query, region)
    return OpenParts(BOXES, {**arrays, **numbers(pieces=pieces, near_misses=near_misses)})
