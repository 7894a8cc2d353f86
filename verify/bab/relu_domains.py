"""Domains in which some ReLU units are fixed to on or off, and bounds over them.

All domains share the bounds over the whole region. A domain adds its split constraints, and the slopes and multipliers (α and
β) that its bound was optimised to, from which its children start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Indices, Signs, Vector
from veriflow.piecewise.bounds.alpha_crown import MarginBounds
from veriflow.piecewise.bounds.beta_crown import BetaAscent
from veriflow.piecewise.bounds.tensor_bounds import Bounds, RelaxationParameters
from veriflow.piecewise.graph import Graph
from veriflow.regions.region import Region

Places = slice | Indices | NDArray[np.bool_] | tuple[Indices, Indices]


@dataclass(frozen=True, eq=False)
class ReluDomains:
    """A stack of domains, each about one row of the output.

    Attributes:
        signs: of every unit ``[batch, units]``: 1 on, −1 off, 0 not split.
        rows: number of the row ``[batch]``.
        choices: slopes, multipliers and chords to start from ``[batch, 3, units]``, as `BetaAscent` takes them.
        units: which unit to split next ``[batch]``.
    """

    signs: Signs
    rows: Indices
    choices: NDArray[np.float32]
    units: Indices

    def __getitem__(self, places: Places) -> ReluDomains:
        """Some of them."""
        return ReluDomains(self.signs[places], self.rows[places], self.choices[places], self.units[places])

    def children(self) -> ReluDomains:
        """The two children of each domain, one after the other: its unit on, and off."""
        places = np.arange(len(self.signs)).repeat(2)
        signs = self.signs[places]
        signs[np.arange(len(places)), self.units[places]] = np.tile(np.array([1, -1], dtype=np.int8), len(self.signs))
        return ReluDomains(signs, self.rows[places], self.choices[places], self.units[places])

    @classmethod
    def stacked(cls, parts: Sequence[ReluDomains]) -> ReluDomains:
        """One stack of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True, eq=False)
class BoundedDomains:
    """Domains with their bounds.

    Attributes:
        domains: with the optimised choices and the unit to split next.
        margins: proved lower bounds on ``limits − rows @ output`` ``[batch]``; infinity where the domain is empty.
        bounds: of the inputs of ReLUs in each domain.
        unstable: how many units are on neither side ``[batch]``.
        found: the whole answer of the bounds.
    """

    domains: ReluDomains
    margins: Vector
    bounds: Bounds
    unstable: Indices
    found: MarginBounds


class ReluTree:
    """What all domains share: a graph, bounds over the whole region, and rows of the output.

    Args:
        graph: whose units are split.
        region: of its inputs.
        bounds: that hold over the region.
        rows: of the output ``[n, outputs]``; bounds are to show where ``rows @ output ≥ limits`` is impossible.
        limits: ``[n]``.
    """

    def __init__(self, graph: Graph, region: Region, bounds: Bounds, rows: Vector, limits: Vector) -> None:
        self.graph, self.bounds, self.rows, self.limits = graph, bounds, rows, limits
        self.relus, self.places = graph.relus, graph.unit_places
        self._ascent = BetaAscent(graph, region)

    def whole(
        self, rows: Indices, parameters: RelaxationParameters, losses: Mapping[str, Vector] | None = None
    ) -> ReluDomains:
        """The whole region as one domain for each of some rows; parameters and losses are those of all rows ``[n, …]``.

        Without losses, the unit to split is the one farthest to both sides of zero.
        """
        slopes, chords = self._joined(parameters.slopes)[rows], self._joined(parameters.chords)[rows]
        choices = np.stack([slopes, np.zeros_like(slopes), chords], axis=1).astype(np.float32)
        signs = np.zeros(slopes.shape, dtype=np.int8)
        costs = np.zeros(slopes.shape) if losses is None else self._joined(losses)[rows]
        return ReluDomains(signs, rows, choices, self._units(signs, costs, self.bounds))

    def bounded(self, domains: ReluDomains) -> BoundedDomains:
        """Bounds over domains."""
        bounds = self.bounds_of(domains.signs)
        rows, limits = self.rows[domains.rows], self.limits[domains.rows]
        found, choices = self._ascent.ascend(bounds, rows, limits, domains.choices)
        empty = np.any([(bounds.lower[r.input] > bounds.upper[r.input]).any(axis=-1) for r in self.relus], axis=0)
        units = self._units(domains.signs, self._joined(found.linear.losses)[:, 0], bounds)
        after = ReluDomains(domains.signs, domains.rows, choices, units)
        unstable = (self._spread(bounds) > 0).sum(axis=-1)
        return BoundedDomains(after, np.where(empty, np.inf, found.margins[:, 0]), bounds, unstable, found)

    def _joined(self, parts: Mapping[str, Vector]) -> Vector:
        """Values by output of a ReLU, as one array over all units."""
        return np.concatenate([parts[relu.output] for relu in self.relus], axis=-1)

    def bounds_of(self, signs: Signs) -> Bounds:
        """The region's bounds, with what signs ``[..., units]`` say of the inputs of ReLUs."""
        lower, upper = dict(self.bounds.lower), dict(self.bounds.upper)
        for relu in self.relus:
            sign = signs[..., self.places[relu.output]]
            lower[relu.input] = np.where(sign > 0, np.maximum(lower[relu.input], 0), lower[relu.input])
            upper[relu.input] = np.where(sign < 0, np.minimum(upper[relu.input], 0), upper[relu.input])
        return Bounds(lower, upper, self.bounds.convex)

    def _spread(self, bounds: Bounds) -> Vector:
        """min(−lower, upper) of each unit's input, zero for stable ones."""
        sides = {r.output: np.minimum(-bounds.lower[r.input], bounds.upper[r.input]) for r in self.relus}
        return np.maximum(self._joined(sides), 0)

    def _units(self, signs: Signs, losses: Vector, bounds: Bounds) -> Indices:
        """The unstable unit whose upper line costs the bound most; where none costs anything, that of the largest spread."""
        spread = self._spread(bounds)
        scores = np.where(spread > 0, losses + 1e-9 * spread, -1.0)
        return np.asarray(np.where(signs != 0, -1.0, scores).argmax(axis=-1))
