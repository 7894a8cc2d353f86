"""What every region answers, and what each part of one does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from ..numerics.arrays import Vector
from ..runtime.lazy_imports import LazyImports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .ball import Ball
    from .box import Box

with LazyImports(__name__) as imports:
    from . import projection  # torch, which bounds do without

Ends: TypeAlias = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
"""Lower and upper ends, one number for each coordinate."""


class Region(ABC):
    """A bounded closed set of points in ℝ^dim: the product ``parts[0] × parts[1] × …``.

    Laws, where F is the region with the holes of its shells filled; they hold up to rounding where answers are floats:

    - ``lower ≤ z ≤ upper`` and ``a·z ≤ support(a)`` for every point z of F and every row a.
    - ``farthest(a)`` is a point of F, and ``a·farthest(a) = support(a)``.
    - F lies in the convex hull of the ``vertices``, where there are any.
    - `project` ends in the region and leaves its points where they are; `draw` ends in the region.
    - `contains` is exact: it decides what is meant.
    - `rounded_outward`, `without_round_holes` and `bounding_box` contain the region.
    - A product answers what its parts answer, put together.
    """

    if TYPE_CHECKING:  # some are fields of dataclasses, which a property of their base would hide

        @property
        @abstractmethod
        def dim(self) -> int:
            """Number of coordinates."""

        @property
        @abstractmethod
        def lower(self) -> Vector:
            """Least value of each coordinate, ``[dim]``."""

        @property
        @abstractmethod
        def upper(self) -> Vector:
            """Greatest value of each coordinate, ``[dim]``."""

        @property
        @abstractmethod
        def parts(self) -> tuple[Part, ...]:
            """The factors, none of them a product; a region that is no product is its only part."""

    @property
    def placed_parts(self) -> list[tuple[slice, Part]]:
        """Each part with its place among the coordinates."""
        ends = list(accumulate((part.dim for part in self.parts), initial=0))
        return [(slice(start, end), part) for start, end, part in zip(ends, ends[1:], self.parts, strict=False)]

    @property
    def is_linear(self) -> bool:
        """Whether linear constraints, and whole numbers for shells, state the region: no part is an L2 ball or shell."""
        return all(part.p != 2 for part in self.parts)

    @property
    def has_round_hole(self) -> bool:
        """Whether a part is an L2 shell: no outline by linear constraints leaves out the inside of its inner sphere."""
        return any(part.p == 2 and part.inner > 0 for part in self.parts)

    @property
    def ball(self) -> Ball | None:
        """The region as a ball or shell around the origin; None where it is none."""
        return None

    @abstractmethod
    def support(self, rows: Vector) -> Vector:
        """max a·z over the filled region for each row a of ``rows`` ``[..., dim]``, shape ``[...]``."""

    @abstractmethod
    def farthest(self, rows: Vector) -> Vector:
        """For each row a of ``rows`` ``[..., dim]`` a point of the filled region with the greatest a·z, same shape."""

    @property
    @abstractmethod
    def vertices(self) -> Vector | None:
        """Points ``[count, dim]`` whose convex hull contains the region, where a few do; else None."""

    @property
    @abstractmethod
    def shares(self) -> Vector | None:
        """Limits on sums of weights in convex combinations of the vertices; None where there are none, see `Ball.shares`."""

    @abstractmethod
    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether the point lies in the region, in exact arithmetic."""

    @abstractmethod
    def rounded_outward(self) -> Region:
        """The least region of this kind around this one whose ends are float32 numbers."""

    @abstractmethod
    def without_round_holes(self) -> Region:
        """The region with L2 balls in place of its L2 shells."""

    @abstractmethod
    def bounding_box(self) -> Box:
        """The least box around the region; the exact ends of boxes stay exact."""

    @abstractmethod
    def project(self, points: Tensor) -> Tensor:
        """The nearest points of the region ``[..., dim]``, in float64; from the hole of a shell outwards along the ray."""

    @imports.on_call
    def draw(self, count: int, seed: int) -> Tensor:
        """Seeded points of the region ``[count, dim]`` in float64: the projected centre, then points at all distances."""
        return projection.draw_around_centre(self, count, seed)

    @abstractmethod
    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """Points of the region ``[count, dim]`` in float64 at all distances from the centre, with a generator's numbers."""


class Part(Region):
    """A region that is no product: { z : inner ≤ ‖z‖_p ≤ radius, lower ≤ z ≤ upper }, but for exact ends of a box.

    So where p is ∞ the filled part is its own bounding box.
    """

    if TYPE_CHECKING:

        @property
        @abstractmethod
        def p(self) -> float:
            """The norm: 1, 2 or ∞."""

        @property
        @abstractmethod
        def inner(self) -> float:
            """The least norm of a point that is allowed; positive for a shell."""

        @property
        @abstractmethod
        def radius(self) -> float:
            """The greatest norm of a point that is allowed."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part itself."""
        return (self,)

    @property
    def reach(self) -> float:
        """The largest magnitude of a coordinate."""
        return self.radius

    @property
    @abstractmethod
    def sizes(self) -> list[Fraction]:
        """What counts as the size of the part in each coordinate, to compare a rounding error with."""

    @abstractmethod
    def rounded_outward(self) -> Part:
        """The least part of this kind around this one whose ends are float32 numbers."""

    @abstractmethod
    def without_round_holes(self) -> Part:
        """The L2 ball around an L2 shell; any other part itself."""

    @abstractmethod
    def nearest(self, point: Sequence[Fraction]) -> list[Fraction]:
        """A point of the part near the given one, in rationals; for L2 balls and shells the point itself."""

    @abstractmethod
    def corrected(self, point: Sequence[Fraction]) -> list[Fraction]:
        """`nearest` for a point that a float engine proposes; the point itself where that is farther than rounding goes."""

    @abstractmethod
    def near_float32(self, point: Sequence[Fraction], margin: float) -> list[Fraction]:
        """A float32 point of the part near a float32 point, ``margin`` away from spheres relative to its own norm."""
