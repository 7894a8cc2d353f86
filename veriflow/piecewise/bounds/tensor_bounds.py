"""What bounds are: limits of each entry of each tensor over a stack of regions, and linear functions that bound it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...numerics.arrays import Vector
from ..graph import Affine, Graph, Relu
from .rounding import UNIT, times


class Regions(Protocol):
    """A region of inputs, or a stack of them: ends ``[..., dim]`` and the support function."""

    @property
    def lower(self) -> Vector:
        """Least value of each coordinate, ``[..., dim]``."""

    @property
    def upper(self) -> Vector:
        """Greatest value of each coordinate, ``[..., dim]``."""

    def support(self, rows: Vector) -> Vector:
        """Upper bound on a·z over the region for each row a of ``rows`` ``[..., n, dim]``, shape ``[..., n]``."""

    def farthest(self, rows: Vector) -> Vector:
        """For each row, a point of the region at which a·z is about as large as it gets, shape ``[..., n, dim]``."""

    @property
    def vertices(self) -> Vector | None:
        """Points ``[..., count, dim]`` whose convex hull contains the region, where a few do; else None."""

    @property
    def shares(self) -> Vector | None:
        """None where a point of the region may be any vertex.

        Else each point of the region is a mean of the vertices, which are a centre, one for each coordinate and one more
        for each; the shares of two that are about one coordinate have a largest sum, a second largest and so on, and the
        largest k sums add up to at most the first k of these numbers ``[dim]``, which descend.
        """


@dataclass(frozen=True, eq=False)
class UnitLines:
    """Each unit of a ReLU between ``below·x`` and ``slope·x + offset`` on [l, u]; both hold exactly for the float slopes.

    Arrays ``[..., size]``; ``on`` are the units that are never negative.
    """

    on: NDArray[np.bool_]
    unstable: NDArray[np.bool_]
    below: Vector
    slope: Vector
    offset: Vector


def _unit_lines(low: Vector, high: Vector) -> UnitLines:
    on = low >= 0
    unstable = ~on & (high > 0)
    width = np.where(unstable, high - low, 1.0)
    slope = np.where(unstable, np.clip(high / width, 0.0, 1.0), on)
    # the least offset for which slope·x + offset ≥ relu(x) at both ends, then rounded up
    offset = np.maximum(-slope * low, high - slope * high) + 4 * UNIT * (np.abs(low) + np.abs(high))
    below = np.where(on | (unstable & (high > -low)), 1.0, 0.0)
    return UnitLines(on, unstable, below, slope, np.where(unstable, offset, 0.0))


@dataclass(frozen=True, eq=False)
class Bounds:
    """For every named tensor of a graph, a lower and an upper bound ``[..., size]`` that hold all over the region.

    ``convex`` maps inputs of ReLUs to values ``[..., size, count]`` at the region's vertices of a convex function above them.
    ``slopes`` maps them to how steep the lines around unstable units are in each coordinate of the input,
    ``[..., size, dim]``, where bounds were made for a part of a region.
    """

    lower: Mapping[str, Vector]
    upper: Mapping[str, Vector]
    convex: Mapping[str, Vector] = field(default_factory=dict)
    slopes: Mapping[str, Vector] = field(default_factory=dict)
    _magnitudes: dict[str, Vector] = field(default_factory=dict, init=False, repr=False)
    _terms: dict[str, Vector] = field(default_factory=dict, init=False, repr=False)
    _lines: dict[str, UnitLines] = field(default_factory=dict, init=False, repr=False)

    def magnitude(self, name: str) -> Vector:
        """max |t| of the tensor, entry by entry."""
        if name not in self._magnitudes:
            self._magnitudes[name] = np.maximum(np.abs(self.lower[name]), np.abs(self.upper[name]))
        return self._magnitudes[name]

    def terms(self, node: Affine) -> Vector:
        """The sum of the sizes of all terms that an affine node adds up, entry by entry."""
        if node.output not in self._terms:
            size = np.abs(node.rounded.bias)
            for name, _, _, absolute in node.products:
                size = size + times(self.magnitude(name), absolute)
            self._terms[node.output] = size
        return self._terms[node.output]

    def unit_lines(self, node: Relu) -> UnitLines:
        """The lines around a ReLU's units."""
        if node.output not in self._lines:
            self._lines[node.output] = _unit_lines(self.lower[node.input], self.upper[node.input])
        return self._lines[node.output]

    def unstable(self, graph: Graph) -> Vector:
        """How many ReLU units of the graph may be on either side of zero, ``[...]``."""
        counts = [((self.lower[r.input] < 0) & (self.upper[r.input] > 0)).sum(axis=-1) for r in graph.relus]
        return np.sum(counts, axis=0) if counts else np.zeros(self.lower[graph.input].shape[:-1], dtype=int)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What a backward pass is free to choose for each row and ReLU unit; bounds hold for every choice.

    Attributes:
        slopes: by output of a ReLU, slopes ``[..., n, size]`` from 0 to 1 of the lines below its unstable units.
        chords: likewise, the share from 0 to 1 that the line above has beside the convex function, where the region has
            vertices.
        multipliers: likewise, from 0, how much of the input of a stable unit is taken off a row where it is never
            negative, or added where it is never positive. This uses that the bounds of a split unit hold in a part of
            the region only (β-CROWN: Wang et al., NeurIPS 2021, theorem 3.1).
    """

    slopes: Mapping[str, Vector]
    chords: Mapping[str, Vector]
    multipliers: Mapping[str, Vector] = field(default_factory=dict)

    def of_rows(self, places: NDArray[np.intp]) -> Relaxation:
        """The choices of some rows."""
        kinds = (self.slopes, self.chords, self.multipliers)
        return Relaxation(*({name: chosen[..., places, :] for name, chosen in kind.items()} for kind in kinds))


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """What a backward pass ends with.

    Attributes:
        lower: bounds on the rows, ``[..., n]``.
        coefficients: of the input, ``[..., n, dim]``: how much each coordinate matters.
        at_vertices: values ``[..., n, count]`` of the concave function below the rows, where the region has vertices.
        lines: by output of a ReLU, the rows' coefficients below zero ``[..., n, size]`` and how far its units' upper lines
            are above zero at zero ``[..., size]``.
    """

    lower: Vector
    coefficients: Vector
    at_vertices: Vector | None
    lines: Mapping[str, tuple[Vector, Vector]]

    @property
    def losses(self) -> dict[str, Vector]:
        """By output of a ReLU, how much the upper lines of its units can cost each row, ``[..., n, size]``."""
        return {name: -negative * offset[..., None, :] for name, (negative, offset) in self.lines.items()}
