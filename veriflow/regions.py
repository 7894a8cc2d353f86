"""Input regions: norm balls and shells in latent space, boxes anywhere, products. Numbers are exact binary fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .errors import RegionError

Vector = NDArray[np.float64]


def float32_above(value: float) -> float:
    """The least float32 that is at least ``value``, as a Python float."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf)))


def float32_below(value: float) -> float:
    """The greatest float32 that is at most ``value``, as a Python float."""
    return -float32_above(-value)


@dataclass(frozen=True)
class Ball:
    """``{ z ∈ ℝ^dim : inner ≤ ‖z‖_p ≤ radius }`` with p ∈ {1, 2, ∞}; a shell where ``inner`` is positive.

    Raises:
        RegionError: a norm other than 1, 2, ∞, a radius that is negative or not finite, an inner radius above it.
    """

    p: float
    radius: float
    dim: int
    inner: float = 0.0

    def __post_init__(self) -> None:
        if self.p not in (1, 2, math.inf):
            raise RegionError(f"expected a norm p of 1, 2 or inf; got {self.p}")
        if not (math.isfinite(self.radius) and 0 <= self.inner <= self.radius):
            raise RegionError(f"expected finite radii 0 <= inner <= outer; got inner {self.inner}, outer {self.radius}")
        if self.dim < 1:
            raise RegionError(f"expected a region of at least one dimension; got {self.dim}")

    @property
    def lower(self) -> Vector:
        """Least value of each coordinate, shape ``[dim]``."""
        return np.full(self.dim, -self.radius)

    @property
    def upper(self) -> Vector:
        """Greatest value of each coordinate, shape ``[dim]``."""
        return np.full(self.dim, self.radius)

    def support(self, rows: Vector) -> Vector:
        """max a·z over the (filled) ball for each row a of ``rows`` ``[n, dim]``: radius · ‖a‖_q with 1/p + 1/q = 1."""
        dual = {1: math.inf, 2: 2, math.inf: 1}[self.p]
        return np.asarray(self.radius * np.linalg.norm(rows, ord=dual, axis=-1))

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        magnitudes = [abs(value) for value in point]
        inner, outer = Fraction(self.inner), Fraction(self.radius)
        if self.p == 2:
            return inner**2 <= sum((value**2 for value in magnitudes), Fraction(0)) <= outer**2
        norm = sum(magnitudes, Fraction(0)) if self.p == 1 else max(magnitudes)
        return inner <= norm <= outer

    def rounded_outward(self) -> Ball:
        """The least region around this one whose ends are float32 numbers."""
        return Ball(self.p, float32_above(self.radius), self.dim, max(0.0, float32_below(self.inner)))

    def __str__(self) -> str:
        norm = "inf" if self.p == math.inf else f"{self.p:g}"
        inner = f"{self.inner:.6g} <= " if self.inner else ""
        return f"{inner}||z||_{norm} <= {self.radius:.6g} in {self.dim} dimensions"


@dataclass(frozen=True, eq=False)
class Box:
    """``{ z : lower ≤ z ≤ upper }``, both of shape ``[dim]``.

    Raises:
        RegionError: ends that are not finite, of different lengths, or crossed.
    """

    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64).reshape(-1))
        if self.lower.shape != self.upper.shape or not len(self.lower):
            raise RegionError(f"expected box ends of equal length; got {len(self.lower)} and {len(self.upper)}")
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise RegionError("expected a bounded box; got an end that is not finite")
        if (self.lower > self.upper).any():
            i = int(np.argmax(self.lower > self.upper))
            raise RegionError(f"expected lower <= upper; got {self.lower[i]} > {self.upper[i]} in dimension {i}")

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.lower)

    def support(self, rows: Vector) -> Vector:
        """max a·z over the box for each row a of ``rows`` ``[n, dim]``."""
        return np.maximum(rows, 0) @ self.upper + np.minimum(rows, 0) @ self.lower

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        return all(
            Fraction(low) <= v <= Fraction(high) for low, v, high in zip(self.lower, point, self.upper, strict=True)
        )

    def rounded_outward(self) -> Box:
        """The least box around this one whose ends are float32 numbers."""
        return Box(
            np.array([float32_below(float(v)) for v in self.lower]),
            np.array([float32_above(float(v)) for v in self.upper]),
        )

    def __str__(self) -> str:
        return f"a box in {self.dim} dimensions"


@dataclass(frozen=True)
class Product:
    """``parts[0] × parts[1] × …``: the coordinates of the first part come first, then those of the second, and so on.

    Raises:
        RegionError: no parts, or a part that is a product itself.
    """

    parts: tuple[Ball | Box, ...]

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Ball | Box) for part in self.parts):
            raise RegionError(f"expected one ball or box at least, and nothing else; got {self.parts}")

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return sum(part.dim for part in self.parts)

    @property
    def lower(self) -> Vector:
        """Least value of each coordinate, shape ``[dim]``."""
        return np.concatenate([part.lower for part in self.parts])

    @property
    def upper(self) -> Vector:
        """Greatest value of each coordinate, shape ``[dim]``."""
        return np.concatenate([part.upper for part in self.parts])

    def support(self, rows: Vector) -> Vector:
        """max a·z over the (filled) parts for each row a of ``rows`` ``[n, dim]``: the sum of the parts' supports."""
        return np.asarray(sum(part.support(rows[..., place]) for place, part in pieces(self)))

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        return all(part.contains(point[place]) for place, part in pieces(self))

    def rounded_outward(self) -> Product:
        """The least product around this one whose ends are float32 numbers."""
        return Product(tuple(part.rounded_outward() for part in self.parts))

    def __str__(self) -> str:
        return " times ".join(map(str, self.parts))


Region = Ball | Box | Product


def pieces(region: Region) -> list[tuple[slice, Ball | Box]]:
    """The balls and boxes whose product the region is, each with its place among the coordinates."""
    parts = region.parts if isinstance(region, Product) else (region,)
    ends = np.cumsum([0, *(part.dim for part in parts)]).tolist()
    return [(slice(start, end), part) for start, end, part in zip(ends, ends[1:], parts, strict=False)]
