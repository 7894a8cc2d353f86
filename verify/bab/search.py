"""What searches on boxes and on ReLUs share: their state, and the exact decision of small domains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from exporters import milp_model
from veriflow.numerics.arrays import Vector
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.region import Region
from veriflow.runtime.deadline import check_deadline

from ..programs.scaling import slack_tolerance
from ..programs.solve import solve_milp
from ..witness.attack import violation_slack
from ..witness.replay import replay
from ..witness.verdict import Witness
from .frontier import Frontier

MOST_DOMAINS = 400_000
"""Open domains at which a search gives up rather than fill the memory: each takes some kilobytes."""

MEMORY_FULL = f"the memory's limit of {MOST_DOMAINS} open pieces"
"""How a search ends that has more."""

LEAF_UNITS = 20
"""Unstable units up to which a domain is a leaf: decided by a mixed-integer program."""

ENOUGH_MISSES = 32
"""Near misses after which a search gives up: one of them already rules out HOLDS."""

INSIDE = 1 - 2.0**-30
"""A point of norm below this share of a shell's inner radius is in its hole, which rounding does not explain."""


@dataclass
class DomainSearch:
    """The state of a search over domains of a region.

    Attributes:
        domains: how many were bounded.
        open: how many are neither closed nor split.
        margin: the least proved margin among the open ones; None where they are not ordered by it.
        witness: a replayed violation, which ends the search.
        near_misses: number of leaves in which a violation is missed by less than the tolerance.
        frontier: gives the frontier at the last report.
    """

    domains: int = 0
    open: int = 0
    margin: float | None = None
    witness: Witness | None = None
    near_misses: int = 0
    frontier: Callable[[], Frontier] | None = field(default=None, repr=False)

    @property
    def gave_up(self) -> bool:
        """Whether the search ended for its many near misses."""
        return self.near_misses >= ENOUGH_MISSES

    @property
    def is_full(self) -> bool:
        """Whether there are more open domains than a search keeps."""
        return self.open > MOST_DOMAINS

    def try_points(self, query: Query, points: Vector) -> None:
        """Replay the best of some points ``[n, dim]``, if it looks like a violation."""
        if not len(points):
            return
        with torch.no_grad():
            slacks = violation_slack(query, evaluate(query.graph, torch.from_numpy(points))[query.graph.output])
        best = int(slacks.argmax())
        if slacks[best] >= 0:
            self.witness = replay(query, points[best].tolist())

    def decide_leaf(
        self,
        query: Query,
        bounds: Bounds,
        disjunct: tuple[Constraint, ...],
        deadline: float,
        *,
        is_halved: bool = False,
    ) -> bool:
        """Decide one disjunct in a leaf by a mixed-integer program; returns whether it stays open.

        It stays open where the deadline comes first. Programs cannot state the hole of an L2 shell, so that it is filled:
        no solution then means none in the shell. A solution in the hole leaves the leaf open where the search ``is_halved``
        boxes, for those in the hole are dropped; elsewhere it counts as a near miss.
        """
        check_deadline()
        tolerance = slack_tolerance(disjunct, bounds, query.graph)
        region = query.region.without_round_holes()
        model = milp_model(replace(query, region=region), bounds, disjunct, -tolerance)
        # where a shell is filled for good, the solution of the greatest slack is likely to be farther out than the first
        target = -10 * tolerance if is_halved or region == query.region else -math.inf
        left = deadline - time.monotonic()
        answer = solve_milp(model, (model.slack, -1.0), time_limit=left, target=target)
        if answer.status == "infeasible":
            return False
        if answer.solution is None:
            return True
        point = answer.solution[model.inputs]
        self.witness = replay(query, point.tolist())
        is_inside = self.witness is None and _is_inside(query.region, point)
        if is_inside:
            self.witness = replay(query, query.region.project(torch.from_numpy(point[None]))[0].tolist())
        if answer.found == math.inf or (is_inside and is_halved):
            return self.witness is None
        self.near_misses += self.witness is None
        return False


def is_out_of_reach(query: Query, bounds: Bounds, disjuncts: Sequence[tuple[Constraint, ...]], deadline: float) -> bool:
    """Whether one program excludes several disjuncts at once within bounds.

    It has the constraints that all of them imply: for every linear form that each disjunct bounds, the weakest bound.
    """
    asked = [{c.coefficients: c for c in row} for row in disjuncts]
    sums = [key for key in asked[0] if all(key in row for row in asked)]
    common = tuple(Constraint(key, min(row[key].bound for row in asked)) for key in sums)
    if not common:
        return False
    tolerance = slack_tolerance(common, bounds, query.graph)
    model = milp_model(replace(query, region=query.region.without_round_holes()), bounds, common, -tolerance)
    left = deadline - time.monotonic()
    return solve_milp(model, (model.slack, -1.0), time_limit=left, target=tolerance).status == "infeasible"


def _is_inside(region: Region, point: Vector) -> bool:
    """Whether a point is in the hole of an L2 shell, by more than rounding."""
    return any(
        part.p == 2 and float(np.linalg.norm(point[place])) < INSIDE * part.inner for place, part in region.placed_parts
    )


def domain_at(bounds: Bounds, place: int) -> Bounds:
    """The bounds of one domain of a stack; bounds without a batch dimension are shared by all."""
    lower, upper = (
        {name: v[place] if v.ndim > 1 else v for name, v in side.items()} for side in (bounds.lower, bounds.upper)
    )
    return Bounds(lower, upper)
