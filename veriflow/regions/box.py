"""Axis-parallel boxes with exact ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..wording import listed_numbers
from .float32 import LARGEST_FLOAT32, float32_above, float32_below, float32_inside

MOST_CORNER_DIMENSIONS, MOST_VERTICES = 5, 128
"""Dimensions of a box whose corners are few, and vertices of a product that are."""


def corners(lower: Vector, upper: Vector) -> Vector | None:
    """The corners ``[..., 2^dim, dim]`` of boxes ``[..., dim]`` of at most five dimensions, else None."""
    dim = lower.shape[-1]
    if dim > MOST_CORNER_DIMENSIONS:
        return None
    signs = np.array(list(itertools.product([False, True], repeat=dim)))
    return np.where(signs, upper[..., None, :], lower[..., None, :])


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

    def __repr__(self) -> str:
        return f"Box({listed_numbers(self.lower.tolist())} to {listed_numbers(self.upper.tolist())})"

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
            if abs(value) > LARGEST_FLOAT32:
                raise RegionError(
                    f"expected ends in the range of float32, up to about 3.4e38; got a number of {len(str(int(value)))} digits"
                )
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

    @property
    def shares(self) -> None:
        """None: a point may be any corner."""
        return None

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
        return [float32_inside(low, v, high) for low, v, high in zip(lower, point, upper, strict=True)]

    def rounded_outward(self) -> Box:
        """The least box around this one whose ends are float32 numbers; the exact ends stay as they are."""
        return Box(
            np.array([float32_below(float(v)) for v in self.lower]),
            np.array([float32_above(float(v)) for v in self.upper]),
            self.exact,
        )

    def __str__(self) -> str:
        return f"a box in {self.dim} dimensions"
