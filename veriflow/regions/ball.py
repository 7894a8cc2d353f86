"""Norm balls and shells in latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..numerics.rounding import FEW_OPERATIONS, ROUNDOFF
from ..runtime.lazy_imports import LazyImports
from .box import Box, corners
from .float32 import float32_above, float32_below
from .region import Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

with LazyImports(__name__) as imports:
    from . import projection  # torch, which bounds do without

ROUNDING = Fraction(1, 2**20)
"""How far off the sphere of a ball or shell, relative to the radius, a point still counts as rounded."""


@dataclass(frozen=True)
class Ball(Part):
    """``{ z ∈ ℝ^dim : inner ≤ ‖z‖_p ≤ radius, |z_i| ≤ limit }`` with p ∈ {1, 2, ∞}.

    It is a shell where ``inner`` is positive, and trimmed where ``limit`` is below the radius. In many dimensions an L1
    ball that holds most of a flow's mass has vertices far away from every sample; trimming cuts them off.

    Raises:
        RegionError: a norm other than 1, 2, ∞; a radius that is negative or not finite; an inner radius above the outer
            one; a negative limit, a limit for p = ∞, or one so small that no point has the norm ``inner``.
    """

    p: float
    radius: float
    dim: int
    inner: float = 0.0
    limit: float = math.inf

    def __post_init__(self) -> None:
        if self.p not in (1, 2, math.inf):
            raise RegionError(f"expected a norm p of 1, 2 or inf; got {self.p}")
        if not (math.isfinite(self.radius) and 0 <= self.inner <= self.radius):
            raise RegionError(f"expected finite radii 0 <= inner <= outer; got inner {self.inner}, outer {self.radius}")
        if self.dim < 1:
            raise RegionError(f"expected a region of at least one dimension; got {self.dim}")
        if not self.limit >= 0 or (self.p == math.inf and self.limit < math.inf):
            raise RegionError(f"expected a limit of coordinates from 0 on, with norm 1 or 2; got {self.limit}")
        if self.inner and self.limit < math.inf:
            farthest = self.dim * Fraction(self.limit) if self.p == 1 else self.dim * Fraction(self.limit) ** 2
            if farthest < Fraction(self.inner) ** int(self.p):
                raise RegionError(f"expected a limit that points of norm {self.inner} can meet; got {self.limit}")

    @property
    @override
    def reach(self) -> float:
        """The largest coordinate of a point, in magnitude."""
        return min(self.radius, self.limit)

    @property
    def is_trimmed(self) -> bool:
        """Whether the limit takes something off the ball."""
        return self.limit < self.radius

    @property
    def lower(self) -> Vector:
        """Least value of each coordinate, shape ``[dim]``."""
        return np.full(self.dim, -self.reach)

    @property
    def upper(self) -> Vector:
        """Greatest value of each coordinate, shape ``[dim]``."""
        return np.full(self.dim, self.reach)

    @property
    @override
    def ball(self) -> Ball:
        return self

    @property
    @override
    def sizes(self) -> list[Fraction]:
        return [Fraction(self.radius)] * self.dim

    @override
    def support(self, rows: Vector) -> Vector:
        """The dual norm: max a·z = radius · ‖a‖_q over the filled ball, with 1/p + 1/q = 1, for rows a ``[n, dim]``.

        Over a trimmed L1 ball it is a fractional knapsack: Σ_k |a|_(k) · min(limit, radius − (k − 1) · limit)⁺ with the
        magnitudes of a in descending order. Over a trimmed L2 ball it is the bound of `_dual`.
        """
        if self.is_trimmed:
            sizes = np.sort(np.abs(rows), axis=-1)[..., ::-1]
            return self.radius * (sizes @ _shares(self)) if self.p == 1 else _dual(self, sizes)
        dual = {1: math.inf, 2: 2, math.inf: 1}[self.p]
        return np.asarray(self.radius * np.linalg.norm(rows, ord=dual, axis=-1))

    @override
    def farthest(self, rows: Vector) -> Vector:
        if self.p == math.inf:
            return np.asarray(self.radius * np.sign(rows))
        if self.p == 2 and self.is_trimmed:
            slope = _slope(self, np.sort(np.abs(rows), axis=-1)[..., ::-1])[..., None]
            return np.asarray(np.clip(rows / np.maximum(slope, 1e-300), -self.limit, self.limit))
        if self.p == 2:
            lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
            return np.asarray(self.radius * rows / np.maximum(lengths, 1e-300))
        points = np.zeros_like(rows)
        if self.is_trimmed:
            order = np.argsort(-np.abs(rows), axis=-1)
            most = np.minimum(self.radius * _shares(self), self.limit)
            np.put_along_axis(points, order, most * np.sign(np.take_along_axis(rows, order, -1)), -1)
            return points
        largest = np.abs(rows).argmax(axis=-1)[..., None]
        np.put_along_axis(points, largest, self.radius * np.sign(np.take_along_axis(rows, largest, -1)), -1)
        return points

    @property
    @override
    def vertices(self) -> Vector | None:
        """Points ``[count, dim]`` whose hull contains the ball: its vertices where these are few, 2·dim for p = 1.

        For a trimmed L1 ball they are the centre and the vertices of the untrimmed ball, [0, +e₁ … +e_d, −e₁ … −e_d] times
        the radius; `shares` limits the weights of a convex combination of them.
        """
        if self.p == 1:
            ends = np.concatenate([np.eye(self.dim), -np.eye(self.dim)]) * self.radius
            return np.concatenate([np.zeros((1, self.dim)), ends]) if self.is_trimmed else ends
        return corners(self.lower, self.upper) if self.p == math.inf else None

    @property
    @override
    def shares(self) -> Vector | None:
        """For a trimmed L1 ball, limits on sums of weights of its `vertices`, see `_shares`; else None."""
        return _shares(self) if self.p == 1 and self.is_trimmed else None

    @override
    def contains(self, point: Sequence[Fraction]) -> bool:
        if self.is_trimmed and max(map(abs, point)) > Fraction(self.limit):
            return False
        inner, outer = (_power([Fraction(norm)], self.p) for norm in (self.inner, self.radius))
        return inner <= _power(point, self.p) <= outer

    @override
    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """A point of the ball or shell near the given one, in rationals; the point itself where p is 2.

        Coordinates are clipped to ±limit; then the point moves along its ray to the nearer sphere. In the hole of a trimmed
        shell its coordinates grow up to the limit instead, one after the other. The centre stays the centre.
        """
        if self.p == 2:
            return list(point)
        reach, inner, outer = Fraction(self.reach), Fraction(self.inner), Fraction(self.radius)
        cut = [min(max(-reach, v), reach) for v in point]
        norm = Fraction((sum if self.p == 1 else max)(abs(v) for v in cut))
        if not norm or inner <= norm <= outer:
            return cut
        if norm > outer or not self.is_trimmed:
            return [v * min(max(inner, norm), outer) / norm for v in cut]
        for place, value in enumerate(cut):
            more = min(inner - norm, reach - abs(value))
            cut[place] += more if value >= 0 else -more
            norm += more
        return cut

    @override
    def corrected(self, point: Sequence[Fraction]) -> list[Fraction]:
        near = self.nearest(point)
        is_rounding = max(abs(a - b) for a, b in zip(near, point, strict=True)) <= ROUNDING * Fraction(self.radius)
        return near if is_rounding else list(point)

    @override
    def near_float32(self, point: Sequence[Fraction], margin: float) -> list[Fraction]:
        """Drawn in towards the centre, or away from it in the hole of a shell, and rounded to float32 again."""
        factor = 1 + margin if self._is_in_hole(point) else 1 - margin
        return [Fraction(float(np.float32(float(value) * factor))) for value in point]

    def _is_in_hole(self, point: Sequence[Fraction]) -> bool:
        return _power(point, self.p) < _power([Fraction(self.inner)], self.p)

    @override
    def without_round_holes(self) -> Ball:
        return replace(self, inner=0.0) if self.has_round_hole else self

    @override
    def bounding_box(self) -> Box:
        return Box(self.lower, self.upper)

    @override
    @imports.on_call
    def project(self, points: Tensor) -> Tensor:
        return projection.project_onto_ball(self, points)

    @override
    @imports.on_call
    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        return projection.draw_from_ball(self, count, generator)

    @override
    def rounded_outward(self) -> Ball:
        limit = self.limit if self.limit == math.inf else float32_above(self.limit)
        return Ball(self.p, float32_above(self.radius), self.dim, max(0.0, float32_below(self.inner)), limit)

    def __str__(self) -> str:
        norm = "inf" if self.p == math.inf else f"{self.p:g}"
        inner = f"{self.inner:.6g} <= " if self.inner else ""
        trimmed = f", |z_i| <= {self.limit:.6g}," if self.is_trimmed else ""
        return f"{inner}||z||_{norm} <= {self.radius:.6g}{trimmed} in {self.dim} dimensions"


def _power(point: Sequence[Fraction], p: float) -> Fraction:
    """‖point‖_p, for p = 2 its square: a rational number."""
    if p == 2:
        return sum((value**2 for value in point), Fraction(0))
    return sum(map(abs, point), Fraction(0)) if p == 1 else max(map(abs, point))


def _shares(ball: Ball) -> Vector:
    """Limits ``[dim]`` on the weights of a convex combination of the vertices of a trimmed L1 ball, rounded up.

    A point z is Σ_i w_i · radius · sign(z_i) e_i with w_i = |z_i|/radius, and the rest of the weight is the centre's. As
    each w_i ≤ limit/radius and Σ w_i ≤ 1, the k largest w_i sum to at most shares[:k].sum(), where
    shares[k] = clip(1 − k · limit/radius, 0, limit/radius).
    """
    each = ball.limit / ball.radius
    return np.clip(1 + FEW_OPERATIONS - each * np.arange(ball.dim), 0.0, each * (1 + 2 * ROUNDOFF))


def _slope(ball: Ball, sizes: Vector) -> Vector:
    """The multiplier λ of ‖z‖₂ ≤ radius in max a·z over a trimmed L2 ball, which is attained at z = clip(a/λ, ±limit).

    Shape ``[..., n]`` for magnitudes of a in descending order ``[..., n, dim]``. With the k largest coordinates at the limit
    the others are a/λ, so that λ² = Σ_{i ≥ k} a_i² / (radius² − k · limit²); k is the least for which a_k/λ ≤ limit. λ is
    zero where all coordinates are at the limit.
    """
    room = ball.radius**2 - ball.limit**2 * np.arange(ball.dim)
    rest = np.cumsum(sizes[..., ::-1] ** 2, axis=-1)[..., ::-1]
    within = (room > 0) & (sizes**2 * np.maximum(room, 0) <= ball.limit**2 * rest)
    first = within.argmax(axis=-1)
    slope = np.sqrt(np.take_along_axis(rest, first[..., None], -1)[..., 0] / np.maximum(room[first], 1e-300))
    return np.where(within.any(axis=-1), slope, 0.0)


def _dual(ball: Ball, sizes: Vector) -> Vector:
    """The Lagrange bound λ radius²/2 + Σ_i max over |z| ≤ limit of (|a_i| z − λ z²/2), valid for all λ ≥ 0, at `_slope`."""
    slope = _slope(ball, sizes)
    every, steep = ball.limit * sizes.sum(axis=-1), np.maximum(slope, 1e-300)[..., None]
    best = np.minimum(sizes / steep, ball.limit)
    total = slope * ball.radius**2 / 2 + (best * (sizes - slope[..., None] * best / 2)).sum(axis=-1)
    return np.asarray(np.where(slope > 0, np.minimum(total, every), every))
