"""Input regions: norm balls and shells in latent space, boxes anywhere, products of these.

Numbers in them are exact binary fractions; a box may have exact rational ends within those.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .errors import RegionError

Vector = NDArray[np.float64]


def float32_above(value: float | Fraction) -> float:
    """The least float32 that is at least ``value``, as a Python float."""
    nearest = np.float32(float(value))
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf)))


def float32_below(value: float | Fraction) -> float:
    """The greatest float32 that is at most ``value``, as a Python float."""
    return -float32_above(-value)


MOST_CORNER_DIMENSIONS, MOST_VERTICES = 5, 128
"""Dimensions of a box whose corners are few, and vertices of a product that are."""


def corners(lower: Vector, upper: Vector) -> Vector | None:
    """The corners ``[..., 2^dim, dim]`` of boxes ``[..., dim]`` of at most five dimensions, else None."""
    dim = lower.shape[-1]
    if dim > MOST_CORNER_DIMENSIONS:
        return None
    signs = np.array(list(itertools.product([False, True], repeat=dim)))
    return np.where(signs, upper[..., None, :], lower[..., None, :])


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

    def farthest(self, rows: Vector) -> Vector:
        """For each row a of ``rows`` ``[..., dim]`` a point of the (filled) ball with the greatest a·z, same shape."""
        if self.p == math.inf:
            return np.asarray(self.radius * np.sign(rows))
        if self.p == 2:
            lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
            return np.asarray(self.radius * rows / np.maximum(lengths, 1e-300))
        largest = np.abs(rows).argmax(axis=-1)[..., None]
        points = np.zeros_like(rows)
        np.put_along_axis(points, largest, self.radius * np.sign(np.take_along_axis(rows, largest, -1)), -1)
        return points

    @property
    def vertices(self) -> Vector | None:
        """The ball's vertices ``[count, dim]`` where they are few: 2·dim for p = 1, the corners of a small cube."""
        if self.p == 1:
            return np.concatenate([np.eye(self.dim), -np.eye(self.dim)]) * self.radius
        return corners(self.lower, self.upper) if self.p == math.inf else None

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        magnitudes = [abs(value) for value in point]
        inner, outer = Fraction(self.inner), Fraction(self.radius)
        if self.p == 2:
            return inner**2 <= sum((value**2 for value in magnitudes), Fraction(0)) <= outer**2
        norm = sum(magnitudes, Fraction(0)) if self.p == 1 else max(magnitudes)
        return inner <= norm <= outer

    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """The point drawn along its ray into the ball or shell, exactly; as it is at the centre, and where p is 2."""
        norm = Fraction(0) if self.p == 2 else (sum if self.p == 1 else max)(abs(v) for v in point)
        if not norm:
            return list(point)
        return [v * min(max(Fraction(self.inner), norm), Fraction(self.radius)) / norm for v in point]

    def rounded_outward(self) -> Ball:
        """The least region around this one whose ends are float32 numbers."""
        return Ball(self.p, float32_above(self.radius), self.dim, max(0.0, float32_below(self.inner)))

    def __str__(self) -> str:
        norm = "inf" if self.p == math.inf else f"{self.p:g}"
        inner = f"{self.inner:.6g} <= " if self.inner else ""
        return f"{inner}||z||_{norm} <= {self.radius:.6g} in {self.dim} dimensions"


Ends = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]


@dataclass(frozen=True, eq=False)
class Box:
    """``{ z : lower ≤ z ≤ upper }``, both of shape ``[dim]``.

    A box whose ends are no floats, such as 0.1, is meant exactly: ``exact`` holds its lower and upper ends, which lie
    within ``lower`` and ``upper``. Bounds and programs see the outer box; whether a point is in the box, `ends` decide.

    Raises:
        RegionError: ends that are not finite, of different lengths, or crossed; exact ends outside of the others.
    """

    lower: Vector
    upper: Vector
    exact: Ends | None = None

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
        if self.exact is not None:
            self._check_exact(*self.exact)

    def _check_exact(self, lower: tuple[Fraction, ...], upper: tuple[Fraction, ...]) -> None:
        if not len(lower) == len(upper) == self.dim:
            raise RegionError(f"expected {self.dim} exact ends on each side; got {len(lower)} and {len(upper)}")
        for i, (outer_low, low, high, outer_high) in enumerate(zip(self.lower, lower, upper, self.upper, strict=True)):
            if not outer_low <= low <= high <= outer_high:
                raise RegionError(f"expected exact ends within the others, lower <= upper; got others in dimension {i}")

    @classmethod
    def between(cls, lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Box:
        """The box with exactly these ends; `lower` and `upper` are then the float32 numbers around them.

        Raises:
            RegionError: ends of different lengths, crossed, or beyond the range of float32.
        """
        for value in (*lower, *upper):
            if abs(value) > _LARGEST_FLOAT32:
                raise RegionError(f"expected ends in the range of float32; got {float(value):g}")
        outer_low, outer_high = [float32_below(v) for v in lower], [float32_above(v) for v in upper]
        return cls(np.array(outer_low), np.array(outer_high), (tuple(lower), tuple(upper)))

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.lower)

    @property
    def ends(self) -> Ends:
        """The lower and the upper ends of what is meant, exactly."""
        if self.exact is not None:
            return self.exact
        return tuple(Fraction(float(v)) for v in self.lower), tuple(Fraction(float(v)) for v in self.upper)

    def support(self, rows: Vector) -> Vector:
        """max a·z over the box for each row a of ``rows`` ``[n, dim]``."""
        return np.maximum(rows, 0) @ self.upper + np.minimum(rows, 0) @ self.lower

    def farthest(self, rows: Vector) -> Vector:
        """For each row a of ``rows`` ``[..., dim]`` a point of the box with the greatest a·z, same shape."""
        return np.where(rows > 0, self.upper, self.lower)

    @property
    def vertices(self) -> Vector | None:
        """The corners ``[2^dim, dim]`` in few dimensions, else None."""
        return corners(self.lower, self.upper)

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""
        lower, upper = self.ends
        return all(low <= v <= high for low, v, high in zip(lower, point, upper, strict=True))

    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """The nearest point of the box: a coordinate outside goes to the end."""
        lower, upper = self.ends
        return [min(max(low, v), high) for low, v, high in zip(lower, point, upper, strict=True)]

    def nearest_float32(self, point: Sequence[Fraction]) -> list[Fraction]:
        """The same, but a coordinate outside goes to the next float32 inside where there is one."""
        lower, upper = self.ends
        return [_inside(low, v, high) for low, v, high in zip(lower, point, upper, strict=True)]

    def rounded_outward(self) -> Box:
        """The least box around this one whose ends are float32 numbers; the exact ends stay as they are."""
        return Box(
            np.array([float32_below(float(v)) for v in self.lower]),
            np.array([float32_above(float(v)) for v in self.upper]),
            self.exact,
        )

    def __str__(self) -> str:
        return f"a box in {self.dim} dimensions"


_LARGEST_FLOAT32 = Fraction(float(np.finfo(np.float32).max))


def _inside(low: Fraction, value: Fraction, high: Fraction) -> Fraction:
    if low <= value <= high:
        return value
    inside = Fraction(float32_above(low) if value < low else float32_below(high))
    return inside if low <= inside <= high else (low if value < low else high)


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

    def farthest(self, rows: Vector) -> Vector:
        """For each row a of ``rows`` ``[..., dim]`` a point of the (filled) parts with the greatest a·z, same shape."""
        return np.concatenate([part.farthest(rows[..., place]) for place, part in pieces(self)], axis=-1)

    @property
    def vertices(self) -> Vector | None:
        """Every vertex of the first part with every one of the second, and so on ``[count, dim]``, where they are few."""
        found = np.zeros((1, 0))
        for part in self.parts:
            more = part.vertices
            if more is None or len(found) * len(more) > MOST_VERTICES:
                return None
            found = np.hstack([found.repeat(len(more), axis=0), np.tile(more, (len(found), 1))])
        return found

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


def bounding_box(region: Region) -> Box:
    """The least box around the region; the exact ends of boxes stay exact."""
    boxes = [part if isinstance(part, Box) else Box(part.lower, part.upper) for _, part in pieces(region)]
    if all(box.exact is None for box in boxes):
        return Box(region.lower, region.upper)
    lower, upper = zip(*(box.ends for box in boxes), strict=True)
    return Box(region.lower, region.upper, (tuple(itertools.chain(*lower)), tuple(itertools.chain(*upper))))
