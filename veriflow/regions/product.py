"""Products of balls and boxes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..runtime.lazy_imports import LazyImports
from .box import MOST_VERTICES, Box
from .region import Part, Region

if TYPE_CHECKING:
    from torch import Generator, Tensor

with LazyImports(__name__) as imports:
    import torch


@dataclass(frozen=True)
class Product(Region):
    """``parts[0] × parts[1] × …``: the coordinates of the first part come first, then those of the second, and so on.

    Raises:
        RegionError: no parts, or a part that is a product itself.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Part) for part in self.parts):
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

    @override
    def support(self, rows: Vector) -> Vector:
        return np.asarray(sum(part.support(rows[..., place]) for place, part in self.placed_parts))

    @override
    def farthest(self, rows: Vector) -> Vector:
        return np.concatenate([part.farthest(rows[..., place]) for place, part in self.placed_parts], axis=-1)

    @property
    @override
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
    @override
    def shares(self) -> None:
        """None: a point may be any vertex."""
        return None

    @override
    def contains(self, point: Sequence[Fraction]) -> bool:
        return all(part.contains(point[place]) for place, part in self.placed_parts)

    @override
    def rounded_outward(self) -> Product:
        return Product(tuple(part.rounded_outward() for part in self.parts))

    @override
    def without_round_holes(self) -> Product:
        return Product(tuple(part.without_round_holes() for part in self.parts))

    @override
    def bounding_box(self) -> Box:
        boxes = [part.bounding_box() for part in self.parts]
        if all(box.exact is None for box in boxes):
            return Box(self.lower, self.upper)
        lower, upper = zip(*(box.ends for box in boxes), strict=True)
        return Box(self.lower, self.upper, (tuple(itertools.chain(*lower)), tuple(itertools.chain(*upper))))

    @override
    @imports.on_call
    def project(self, points: Tensor) -> Tensor:
        return torch.cat([part.project(points[..., place]) for place, part in self.placed_parts], dim=-1)

    @override
    @imports.on_call
    def drawn(self, count: int, generator: Generator) -> Tensor:
        return torch.cat([part.drawn(count, generator) for part in self.parts], dim=-1)

    def __str__(self) -> str:
        return " times ".join(map(str, self.parts))
