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

SPLITS, MOST_OPEN = 9, 256
"""How often `open_part` splits, and the number of open boxes at which it stops."""

FEW_DIMENSIONS = 16
"""In more dimensions a halved box is hardly smaller than it was; only L1 balls gain, by peeling."""


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
        region = self.region
        if not isinstance(region, Ball) or region.p != 1:
            return np.asarray(np.minimum(best, region.support(rows)))
        at_zero = np.where((low <= 0) & (high >= 0), 0.0, -np.inf)
        near, far = np.abs(low), np.abs(high)
        reach = np.maximum(near, far)
        rounding = (rows.shape[-1] + 8) * 2.0**-52
        size, extent = (np.abs(rows) * reach).sum(axis=-1), region.radius + reach.sum(axis=-1)

        def dual(slope: Vector) -> Vector:
            steep = slope[..., None]
            most = np.maximum(np.maximum(rows * low - steep * near, rows * high - steep * far), at_zero)
            value: Vector = slope * region.radius + most.sum(axis=-1) + rounding * (size + slope * extent)
            return value

        # the dual is convex in λ: a binary search over the sorted candidates for the first that is no better to leave
        slopes = np.sort(np.abs(rows), axis=-1)
        first, last = np.zeros(slopes.shape[:-1], dtype=int), np.full(slopes.shape[:-1], slopes.shape[-1] - 1)
        for _ in range(int(slopes.shape[-1] - 1).bit_length()):
            middle = (first + last) // 2
            here = dual(np.take_along_axis(slopes, middle[..., None], -1)[..., 0])
            above = np.minimum(middle + 1, last)
            beyond = dual(np.take_along_axis(slopes, above[..., None], -1)[..., 0])
            stay = here <= beyond
            first, last = np.where(stay, first, above), np.where(stay, middle, last)
        return np.minimum(best, dual(np.take_along_axis(slopes, first[..., None], -1)[..., 0]))


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


def split_boxes(lower: Vector, upper: Vector, weights: Vector, region: Region) -> tuple[Vector, Vector]:
    """Boxes that cover the part of the region in the given boxes ``[batch, dim]``: each is halved or peeled.

    A box is halved where its width times its weight ``[batch, dim]`` is largest. A cube around the centre of an L1 ball of
    many dimensions is peeled instead: at most k − 1 coordinates exceed r / k in magnitude, so the cube of half-width r / k
    is one child, and there is one slab for each end of each coordinate, in which the others share what is left of r.
    """
    peeled = np.zeros(len(lower), dtype=bool)
    if isinstance(region, Ball) and region.p == 1 and region.dim > FEW_DIMENSIONS:
        peeled = (lower == -upper).all(axis=1) & (upper == upper[:, :1]).all(axis=1)
    children = [_peel(float(cube[0]), region.radius, region.dim) for cube in upper[peeled] if isinstance(region, Ball)]
    lower, upper, weights = lower[~peeled], upper[~peeled], weights[~peeled]
    axes, places = np.argmax((upper - lower) * weights, axis=1), np.arange(len(lower))
    middle = (lower[places, axes] + upper[places, axes]) / 2
    low_ends, high_ends = upper.copy(), lower.copy()
    low_ends[places, axes] = high_ends[places, axes] = middle
    children += [(lower, low_ends), (high_ends, upper)]
    lower, upper = np.concatenate([c[0] for c in children]), np.concatenate([c[1] for c in children])
    if isinstance(region, Ball):
        least, greatest = box_norms(lower, upper, region.p)
        inside = (least <= region.radius) & (greatest >= region.inner)
        lower, upper = lower[inside], upper[inside]
    return lower, upper


def _peel(width: float, radius: float, dim: int) -> tuple[Vector, Vector]:
    """The inner cube of an L1 ball's cube of half-width ``width``, and the slabs around it: ``[1 + 2 dim, dim]``."""
    inner = min(radius / (round(radius / width) + 1), width / 1.1)
    others = min(width, float(np.nextafter(radius - inner, np.inf)))
    upper = np.full((1 + 2 * dim, dim), others)
    upper[0] = inner
    lower = -upper
    for axis in range(dim):
        lower[1 + axis, axis], upper[1 + axis, axis] = inner, width
        lower[1 + dim + axis, axis], upper[1 + dim + axis, axis] = -width, -inner
    return lower, upper


def open_part(query: Query) -> tuple[Bounds | None, list[bool]]:
    """Bounds over the part of the region that a violation can still be in, and which disjuncts stay open.

    The region's box is split again and again, and parts that bounds exclude are dropped. The hull of what is left has
    tighter bounds than the region. None where nothing is left: there is no violation.
    """
    region = query.region
    boxes = RegionBoxes(region.lower[None], region.upper[None], region)
    many = region.dim > FEW_DIMENSIONS
    splits = 0 if many and not (isinstance(region, Ball) and region.p == 1) else SPLITS
    for split in range(splits + 1):
        bounds = symbolic_bounds(query.graph, boxes)
        is_open, weights = open_disjuncts(query, boxes, bounds)
        left = is_open.any(axis=1)
        if not left.any():
            return None, [False] * is_open.shape[1]
        if split == splits or left.sum() > MOST_OPEN:
            break
        boxes = RegionBoxes(*split_boxes(boxes.lower[left], boxes.upper[left], weights[left], region), region)
    hull = Bounds(
        {name: values[left].min(axis=0) for name, values in bounds.lower.items()},
        {name: values[left].max(axis=0) for name, values in bounds.upper.items()},
    )
    return hull, [bool(column.any()) for column in is_open.T]
