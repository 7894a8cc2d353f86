"""How probable a violation is, by proof: certain bounds on its probability under the flow.

Branch and bound starts from a box that holds all but `OUTSIDE` of the mass, and splits the box of the most open mass. CROWN
bounds on a box are linear in the latent: beyond one hyperplane every point violates, beyond another every point is safe. The
masses of both parts have closed forms (`veriflow.density.box_masses`, `veriflow.density.halfspace_masses`). Their sums over
the boxes bound the probability of a violation from below and from above at any time.
`violation_probability` counts samples instead: an estimate with a confidence, in any dimension.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from veriflow.density.box_masses import RELATIVE_ERROR, box_masses
from veriflow.density.halfspace_masses import masses_beyond
from veriflow.density.radial import RadialBase
from veriflow.errors import SolverError
from veriflow.numerics.arrays import Vector
from veriflow.numerics.rounding import CONSTANTS
from veriflow.piecewise.bounds.crown import backward_rows
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.queries.query import Query
from veriflow.regions.box import Box
from veriflow.regions.float32 import float32_above
from veriflow.runtime.deadline import OutOfTime, check_deadline, until
from veriflow.runtime.threads import one_thread

from ..bab.box_domains import BoxDomains, RegionBoxes, box_norms
from .violation_probability import base_of_inputs

OUTSIDE = 1e-9
"""Mass that may lie outside of the outermost box; what is there counts as open."""

LEAST_GAP = 1e-7
"""The least gap that can be asked for, above `OUTSIDE` and the shares that are never split."""

BATCH = 128
_CLOSED = 1e-8  # a box with a smaller open share is not split: that share stays open
_TINY = 1e-280  # above all that underflow can lose in the masses of boxes


@dataclass(frozen=True)
class ViolationBounds:
    """The probability of a violation under the flow is certainly from ``low`` to ``high``.

    Attributes:
        low: mass that surely violates, rounded down.
        high: mass that is not surely safe, rounded up; 1 − ``high`` is surely safe.
        complete: whether both agree within the gap.
        reason: how the search ended, in a sentence.
        seconds: wall-clock time.
        boxes: how many boxes were bounded.
    """

    low: float
    high: float
    complete: bool
    reason: str
    seconds: float
    boxes: int

    @property
    def open_mass(self) -> float:
        """Mass that is neither surely safe nor surely violating, at most."""
        return self.high - self.low


def violation_bounds(
    query: Query,
    *,
    gap: float = 1e-3,
    timeout: float = 60.0,
    proved_radius: float = 0.0,
    report: Callable[[float, float], None] = lambda low, high: None,
) -> ViolationBounds:
    """Certain bounds on the probability that a latent of the flow's base violates the query's property.

    The query's region plays no part: the bounds are about the whole flow. Many dimensions leave the bounds wide, for the
    boxes that halving gives are many before they are small; what is known of a ball around the centre then helps.

    Args:
        query: on a flow, of which the latent alone is chosen.
        gap: difference of both bounds at which the search ends.
        timeout: seconds; the bounds at that time are reported.
        proved_radius: no violation has a smaller latent norm, as `Certificate.proved_radius` says; zero: nothing is known.
        report: called with both bounds now and then. They never get worse.

    Raises:
        QueryError: a query without a flow, or one that chooses more than the latent.
        RegionError: a base whose boxes have no masses in closed form.
        SolverError: a gap, time limit or radius that makes no sense.
    """
    base = base_of_inputs(query)
    if not (timeout > 0 and LEAST_GAP <= gap < 1 and proved_radius >= 0):
        raise SolverError(
            f"expected a positive time limit, a gap from {LEAST_GAP:g} to 1, a radius that is not negative; "
            f"got {timeout}, {gap} and {proved_radius}"
        )
    start = time.monotonic()
    complete, is_late = False, True
    search = _Search.start(query, base, proved_radius)
    with one_thread(), until(start + timeout), suppress(OutOfTime):
        while True:
            search.sum_up()
            report(search.low, search.high)
            complete = search.high - search.low <= gap
            if complete or not search.heap:
                is_late = False
                break
            check_deadline()
            search.step()
    late = f"time limit of {timeout:g} s reached" if is_late else "nothing is left to split"
    reason = f"both bounds agree within {gap:g}" if complete else late
    seconds = time.monotonic() - start
    return ViolationBounds(search.low, search.high, complete, reason, seconds, search.boxes)


@dataclass(frozen=True, eq=False)
class _Node:
    """A box that is partly settled, as its halves.

    Attributes:
        violated: mass in it that surely violates.
        halves: their ends and known bounds.
    """

    violated: float
    halves: list[tuple[Vector, Vector, Vector]]


@dataclass
class _Search:
    """Boxes that are partly open, the one with most open mass first, and the mass of violations in all others."""

    query: Query
    base: RadialBase
    region: Box
    proved_radius: float
    outside: float
    heap: list[tuple[float, int, _Node]] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    boxes: int = 0
    low: float = 0.0
    high: float = 1.0
    counter: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def start(cls, query: Query, base: RadialBase, proved_radius: float) -> _Search:
        reach = float32_above(float(base.law.upper_quantile(OUTSIDE)))
        region = Box(np.full(base.dim, -reach), np.full(base.dim, reach))
        # the box holds the ball of norm p and radius `reach`, whatever p is
        search = cls(query, base, region, proved_radius, float(base.law.sf(reach)))
        whole = BoxDomains.whole(query, region)
        search.heap.append((-float(box_masses(base, whole.lower, whole.upper)[0]), 0, _Node(0.0, whole.entries())))
        return search

    def sum_up(self) -> None:
        """Bounds from the masses as they are now, rounded outward; older bounds that are better stay."""
        violated = math.fsum([*self.settled, *(node.violated for _, _, node in self.heap)])
        not_safe = math.fsum([violated, self.outside, *(-mass for mass, _, _ in self.heap)])
        not_safe = min(not_safe, float(self.base.law.sf(self.proved_radius)))
        self.low = max(self.low, violated * (1 - 4 * RELATIVE_ERROR) - _TINY)
        self.high = min(self.high, not_safe * (1 + 4 * RELATIVE_ERROR) + _TINY)

    def step(self) -> None:
        """Bound the halves of the boxes with most open mass, and halve those that bounds do not settle."""
        taken = [heapq.heappop(self.heap)[-1] for _ in range(min(BATCH, len(self.heap)))]
        halves = BoxDomains.stacked(list(itertools.chain(*(node.halves for node in taken))))
        far = box_norms(halves.lower, halves.upper, self.base.p)[1] > self.proved_radius
        if not far.any():
            return
        boxes = BoxDomains(halves.lower[far], halves.upper[far], halves.known[far])
        self.boxes += len(boxes.lower)
        bounds, is_open, weights = boxes.examined(self.query, self.region)
        masses = box_masses(self.base, boxes.lower, boxes.upper)
        possible = np.asarray(is_open.any(axis=1))
        violated, open_mass = self.parted(boxes, bounds, masses)
        violated[~possible] = open_mass[~possible] = 0.0
        split: NDArray[np.bool_] = open_mass > _CLOSED * masses
        self.settled += violated[~split].tolist()
        self.outside += float(open_mass[~split].sum())
        parts, parents = boxes.halved(self.query, bounds, split, weights, self.region)
        children: dict[int, list[tuple[Vector, Vector, Vector]]] = {}
        for parent, entry in zip(parents.tolist(), parts.entries(), strict=True):
            children.setdefault(parent, []).append(entry)
        for place, index in enumerate(np.flatnonzero(split)):
            node = _Node(float(violated[index]), children[place])
            heapq.heappush(self.heap, (-float(open_mass[index]), next(self.counter), node))

    def parted(self, boxes: BoxDomains, bounds: Bounds, masses: Vector) -> tuple[Vector, Vector]:
        """How much of each box ``[batch]`` surely violates, at least, and how much is open, at most.

        A margin above what float64 loses of coefficients and bounds lets strict comparisons hold as well. Differences of
        masses are taken with what these may be off by, in relation to the box.
        """
        output, found = self.query.graph.output, self.query.arrays.conjunctions
        count = len(found.rows)
        within = RegionBoxes(boxes.lower, boxes.upper, self.region)
        both = backward_rows(self.query.graph, within, bounds, output, np.vstack([found.rows, -found.rows]))
        size = np.abs(found.bounds) + bounds.magnitude(output) @ np.abs(found.rows).T
        levels = np.hstack([found.bounds, -found.bounds]) - both.lower + CONSTANTS * np.hstack([size, size])
        beyond = masses_beyond(self.base, boxes.lower, boxes.upper, both.coefficients, levels)
        error = 4 * RELATIVE_ERROR * masses
        violated, unsafe = np.zeros(len(masses)), np.zeros(len(masses))
        for places in map(list, found.groups):
            met = beyond[:, places].sum(axis=1) - (len(places) - 1) * (masses + error)
            met = np.where((levels[:, places] <= 0).all(axis=1), masses, met)
            violated = np.maximum(violated, met)
            kept = masses - beyond[:, count:][:, places].max(axis=1, initial=0.0)
            unsafe = unsafe + np.where(kept < masses, kept + error, masses)
        return violated, np.maximum(np.minimum(unsafe, masses) - violated, 0.0)
