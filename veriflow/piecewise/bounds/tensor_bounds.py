"""Bounds on all tensors of a graph over a stack of regions, and the parameters and results of backward passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...numerics.arrays import Vector
from ...numerics.products import times
from ...numerics.rounding import FEW_OPERATIONS
from ..graph import Affine, Graph, Relu
from .relaxation import UnitLines


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
        """Limits on the weights of convex combinations of the vertices, ``[dim]``, descending; None where there are none.

        With limits, the vertices are ``[centre, +e₁ … +e_d, −e₁ … −e_d]``. Let wᵢ be the weight of eᵢ and −eᵢ together
        in a point of the region: for every k the k largest wᵢ sum to at most ``shares[:k].sum()``.
        """


class _Derived(NamedTuple):
    """What follows from bounds, computed when it is first asked for: by tensor, by output of a map, by input of a ReLU."""

    magnitudes: dict[str, Vector]
    terms: dict[str, Vector]
    lines: dict[str, UnitLines[Vector]]


@dataclass(frozen=True, eq=False)
class Bounds:
    """For every named tensor of a graph, a lower and an upper bound ``[..., size]`` that hold all over the region.

    Attributes:
        lower: by name.
        upper: likewise.
        convex: by input of a ReLU, values ``[..., size, count]`` at the region's vertices of a convex function above it.
        slopes: by input of a ReLU, the slopes of the lines around its unstable units in each coordinate of the graph's
            input, ``[..., size, dim]``, where bounds were made for a part of a region.
    """

    lower: Mapping[str, Vector]
    upper: Mapping[str, Vector]
    convex: Mapping[str, Vector] = field(default_factory=dict)
    slopes: Mapping[str, Vector] = field(default_factory=dict)
    _derived: _Derived = field(default_factory=lambda: _Derived({}, {}, {}), repr=False)

    def extended(
        self, name: str, lower: Vector, upper: Vector, convex: Vector | None = None, slopes: Vector | None = None
    ) -> Bounds:
        """These bounds and those of one more tensor, on which nothing that was derived from these depends."""
        return Bounds(
            {**self.lower, name: lower},
            {**self.upper, name: upper},
            self.convex if convex is None else {**self.convex, name: convex},
            self.slopes if slopes is None else {**self.slopes, name: slopes},
            self._derived,
        )

    def magnitude(self, name: str) -> Vector:
        """max |t| of the tensor, entry by entry."""
        known = self._derived.magnitudes
        if name not in known:
            known[name] = np.maximum(np.abs(self.lower[name]), np.abs(self.upper[name]))
        return known[name]

    def terms(self, node: Affine) -> Vector:
        """Σ |weight| max |input| + |bias| of an affine map: the sizes of all terms that are added up, ``[..., out]``."""
        known = self._derived.terms
        if node.output not in known:
            size = np.abs(node.rounded.bias)
            for name, _, _, absolute in node.products:
                size = size + times(self.magnitude(name), absolute)
            known[node.output] = size
        return known[node.output]

    def unit_lines(self, node: Relu) -> UnitLines[Vector]:
        """The lines around a ReLU's units, which hold exactly for the float slopes."""
        known = self._derived.lines
        if node.input not in known:
            known[node.input] = _unit_lines(self.lower[node.input], self.upper[node.input])
        return known[node.input]

    def unstable(self, graph: Graph) -> Vector:
        """How many ReLU units of the graph may be on either side of zero, ``[...]``."""
        counts = [((self.lower[r.input] < 0) & (self.upper[r.input] > 0)).sum(axis=-1) for r in graph.relus]
        return np.sum(counts, axis=0) if counts else np.zeros(self.lower[graph.input].shape[:-1], dtype=int)


def _unit_lines(low: Vector, high: Vector) -> UnitLines[Vector]:
    on = low >= 0
    unstable = ~on & (high > 0)
    width = np.where(unstable, high - low, 1.0)
    slope = np.where(unstable, np.clip(high / width, 0.0, 1.0), on)
    # the least offset for which slope·x + offset ≥ relu(x) at both ends, then rounded up
    offset = np.maximum(-slope * low, high - slope * high) + FEW_OPERATIONS * (np.abs(low) + np.abs(high))
    below = np.where(on | (unstable & (high > -low)), 1.0, 0.0)
    return UnitLines(on, unstable, below, slope, np.where(unstable, offset, 0.0))


@dataclass(frozen=True, eq=False)
class RelaxationParameters:
    """The free parameters of the relaxations in a backward pass; bounds hold for all their values.

    All are by output of a ReLU, for each row and unit, ``[..., n, size]``.

    Attributes:
        slopes: α in [0, 1] of the lines below unstable units.
        chords: weight in [0, 1] of the chord in the upper relaxation of an unstable unit; the rest goes to the convex
            function at the vertices. Only where the region has vertices.
        multipliers: β ≥ 0 of stable units: β x is taken off a row where x ≥ 0, and added where x ≤ 0, for x the input of the
            unit. The sign of a split unit holds in its domain only (Wang et al., *Beta-CROWN*, NeurIPS 2021, theorem 3.1).
    """

    slopes: Mapping[str, Vector]
    chords: Mapping[str, Vector]
    multipliers: Mapping[str, Vector] = field(default_factory=dict)

    def of_rows(self, places: NDArray[np.intp]) -> RelaxationParameters:
        """The parameters of some rows."""
        kinds = (self.slopes, self.chords, self.multipliers)
        return RelaxationParameters(
            *({name: chosen[..., places, :] for name, chosen in kind.items()} for kind in kinds)
        )


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """The result of a backward pass.

    Attributes:
        lower: lower bounds on the rows, ``[..., n]``.
        coefficients: of the linear functions of the graph's input below the rows, ``[..., n, dim]``.
        at_vertices: values ``[..., n, count]`` of the concave functions below the rows, where the region has vertices.
        lines: by output of a ReLU, the negative parts of the rows' coefficients ``[..., n, size]`` and the offsets of the
            chords ``[..., size]``.
    """

    lower: Vector
    coefficients: Vector
    at_vertices: Vector | None
    lines: Mapping[str, tuple[Vector, Vector]]

    @property
    def losses(self) -> dict[str, Vector]:
        """By output of a ReLU, how much the chord of each unit can lower the bound of each row, ``[..., n, size]``."""
        return {name: -negative * offset[..., None, :] for name, (negative, offset) in self.lines.items()}
