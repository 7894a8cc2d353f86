"""Axis-parallel boxes with exact ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..runtime.lazy_imports import LazyImports
from ..wording import listed_numbers
from .float32 import LARGEST_FLOAT32, float32_above, float32_below, float32_inside
from .region import Ends, Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

with LazyImports(__name__) as imports:
    from . import projection  # torch, which bounds do without

MOST_CORNER_DIMENSIONS, MOST_VERTICES = 5, 128
"""Up to so many dimensions a box lists its corners, and up to so many vertices a product lists them."""


def corners(lower: Vector, upper: Vector) -> Vector | None:
    """The corners ``[..., 2^dim, dim]`` of boxes ``[..., dim]`` of at most five dimensions, else None."""
    dim = lower.shape[-1]
    if dim > MOST_CORNER_DIMENSIONS:
        return None
    signs = np.array(list(itertools.product([False, True], repeat=dim)))
    return np.where(signs, upper[..., None, :], lower[..., None, :])


@dataclass(frozen=True, eq=False)
class Box(Part):
    """``{ z : lower ≤ z ≤ upper }``, both of shape ``[dim]``.

    Where the ends meant are no floats, such as 1/10, ``exact`` holds them as rationals, and ``lower`` and ``upper`` are
    floats around them. Bounds and programs work over the outer box; `contains` decides by the exact ends.

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
    def p(self) -> float:
        """Infinity."""
        return math.inf

    @property
    def inner(self) -> float:
        """Zero: a box has no hole."""
        return 0.0

    @property
    def radius(self) -> float:
        """The largest end, in magnitude."""
        return float(np.maximum(np.abs(self.lower), np.abs(self.upper)).max())

    @property
    def ends(self) -> Ends:
        """The lower and the upper ends of what is meant, exactly."""
        if self.exact is not None:
            return self.exact
        return tuple(Fraction(float(v)) for v in self.lower), tuple(Fraction(float(v)) for v in self.upper)

    @property
    @override
    def sizes(self) -> list[Fraction]:
        return [max(abs(low), abs(high), high - low) for low, high in zip(*self.ends, strict=True)]

    @override
    def support(self, rows: Vector) -> Vector:
        return np.maximum(rows, 0) @ self.upper + np.minimum(rows, 0) @ self.lower

    @override
    def farthest(self, rows: Vector) -> Vector:
        return np.where(rows > 0, self.upper, self.lower)

    @property
    @override
    def vertices(self) -> Vector | None:
        """The corners ``[2^dim, dim]`` in few dimensions, else None."""
        return corners(self.lower, self.upper)

    @property
    @override
    def shares(self) -> None:
        """None: a point may be any corner."""
        return None

    @override
    def contains(self, point: Sequence[Fraction]) -> bool:
        lower, upper = self.ends
        return all(low <= v <= high for low, v, high in zip(lower, point, upper, strict=True))

    @override
    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """The nearest point of the box: a coordinate outside goes to the end."""
        lower, upper = self.ends
        return [min(max(low, v), high) for low, v, high in zip(lower, point, upper, strict=True)]

    @override
    def corrected(self, point: Sequence[Fraction]) -> list[Fraction]:
        return self.nearest(point)

    @override
    def near_float32(self, point: Sequence[Fraction], margin: float) -> list[Fraction]:
        """A coordinate outside goes to the next float32 inside where there is one; a box needs no margin."""
        lower, upper = self.ends
        return [float32_inside(low, v, high) for low, v, high in zip(lower, point, upper, strict=True)]

    @override
    def without_round_holes(self) -> Box:
        return self

    @override
    def bounding_box(self) -> Box:
        return self

    @override
    @imports.on_call
    def project(self, points: Tensor) -> Tensor:
        return projection.project_onto_box(self.lower, self.upper, points)

    @override
    @imports.on_call
    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        return projection.draw_from_box(self.lower, self.upper, count, generator)

    @override
    def rounded_outward(self) -> Box:
        """The least box around this one whose ends are float32 numbers; the exact ends stay as they are."""
        return Box(
            np.array([float32_below(float(v)) for v in self.lower]),
            np.array([float32_above(float(v)) for v in self.upper]),
            self.exact,
        )

    def __str__(self) -> str:
        return f"a box in {self.dim} dimensions"
