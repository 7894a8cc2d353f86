"""Boxes of a region as domains: their symbolic bounds, and the disjuncts that these leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Indices, Vector
from veriflow.numerics.rounding import CONSTANTS, UNDERFLOW_OF_NORMS, gamma
from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.crown import backward_rows, symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds, LinearBounds, Regions
from veriflow.queries.query import Query
from veriflow.regions.region import Region

from .frontier import Arrays, Frontier, misfit

SPLITS, MOST_OPEN = 9, 256
"""Rounds of splits in `violation_hull`, and the number of open boxes at which it stops."""

FEW_DIMENSIONS = 8
"""Dimensions up to which boxes are split; in more, halving one coordinate gains little, and ReLUs are split instead."""

FEW_BOXES = 32
"""Boxes are halved until there are this many: fewer take hardly less time to bound."""

ROUND_STEPS = 8
"""Steps of the bisection for the dual multiplier of an L2 ball."""


@dataclass(frozen=True, eq=False)
class RegionBoxes:
    """Intersections of one region with a stack of boxes ``[batch, dim]``, which lie within the limit of a trimmed ball."""

    lower: Vector
    upper: Vector
    region: Region

    def farthest(self, rows: Vector) -> Vector:
        """For each row, the corner of its box or the vertex of the ball that bounds a·z better, ``[batch, n, dim]``."""
        region, *others = self.region.parts
        if others:
            return np.concatenate([part.farthest(rows[..., place]) for place, part in self.parts()], axis=-1)
        corner = np.where(rows > 0, self.upper[:, None, :], self.lower[:, None, :])
        if region.p == np.inf:  # the box lies within
            return corner
        vertex = region.farthest(rows)
        nearer = (rows * corner).sum(axis=-1) <= (rows * vertex).sum(axis=-1)
        return np.where(nearer[..., None], corner, vertex)

    @property
    def vertices(self) -> Vector | None:
        """None: `support` is tighter than a bound by vertices."""
        return None

    @property
    def shares(self) -> None:
        """None, as there are no vertices."""
        return None

    def parts(self) -> list[tuple[slice, RegionBoxes]]:
        """The boxes in each part of a product, each with its place among the coordinates."""
        return [
            (place, RegionBoxes(self.lower[:, place], self.upper[:, place], part))
            for place, part in self.region.placed_parts
        ]

    def support(self, rows: Vector) -> Vector:
        """Upper bounds on a·z for rows ``[batch, n, dim]``; exact up to rounding for an L1 ball, close for an L2 ball.

        For every λ ≥ 0, max { a·z : l ≤ z ≤ u, ‖z‖₁ ≤ r } ≤ λ r + Σ max over [l, u] of (a z − λ |z|), by weak duality, and
        the least of these bounds is at some λ = |a_i| or at 0.
        """
        region, *others = self.region.parts
        if others:
            return np.asarray(sum(part.support(rows[..., place]) for place, part in self.parts()))
        low, high = self.lower[:, None, :], self.upper[:, None, :]
        best: Vector = np.maximum(rows * low, rows * high).sum(axis=-1)
        if region.p == 2:
            best = np.minimum(best, _round_support(rows, low, high, region.radius))
        if region.p != 1:
            return np.asarray(np.minimum(best, region.support(rows)))
        at_zero = np.where((low <= 0) & (high >= 0), 0.0, -np.inf)
        near, far = np.abs(low), np.abs(high)
        reach = np.maximum(near, far)
        rounding = gamma(rows.shape[-1])
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


def _round_support(rows: Vector, low: Vector, high: Vector, radius: float) -> Vector:
    """Upper bounds ``[batch, n]`` on max { a·z : low ≤ z ≤ high, ‖z‖₂ ≤ radius } by weak duality, close to the least of them.

    For every λ > 0 it is at most λ r² + Σ max over [low, high] of (a z − λ z²), attained at a / 2λ, clipped. The norm of this
    falls with λ; a bisection looks for the λ at which it is the radius. What overflows is no number, and passed over.
    """
    rounding = gamma(rows.shape[-1] + 4)
    reach = np.maximum(np.abs(low), np.abs(high))
    size, extent = (np.abs(rows) * reach).sum(axis=-1), radius**2 + (reach**2).sum(axis=-1)
    start = np.maximum(np.linalg.norm(rows, axis=-1), 1e-150) / (2 * max(radius, 1e-150))
    best, exponent = np.full(start.shape, np.inf), np.zeros(start.shape)
    for halvings in range(ROUND_STEPS):
        slope = start * np.exp2(exponent)
        z = np.clip(rows / (2 * slope[..., None]), low, high)
        room = radius**2 - (z**2).sum(axis=-1)
        best = np.fmin(best, slope * room + (rows * z).sum(axis=-1) + rounding * (size + slope * extent))
        exponent -= np.sign(room) * 4 * 2.0**-halvings
    return best


def box_norms(lower: Vector, upper: Vector, p: float) -> tuple[Vector, Vector]:
    """The least p-norm in each box ``[batch, dim]``, rounded down, and the greatest, rounded up."""
    rounding = gamma(lower.shape[-1])
    nearest, farthest = np.maximum(np.maximum(lower, -upper), 0.0), np.maximum(-lower, upper)
    least, greatest = np.linalg.norm(nearest, ord=p, axis=-1), np.linalg.norm(farthest, ord=p, axis=-1)
    least, greatest = least * (1 - rounding) - UNDERFLOW_OF_NORMS, greatest * (1 + rounding) + UNDERFLOW_OF_NORMS
    return np.maximum(least, 0.0), np.asarray(greatest)


def open_disjuncts(query: Query, regions: Regions, bounds: Bounds) -> tuple[Vector, LinearBounds, NDArray[np.bool_]]:
    """The disjuncts that bounds over regions leave open.

    Returns upper bounds on each disjunct's least slack ``[..., disjuncts]``, below zero where it is excluded; the backward pass
    over all distinct constraints; and which of these are in open disjuncts and not excluded themselves ``[..., n]``.
    """
    output, found = query.graph.output, query.arrays.conjunctions
    ended = backward_rows(query.graph, regions, bounds, output, -found.rows)
    slacks = -ended.lower - found.bounds
    slacks = slacks + CONSTANTS * (np.abs(found.bounds) + bounds.magnitude(output) @ np.abs(found.rows).T)
    slacks = np.where(np.isnan(slacks), np.inf, slacks)  # so that NaN excludes nothing
    most = found.least(slacks)
    return most, ended, (slacks >= 0) & ((most >= 0).astype(np.float64) @ found.incidence > 0)


def nearest_first(query: Query) -> tuple[Bounds, Indices]:
    """Symbolic bounds over the region, and the places of the disjuncts that they leave open, that of the most slack first.

    One backward pass serves all disjuncts.
    """
    bounds = symbolic_bounds(query.graph, query.region)
    most, _, _ = open_disjuncts(query, query.region, bounds)
    order = np.argsort(-most, kind="stable")
    return bounds, order[most[order] >= 0]


def narrowed(query: Query) -> tuple[Bounds, Query]:
    """The query with the disjuncts of `nearest_first` alone, and its bounds."""
    bounds, places = nearest_first(query)
    return bounds, replace(query, violation=tuple(query.violation[place] for place in places))


def _split_weights(query: Query, bounds: Bounds, ended: LinearBounds, asked: NDArray[np.bool_]) -> Vector:
    """How much the bounds on the asked rows gain per unit of width that a coordinate loses, ``[batch, dim]``, estimated.

    The sum of two effects: the coefficients of the rows' own linear bounds, and for each unstable unit the loss by its upper
    line, relative to the width of its interval, times the coefficients of the unit's own bounds. The second matters
    for coordinates that cancel in the output.
    """
    weights = (np.abs(ended.coefficients) * asked[..., None]).sum(axis=1)
    for relu in query.graph.relus:
        low, high = bounds.lower[relu.input], bounds.upper[relu.input]
        unstable = (low < 0) & (high > 0)
        losses = (ended.losses[relu.output] * asked[..., None]).sum(axis=1)
        shares = np.where(unstable, losses / np.where(unstable, high - low, 1.0), 0.0)
        weights = weights + (shares[:, None, :] @ bounds.slopes[relu.input])[:, 0]
    return np.asarray(weights)


def split_boxes(lower: Vector, upper: Vector, weights: Vector, region: Region) -> tuple[Vector, Vector, Vector]:
    """The halves of boxes ``[batch, dim]`` that meet the region, and the place of each half's parent.

    Each box is halved along the coordinate of the largest width times weight ``[batch, dim]``.
    """
    axes, places = np.argmax((upper - lower) * weights, axis=1), np.arange(len(lower))
    middle = (lower[places, axes] + upper[places, axes]) / 2
    low_ends, high_ends = upper.copy(), lower.copy()
    low_ends[places, axes] = high_ends[places, axes] = middle
    lower, upper = np.concatenate([lower, high_ends]), np.concatenate([low_ends, upper])
    halves = np.concatenate([places, places])
    for place, part in region.placed_parts:
        least, greatest = box_norms(lower[:, place], upper[:, place], part.p)
        inside = (least <= part.radius) & (greatest >= part.inner)
        lower, upper, halves = lower[inside], upper[inside], halves[inside]
    return lower, upper, halves


@dataclass(frozen=True, eq=False)
class BoxDomains:
    """A stack of boxes as domains.

    Attributes:
        lower: their lower ends ``[batch, dim]``.
        upper: their upper ends ``[batch, dim]``.
        known: bounds on all inputs of ReLUs ``[batch, 2, units]``, from their parents.
    """

    lower: Vector
    upper: Vector
    known: Vector

    @classmethod
    def whole(cls, query: Query, region: Region) -> BoxDomains:
        """The region's own box."""
        units = query.graph.relu_count
        known = np.full((1, 2, units), np.inf) * np.array([-1.0, 1.0])[:, None]
        return cls(region.lower[None], region.upper[None], known)

    @classmethod
    def stacked(cls, entries: Sequence[tuple[Vector, Vector, Vector]]) -> BoxDomains:
        """Boxes from `entries`."""
        return cls(*(np.stack(arrays) for arrays in zip(*entries, strict=True)))

    @classmethod
    def restored(cls, frontier: Frontier, kind: str, query: Query, region: Region) -> BoxDomains:
        """The boxes of a frontier of this kind, in a region.

        Raises:
            StorageError: a frontier that is not of this query.
        """
        boxes = cls(**frontier.stacks(vars(cls.whole(query, region))))
        if frontier.kind != kind or (boxes.lower > boxes.upper).any():
            raise misfit("boxes of another kind")
        return boxes

    @classmethod
    def arrays(cls, entries: Sequence[tuple[Vector, Vector, Vector]], query: Query, region: Region) -> Arrays:
        """Any number of boxes as arrays, for `restored`."""
        return vars(cls.stacked(entries)) if entries else {n: v[:0] for n, v in vars(cls.whole(query, region)).items()}

    def entries(self) -> list[tuple[Vector, Vector, Vector]]:
        """Ends and known bounds of each box, for a heap or a stack."""
        return list(zip(self.lower, self.upper, self.known, strict=True))

    def examined(self, query: Query, region: Region) -> tuple[Bounds, NDArray[np.bool_], Vector]:
        """Symbolic bounds over the boxes within the region, the open disjuncts of each, and weights for `halved`."""
        places = query.graph.unit_places
        lower, upper = (
            {relu.input: self.known[:, side, places[relu.output]] for relu in query.graph.relus} for side in (0, 1)
        )
        boxes = RegionBoxes(self.lower, self.upper, region)
        bounds = symbolic_bounds(query.graph, boxes, within=Bounds(lower, upper))
        most, ended, asked = open_disjuncts(query, boxes, bounds)
        return bounds, most >= 0, _split_weights(query, bounds, ended, asked)

    def halved(
        self, query: Query, bounds: Bounds, chosen: NDArray[np.bool_], weights: Vector, region: Region
    ) -> tuple[BoxDomains, Indices]:
        """The halves of the chosen boxes, halved again while they are few, and the place of each one's ancestor among these.

        They inherit the bounds.
        """
        nothing = np.zeros((int(chosen.sum()), 0))
        sides = [
            np.concatenate([nothing, *(side[relu.input][chosen] for relu in query.graph.relus)], axis=-1)
            for side in (bounds.lower, bounds.upper)
        ]
        lower, upper, weights = self.lower[chosen], self.upper[chosen], weights[chosen]
        places, is_split = np.arange(len(lower)), False
        while not is_split or 0 < len(lower) < FEW_BOXES:
            lower, upper, halves = split_boxes(lower, upper, weights[places], region)
            places, is_split = places[halves], True
        return BoxDomains(lower, upper, np.stack(sides, axis=1)[places]), places


def violation_hull(query: Query) -> tuple[Bounds | None, list[int]]:
    """Bounds on every tensor over all inputs that can still violate, and the disjuncts that stay open.

    In few dimensions the region's box is split in `SPLITS` rounds, boxes that bounds exclude are dropped, and the bounds
    over the others are joined. In many, α-CROWN bounds over the whole region. None where no box stays: the property holds.
    The disjunct of the most slack comes first.
    """
    region, (_, places) = query.region, nearest_first(query)
    if not places.size:
        return None, []
    if region.dim > FEW_DIMENSIONS:
        found = optimised_bounds(query.graph, region, query.arrays.conjunctions.chosen(places))
        return None if found.excluded.all() else found.bounds, places[~found.excluded].tolist()
    _, query = narrowed(query)
    boxes = BoxDomains.whole(query, region)
    for split in range(SPLITS + 1):
        bounds, is_open, weights = boxes.examined(query, region)
        stays = np.asarray(is_open.any(axis=1))
        if not stays.any():
            return None, []
        if split == SPLITS or stays.sum() > MOST_OPEN:
            break
        boxes, _ = boxes.halved(query, bounds, stays, weights, region)
    hull = Bounds(
        {name: values[stays].min(axis=0) for name, values in bounds.lower.items()},
        {name: values[stays].max(axis=0) for name, values in bounds.upper.items()},
    )
    return hull, places[is_open.any(axis=0)].tolist()
