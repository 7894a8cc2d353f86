"""Parts of a region in which some ReLU units are on and some are off, and bounds over them.

All pieces share bounds that hold over the whole region; a piece adds what its splits say, and its multipliers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Indices, Signs, Vector
from veriflow.piecewise.bounds.alpha_crown import Exclusion
from veriflow.piecewise.bounds.beta_crown import PieceAscent
from veriflow.piecewise.bounds.tensor_bounds import Bounds, Relaxation
from veriflow.piecewise.graph import Graph
from veriflow.regions.region import Region

Places = slice | Indices | NDArray[np.bool_] | tuple[Indices, Indices]


@dataclass(frozen=True, eq=False)
class ReluPieces:
    """A stack of pieces.

    Attributes:
        signs: of every unit ``[batch, units]``: 1 on, −1 off, 0 not split.
        rows: number of the row that each is about ``[batch]``.
        choices: slopes, multipliers and chords to begin with ``[batch, 3, units]``, as `PieceAscent` takes them.
        units: which unit to split next ``[batch]``.
    """

    signs: Signs
    rows: Indices
    choices: NDArray[np.float32]
    units: Indices

    def __getitem__(self, places: Places) -> ReluPieces:
        """Some of them."""
        return ReluPieces(self.signs[places], self.rows[places], self.choices[places], self.units[places])

    def children(self) -> ReluPieces:
        """Each piece twice: with its unit on, and off."""
        places = np.arange(len(self.signs)).repeat(2)
        signs = self.signs[places]
        signs[np.arange(len(places)), self.units[places]] = np.tile(np.array([1, -1], dtype=np.int8), len(self.signs))
        return ReluPieces(signs, self.rows[places], self.choices[places], self.units[places])

    @classmethod
    def stacked(cls, parts: Sequence[ReluPieces]) -> ReluPieces:
        """One stack of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True, eq=False)
class BoundedPieces:
    """Pieces with what is proved of them.

    Attributes:
        pieces: with the choices that were found and the unit to split next.
        margins: proved lower bounds on ``limits − rows @ output`` ``[batch]``; infinity where the piece is empty.
        bounds: of the inputs of ReLUs in each piece.
        unstable: how many units are on neither side ``[batch]``.
        found: all that bounds gave.
    """

    pieces: ReluPieces
    margins: Vector
    bounds: Bounds
    unstable: Indices
    found: Exclusion


class ReluTree:
    """What all pieces share: a graph, bounds over the whole region, and the rows that pieces are about.

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
        self._ascent = PieceAscent(graph, region)

    def whole(self, rows: Indices, relaxation: Relaxation, losses: Mapping[str, Vector] | None = None) -> ReluPieces:
        """The whole region as one piece for each of some rows, from what is known of all rows ``[n, …]``.

        Without losses, the unit to split is that which is spread most.
        """
        slopes, chords = self._joined(relaxation.slopes)[rows], self._joined(relaxation.chords)[rows]
        choices = np.stack([slopes, np.zeros_like(slopes), chords], axis=1).astype(np.float32)
        signs = np.zeros(slopes.shape, dtype=np.int8)
        costs = np.zeros(slopes.shape) if losses is None else self._joined(losses)[rows]
        return ReluPieces(signs, rows, choices, self._units(signs, costs, self.bounds))

    def bounded(self, pieces: ReluPieces) -> BoundedPieces:
        """Bounds over pieces."""
        bounds = self.bounds_of(pieces.signs)
        rows, limits = self.rows[pieces.rows], self.limits[pieces.rows]
        found, choices = self._ascent.exclude(bounds, rows, limits, pieces.choices)
        empty = np.any([(bounds.lower[r.input] > bounds.upper[r.input]).any(axis=-1) for r in self.relus], axis=0)
        units = self._units(pieces.signs, self._joined(found.ended.losses)[:, 0], bounds)
        after = ReluPieces(pieces.signs, pieces.rows, choices, units)
        unstable = (self._spread(bounds) > 0).sum(axis=-1)
        return BoundedPieces(after, np.where(empty, np.inf, found.margins[:, 0]), bounds, unstable, found)

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
        """How far each unit may be on its nearer side of zero: zero for stable ones."""
        sides = {r.output: np.minimum(-bounds.lower[r.input], bounds.upper[r.input]) for r in self.relus}
        return np.maximum(self._joined(sides), 0)

    def _units(self, signs: Signs, losses: Vector, bounds: Bounds) -> Indices:
        """The unstable unit whose upper line costs most; where none costs anything, the one spread most."""
        spread = self._spread(bounds)
        scores = np.where(spread > 0, losses + 1e-9 * spread, -1.0)
        return np.asarray(np.where(signs != 0, -1.0, scores).argmax(axis=-1))
