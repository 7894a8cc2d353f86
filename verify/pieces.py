"""What both ways of splitting a region share: where a search stands, and the exact decision of a small piece."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from exporters import milp_model
from veriflow.piecewise import Bounds, evaluate
from veriflow.properties import Constraint
from veriflow.query import Query

from .attack import violation_slack
from .milp import solve_milp
from .milp_scaling import slack_tolerance
from .open_parts import OpenParts
from .replay import replay
from .verdict import Witness

MOST_PIECES = 400_000
"""Open pieces at which a search gives up rather than fill the memory: each takes some kilobytes."""


ENOUGH_MISSES = 32
"""Near misses after which a search ends: it can no longer prove anything, and no violation is next to so many."""


@dataclass
class PieceSearch:
    """Where a search over pieces of a region stands.

    Attributes:
        pieces: how many were bounded.
        open: how many are neither closed nor split.
        margin: the least proved margin among the open ones; None where they are not ordered by it.
        witness: a replayed violation, which ends the search.
        near_misses: leaves in which a violation is only missed by less than the tolerance.
        left: gives what was open when the search last told of itself.
    """

    pieces: int = 0
    open: int = 0
    margin: float | None = None
    witness: Witness | None = None
    near_misses: int = 0
    left: Callable[[], OpenParts] | None = field(default=None, repr=False)

    @property
    def is_vain(self) -> bool:
        """Whether so many near misses were met that there is no more to find."""
        return self.near_misses >= ENOUGH_MISSES

    @property
    def is_full(self) -> bool:
        """Whether there are more open pieces than a search keeps."""
        return self.open > MOST_PIECES

    def try_points(self, query: Query, points: NDArray[np.float64]) -> None:
        """Replay the best of some points ``[n, dim]``, if it looks like a violation."""
        if not len(points):
            return
        with torch.no_grad():
            slacks = violation_slack(
                query.violation, evaluate(query.graph, torch.from_numpy(points))[query.graph.output]
            )
        best = int(slacks.argmax())
        if slacks[best] >= 0:
            self.witness = replay(query, points[best].tolist())

    def decide_leaf(self, query: Query, bounds: Bounds, disjunct: tuple[Constraint, ...], deadline: float) -> bool:
        """Decide one disjunct where bounds leave few units unstable; whether the deadline left it open."""
        tolerance = slack_tolerance(disjunct, bounds, query.graph)
        model = milp_model(query, bounds, disjunct, -tolerance)
        left = deadline - time.monotonic()
        answer = solve_milp(model, (model.slack, -1.0), time_limit=left, target=-10 * tolerance)
        if answer.status == "infeasible":
            return False
        if answer.solution is None:
            return True
        self.witness = replay(query, answer.solution[model.inputs].tolist())
        if answer.found == math.inf:
            return self.witness is None
        self.near_misses += self.witness is None
        return False


def piece_of(bounds: Bounds, place: int) -> Bounds:
    """The bounds of one piece of a stack; those that all pieces share stay as they are."""
    lower, upper = (
        {name: v[place] if v.ndim > 1 else v for name, v in side.items()} for side in (bounds.lower, bounds.upper)
    )
    return Bounds(lower, upper)
