"""Parts of a region: stacks of boxes in it, their bounds, and what these leave open of a violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriflow.piecewise import Bounds, backward_rows, symbolic_bounds
from veriflow.properties import Constraint
from veriflow.query import Query
from veriflow.regions import Ball, Region

Vector = NDArray[np.float64]

SPLITS, FEW_DIMENSIONS = 9, 16
"""How often `open_part` halves every box, and in how many dimensions at most: in more, halves are hardly smaller."""


@dataclass(frozen=True, eq=False)
class RegionBoxes:
    """A stack of boxes ``[batch, dim]``, each meant together with one region."""

    lower: Vector
    upper: Vector
    region: Region

    def support(self, rows: Vector) -> Vector:
        """Upper bounds on a·z for rows ``[batch, n, dim]``; exact up to rounding for an L1 ball, else the better of both.

        For every λ ≥ 0, max { a·z : l ≤ z ≤ u, ‖z‖₁ ≤ r } ≤ λ r + Σ max over [l, u] of (a z − λ |z|), by weak duality, and
        the least of these bounds is at some λ = |a_i| or at 0.
        """
        low, high = self.lower[:, None, :], self.upper[:, None, :]
        best: Vector = np.maximum(rows * low, rows * high).sum(axis=-1)
        if not isinstance(self.region, Ball) or self.region.p != 1:
            return np.asarray(np.minimum(best, self.region.support(rows)))
        centre = np.where((low <= 0) & (high >= 0), 0.0, -np.inf)  # the value at zero, where the interval has it
        near, far = np.abs(low), np.abs(high)
        reach = np.maximum(near, far)
        rounding = (rows.shape[-1] + 8) * 2.0**-52
        size = (np.abs(rows) * reach).sum(axis=-1)
        for i in range(rows.shape[-1]):
            slope = np.abs(rows[..., i : i + 1])
            most = np.maximum(np.maximum(rows * low - slope * near, rows * high - slope * far), centre)
            error = rounding * (size + slope[..., 0] * (self.region.radius + reach.sum(axis=-1)))
            best = np.minimum(best, slope[..., 0] * self.region.radius + most.sum(axis=-1) + error)
        return best


def box_norms(lower: Vector, upper: Vector, p: float) -> tuple[Vector, Vector]:
    """The least p-norm in each box ``[batch, dim]``, rounded down, and the greatest, rounded up."""
    rounding = (lower.shape[-1] + 8) * 2.0**-52
    nearest, farthest = np.maximum(np.maximum(lower, -upper), 0.0), np.maximum(-lower, upper)
    least, greatest = np.linalg.norm(nearest, ord=p, axis=-1), np.linalg.norm(farthest, ord=p, axis=-1)
    return np.asarray(least * (1 - rounding)), np.asarray(greatest * (1 + rounding))


def constraint_rows(constraints: Sequence[Constraint], outputs: int) -> tuple[Vector, Vector]:
    """Coefficients ``[n, outputs]`` and bounds ``[n]`` of constraints, in float64."""
    rows = np.zeros((len(constraints), outputs))
    for place, constraint in enumerate(constraints):
        for index, coefficient in constraint.coefficients:
            rows[place, index] = float(coefficient)
    return rows, np.array([float(constraint.bound) for constraint in constraints])


def open_disjuncts(query: Query, boxes: RegionBoxes, bounds: Bounds) -> tuple[NDArray[np.bool_], Vector]:
    """Which disjuncts ``[batch, disjuncts]`` bounds leave open, and how much each latent matters to them ``[batch, dim]``."""
    output = query.graph.output
    constraints = [constraint for row in query.violation for constraint in row]
    rows, bound = constraint_rows(constraints, query.graph.output_size)
    least, coefficients = backward_rows(query.graph, boxes, bounds, output, -rows)
    possible = -least - bound >= -1e-12 * (np.abs(bound) + bounds.magnitude(output) @ np.abs(rows).T)
    ends = np.cumsum([len(row) for row in query.violation])
    groups = np.split(np.arange(len(constraints)), ends[:-1])
    is_open = np.stack([possible[:, group].all(axis=1) for group in groups], axis=1)
    return is_open, np.abs(coefficients).sum(axis=1)


def open_part(query: Query) -> tuple[Bounds | None, list[bool]]:
    """Bounds over the part of the region that a violation can still be in, and which disjuncts stay open.

    The region's box is halved again and again, each time in the coordinate that matters most; parts that bounds exclude
    are dropped. The hull of what is left has tighter bounds than the region, the fewer the dimensions the more so. None
    where nothing is left: there is no violation.
    """
    region = query.region
    boxes = RegionBoxes(region.lower[None], region.upper[None], region)
    splits = SPLITS if region.dim <= FEW_DIMENSIONS else 0
    for split in range(splits + 1):
        bounds = symbolic_bounds(query.graph, boxes)
        is_open, weights = open_disjuncts(query, boxes, bounds)
        left = is_open.any(axis=1)
        if not left.any():
            return None, [False] * is_open.shape[1]
        lower, upper = boxes.lower[left], boxes.upper[left]
        if split == splits:
            break
        axes = np.argmax((upper - lower) * weights[left], axis=1)
        places = np.arange(len(lower))
        middle = (lower[places, axes] + upper[places, axes]) / 2
        low_ends, high_ends = upper.copy(), lower.copy()
        low_ends[places, axes] = high_ends[places, axes] = middle
        lower, upper = np.concatenate([lower, high_ends]), np.concatenate([low_ends, upper])
        if isinstance(region, Ball):
            least, greatest = box_norms(lower, upper, region.p)
            inside = (least <= region.radius) & (greatest >= region.inner)
            lower, upper = lower[inside], upper[inside]
        boxes = RegionBoxes(lower, upper, region)
    hull = Bounds(
        {name: values[left].min(axis=0) for name, values in bounds.lower.items()},
        {name: values[left].max(axis=0) for name, values in bounds.upper.items()},
    )
    return hull, [bool(column.any()) for column in is_open.T]
