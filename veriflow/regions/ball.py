"""Norm balls and shells in latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import RegionError
from ..numerics.arrays import Vector
from .box import corners
from .float32 import float32_above, float32_below


@dataclass(frozen=True)
class Ball:
    """``{ z ∈ ℝ^dim : inner ≤ ‖z‖_p ≤ radius, |z_i| ≤ limit }`` with p ∈ {1, 2, ∞}.

    It is a shell where ``inner`` is positive, and trimmed where ``limit`` is below the radius: an L1 ball of most of a
    flow's mass reaches out to vertices that no sample comes near, and a trimmed one does not.

    Raises:
        RegionError: a norm other than 1, 2, ∞, a radius that is negative or not finite, an inner radius above it, a
            negative limit, one for p = ∞ (the radius is one), one that no point of norm ``inner`` meets.
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

    def support(self, rows: Vector) -> Vector:
        """max a·z over the (filled) ball for each row a of ``rows`` ``[n, dim]``: radius · ‖a‖_q with 1/p + 1/q = 1.

        Over a trimmed L1 ball it is a fractional knapsack, the largest coefficients times the limit until the radius is
        used up; over a trimmed L2 ball the least bound that `_dual` gives.
        """
        if self.is_trimmed:
            sizes = np.sort(np.abs(rows), axis=-1)[..., ::-1]
            return self.radius * (sizes @ _shares(self)) if self.p == 1 else _dual(self, sizes)
        dual = {1: math.inf, 2: 2, math.inf: 1}[self.p]
        return np.asarray(self.radius * np.linalg.norm(rows, ord=dual, axis=-1))

    def farthest(self, rows: Vector) -> Vector:
        """For each row a of ``rows`` ``[..., dim]`` a point of the (filled) ball with the greatest a·z, same shape."""
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
    def vertices(self) -> Vector | None:
        """Points ``[count, dim]`` whose hull contains the ball: its vertices where these are few, 2·dim for p = 1.

        For a trimmed L1 ball they are the centre and the vertices of the whole ball, each with at most its `shares`.
        """
        if self.p == 1:
            ends = np.concatenate([np.eye(self.dim), -np.eye(self.dim)]) * self.radius
            return np.concatenate([np.zeros((1, self.dim)), ends]) if self.is_trimmed else ends
        return corners(self.lower, self.upper) if self.p == math.inf else None

    @property
    def shares(self) -> Vector | None:
        """For a trimmed L1 ball, the largest shares that vertices have together in one of its points; see `_shares`."""
        return _shares(self) if self.p == 1 and self.is_trimmed else None

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        magnitudes = [abs(value) for value in point]
        inner, outer = Fraction(self.inner), Fraction(self.radius)
        if self.is_trimmed and max(magnitudes) > Fraction(self.limit):
            return False
        if self.p == 2:
            return inner**2 <= sum((value**2 for value in magnitudes), Fraction(0)) <= outer**2
        norm = sum(magnitudes, Fraction(0)) if self.p == 1 else max(magnitudes)
        return inner <= norm <= outer

    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """A point of the ball or shell that is near, exactly; the point itself where p is 2.

        It is cut off at the limits and drawn along its ray to the nearer sphere; in a trimmed shell its coordinates go
        outwards one after the other instead, where the limit leaves room. The centre stays the centre.
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

    def rounded_outward(self) -> Ball:
        """The least region around this one whose ends are float32 numbers."""
        limit = self.limit if self.limit == math.inf else float32_above(self.limit)
        return Ball(self.p, float32_above(self.radius), self.dim, max(0.0, float32_below(self.inner)), limit)

    def __str__(self) -> str:
        norm = "inf" if self.p == math.inf else f"{self.p:g}"
        inner = f"{self.inner:.6g} <= " if self.inner else ""
        trimmed = f", |z_i| <= {self.limit:.6g}," if self.is_trimmed else ""
        return f"{inner}||z||_{norm} <= {self.radius:.6g}{trimmed} in {self.dim} dimensions"


def _shares(ball: Ball) -> Vector:
    """1 − k·limit/radius for k = 0, 1, … from 0 to limit/radius ``[dim]``, rounded up; they add up to 1 at most.

    A point z of a trimmed L1 ball is Σ |z_i|/radius times the vertices radius · sign(z_i) e_i, and the rest the centre:
    no coordinate has a share above limit/radius, and the largest shares together are at most these.
    """
    each = ball.limit / ball.radius
    return np.clip(1 + 2.0**-50 - each * np.arange(ball.dim), 0.0, each * (1 + 2.0**-52))


def _slope(ball: Ball, sizes: Vector) -> Vector:
    """The λ for which a·z is largest at z = clip(a/λ, ±limit), on a trimmed L2 ball; zero where all are at the limit.

    Shape ``[..., n]`` for coefficients in descending order ``[..., n, dim]``. With k coordinates at the limit the others
    are a/λ, so that λ² = Σ_rest a² / (radius² − k · limit²); the right k is the first whose next |a|/λ is within it.
    """
    room = ball.radius**2 - ball.limit**2 * np.arange(ball.dim)
    rest = np.cumsum(sizes[..., ::-1] ** 2, axis=-1)[..., ::-1]
    within = (room > 0) & (sizes**2 * np.maximum(room, 0) <= ball.limit**2 * rest)
    first = within.argmax(axis=-1)
    slope = np.sqrt(np.take_along_axis(rest, first[..., None], -1)[..., 0] / np.maximum(room[first], 1e-300))
    return np.where(within.any(axis=-1), slope, 0.0)


def _dual(ball: Ball, sizes: Vector) -> Vector:
    """The bound λ radius²/2 + Σ max over |z| ≤ limit of (|a| z − λ z²/2), which holds for every λ, at that of `_slope`."""
    slope = _slope(ball, sizes)
    every, steep = ball.limit * sizes.sum(axis=-1), np.maximum(slope, 1e-300)[..., None]
    best = np.minimum(sizes / steep, ball.limit)
    total = slope * ball.radius**2 / 2 + (best * (sizes - slope[..., None] * best / 2)).sum(axis=-1)
    return np.asarray(np.where(slope > 0, np.minimum(total, every), every))
