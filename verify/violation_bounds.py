"""How probable a violation is, by proof: certain bounds on its probability under the flow.

All of latent space but a sliver is a box. Boxes in it are split, the most probable first, until bounds say of each that
no point or that every point in it violates the property. The masses of boxes are exact (`veriflow.box_masses`), so what
surely violates is a lower bound on the probability, and all that is not surely safe an upper bound, at any time.
`violation_probability` counts samples instead: an estimate with a confidence, in any dimension.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from veriflow.bases import RadialBase
from veriflow.box_masses import RELATIVE_ERROR, box_masses
from veriflow.errors import SolverError
from veriflow.piecewise import Bounds, backward_rows
from veriflow.query import Query
from veriflow.regions import Box, float32_above
from veriflow.threads import one_thread

from .boxes import OpenBoxes, RegionBoxes, box_norms, conjunctions
from .violation_probability import base_of_inputs

Vector = NDArray[np.float64]

OUTSIDE = 1e-9
"""Mass that may lie outside of the outermost box; what is there counts as open."""

BATCH = 256
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
    if not (timeout > 0 and OUTSIDE < gap < 1 and proved_radius >= 0):
        raise SolverError(
            f"expected a positive time limit, a gap between {OUTSIDE:g} and 1, a radius that is not negative; "
            f"got {timeout}, {gap} and {proved_radius}"
        )
    start = time.monotonic()
    with one_thread():
        search = _Search.start(query, base, proved_radius)
        while True:
            search.sum_up()
            report(search.low, search.high)
            complete = search.high - search.low <= gap
            if complete or not search.heap or time.monotonic() > start + timeout:
                break
            search.step()
    late = f"time limit of {timeout:g} s reached" if search.heap else "nothing is left to split"
    reason = f"both bounds agree within {gap:g}" if complete else late
    seconds = time.monotonic() - start
    return ViolationBounds(search.low, search.high, complete, reason, seconds, search.boxes)


@dataclass
class _Search:
    """Open boxes with their masses, largest first, and the masses of what surely violates."""

    query: Query
    base: RadialBase
    region: Box
    proved_radius: float
    outside: float
    heap: list[tuple[float, int, tuple[Vector, Vector, Vector]]] = field(default_factory=list)
    violated: list[float] = field(default_factory=list)
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
        search.push(OpenBoxes.whole(query, region))
        return search

    def sum_up(self) -> None:
        """Bounds from the masses as they are now, rounded outward; older bounds that are better stay."""
        violated = math.fsum(self.violated)
        not_safe = math.fsum([violated, self.outside, *(-mass for mass, _, _ in self.heap)])
        not_safe = min(not_safe, float(self.base.law.sf(self.proved_radius)))
        self.low = max(self.low, violated * (1 - 2 * RELATIVE_ERROR) - _TINY)
        self.high = min(self.high, not_safe * (1 + 2 * RELATIVE_ERROR) + _TINY)

    def push(self, boxes: OpenBoxes) -> None:
        """Keep boxes that are not all within what is proved."""
        masses = box_masses(self.base, boxes.lower, boxes.upper).tolist()
        farthest = box_norms(boxes.lower, boxes.upper, self.base.p)[1].tolist()
        for mass, norm, entry in zip(masses, farthest, boxes.entries(), strict=True):
            if norm > self.proved_radius:
                heapq.heappush(self.heap, (-mass, next(self.counter), entry))

    def step(self) -> None:
        """Bound the most probable boxes, and halve those that bounds do not settle."""
        taken = [heapq.heappop(self.heap) for _ in range(min(BATCH, len(self.heap)))]
        self.boxes += len(taken)
        boxes = OpenBoxes.stacked([entry for _, _, entry in taken])
        bounds, is_open, weights = boxes.examined(self.query, self.region)
        possible = np.asarray(is_open.any(axis=1))
        certain = possible & surely_violated(self.query, RegionBoxes(boxes.lower, boxes.upper, self.region), bounds)
        self.violated += [-taken[place][0] for place in np.flatnonzero(certain)]
        self.push(boxes.halved(self.query, bounds, possible & ~certain, weights, self.region))


def surely_violated(query: Query, boxes: RegionBoxes, bounds: Bounds) -> NDArray[np.bool_]:
    """In which boxes ``[batch]`` one disjunct holds everywhere: each of its constraints does, with a margin.

    The margin is above what float64 loses of coefficients and bounds, so a strict comparison holds as well.
    """
    output, found = query.graph.output, conjunctions(query)
    least = backward_rows(query.graph, boxes, bounds, output, found.rows).lower
    size = np.abs(found.bounds) + bounds.magnitude(output) @ np.abs(found.rows).T
    certain = least - found.bounds > 1e-12 * size
    sure: NDArray[np.bool_] = np.zeros(len(boxes.lower), dtype=bool)
    for places in found.groups:
        sure |= certain[:, list(places)].all(axis=1)
    return sure
