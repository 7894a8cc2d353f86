"""Products of balls and boxes, and what every region answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import RegionError
from ..numerics.arrays import Vector
from .ball import Ball
from .box import MOST_VERTICES, Box


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
            more = part.vertices if part.shares is None else None
            if more is None or len(found) * len(more) > MOST_VERTICES:
                return None
            found = np.hstack([found.repeat(len(more), axis=0), np.tile(more, (len(found), 1))])
        return found

    @property
    def shares(self) -> None:
        """None: a point may be any vertex."""
        return None

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


def round_parts(region: Region) -> list[Ball]:
    """The L2 balls and shells in the region, which are not linear."""
    return [part for _, part in pieces(region) if isinstance(part, Ball) and part.p == 2]


def bounding_box(region: Region) -> Box:
    """The least box around the region; the exact ends of boxes stay exact."""
    boxes = [part if isinstance(part, Box) else Box(part.lower, part.upper) for _, part in pieces(region)]
    if all(box.exact is None for box in boxes):
        return Box(region.lower, region.upper)
    lower, upper = zip(*(box.ends for box in boxes), strict=True)
    return Box(region.lower, region.upper, (tuple(itertools.chain(*lower)), tuple(itertools.chain(*upper))))
