"""Branch and bound on ReLUs: for regions of many dimensions, where halving one coordinate hardly shrinks anything.

A piece is the part of the region in which some units are on and some are off. All pieces share the bounds that were made
for the whole region; a piece adds what its splits say, and its multipliers. Pieces with the worst margin come first, so
that the proof or the violation is looked for where it is hardest. Every margin that closes a piece is a proved one.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriflow.piecewise import Bounds, Exclusion, Relaxation, exclude, exclude_in_pieces
from veriflow.query import Query

from .attack import RepeatedAttack
from .boxes import conjunctions
from .pieces import PieceSearch, piece_of

Vector = NDArray[np.float64]
Signs = NDArray[np.int8]
Indices = NDArray[np.intp]

BATCH = 128
LEAF_UNITS = 40
"""Pieces with at most this many unstable units are decided by a small program: it joins what all splits say, bounds do not."""


@dataclass(frozen=True, eq=False)
class _Pieces:
    """A stack of pieces.

    Attributes:
        signs: of every unit ``[batch, units]``: 1 on, −1 off, 0 not split.
        disjuncts: number of the disjunct that each is about ``[batch]``.
        choices: slopes, chords and multipliers to begin with ``[batch, 3, units]``.
        units: which unit to split next ``[batch]``.
    """

    signs: Signs
    disjuncts: Indices
    choices: NDArray[np.float32]
    units: Indices

    def children(self) -> _Pieces:
        """Each piece twice: with its unit on, and off."""
        places = np.arange(len(self.signs)).repeat(2)
        signs = self.signs[places]
        signs[np.arange(len(places)), self.units[places]] = np.tile(np.array([1, -1], dtype=np.int8), len(self.signs))
        return _Pieces(signs, self.disjuncts[places], self.choices[places], self.units[places])


def search_splits(
    query: Query,
    attack: RepeatedAttack | None = None,
    *,
    deadline: float,
    most_pieces: float = math.inf,
    report: Callable[[PieceSearch], None] = lambda state: None,
) -> PieceSearch:
    """Close every piece of the region, or find a violation, or stop at ``deadline`` (a `time.monotonic` value).

    An attack, where one is given, goes on between the rounds. After ``most_pieces`` the search stops as well.
    """
    state = PieceSearch()
    root = exclude(query.graph, query.region, conjunctions(query))
    if root.excluded.all():
        return state
    tree = _Tree(query, root)
    heap: list[tuple[float, int, _Pieces]] = []
    counter = itertools.count()

    def push(margins: Vector, pieces: _Pieces) -> None:
        for place, margin in enumerate(margins.tolist()):
            one = slice(place, place + 1)
            part = _Pieces(pieces.signs[one], pieces.disjuncts[one], pieces.choices[one], pieces.units[one])
            heapq.heappush(heap, (margin, next(counter), part))

    push(*tree.roots())
    while heap:
        state.open, state.margin = len(heap), heap[0][0]
        report(state)
        if attack and state.witness is None:
            state.witness = attack.after(state.pieces + 1)
        late = time.monotonic() > deadline or state.pieces > most_pieces
        if state.witness is not None or late or state.is_full or state.is_vain:
            return state
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        parents = _Pieces(
            *(np.concatenate(parts) for parts in zip(*(vars(p).values() for _, _, p in taken), strict=True))
        )
        push(*tree.examined(parents.children(), np.array([m for m, _, _ in taken]).repeat(2), state, deadline))
    state.open = 0
    return state


class _Tree:
    """What all pieces share: the query, bounds over the whole region, where each unit is found."""

    def __init__(self, query: Query, root: Exclusion) -> None:
        self.query, self.root = query, root
        self.relus = query.graph.relus
        self.places = query.graph.unit_places

    def joined(self, parts: Mapping[str, Vector]) -> Vector:
        """Values by output of a ReLU, as one array over all units."""
        return np.concatenate([parts[relu.output] for relu in self.relus], axis=-1)

    def relaxation(self, choices: NDArray[np.float32]) -> Relaxation:
        kinds = choices.astype(np.float64)[:, :, None, :]
        return Relaxation(*({name: kinds[:, kind, :, at] for name, at in self.places.items()} for kind in range(3)))

    def packed(self, relaxation: Relaxation) -> NDArray[np.float32]:
        kinds = [self.joined(kind)[:, 0] for kind in (relaxation.slopes, relaxation.chords, relaxation.multipliers)]
        return np.stack(kinds, axis=1).astype(np.float32)

    def roots(self) -> tuple[Vector, _Pieces]:
        """A piece for each disjunct that is still open: the whole region."""
        found = self.root.relaxation
        disjuncts = np.flatnonzero(~self.root.excluded)
        slopes, chords = self.joined(found.slopes)[disjuncts], self.joined(found.chords)[disjuncts]
        choices = np.stack([slopes, chords, np.zeros_like(slopes)], axis=1).astype(np.float32)
        signs = np.zeros(slopes.shape, dtype=np.int8)
        losses = self.joined(self.root.ended.losses)[disjuncts]
        units = self.units(signs, losses, self.root.bounds)
        return self.root.margins[disjuncts], _Pieces(signs, disjuncts, choices, units)

    def bounds(self, signs: Signs) -> Bounds:
        """The region's bounds, with what the splits say of the inputs of ReLUs."""
        lower, upper = dict(self.root.bounds.lower), dict(self.root.bounds.upper)
        for relu in self.relus:
            sign = signs[:, self.places[relu.output]]
            lower[relu.input] = np.where(sign > 0, np.maximum(lower[relu.input], 0), lower[relu.input])
            upper[relu.input] = np.where(sign < 0, np.minimum(upper[relu.input], 0), upper[relu.input])
        return Bounds(lower, upper, self.root.bounds.convex)

    def spread(self, bounds: Bounds) -> Vector:
        """How far each unit may be on its nearer side of zero: zero for stable ones."""
        sides = {r.output: np.minimum(-bounds.lower[r.input], bounds.upper[r.input]) for r in self.relus}
        return np.maximum(self.joined(sides), 0)

    def units(self, signs: Signs, losses: Vector, bounds: Bounds) -> Indices:
        """The unstable unit whose upper line costs most; where none costs anything, the one spread most."""
        spread = self.spread(bounds)
        scores = np.where(spread > 0, losses + 1e-9 * spread, -1.0)
        return np.asarray(np.where(signs != 0, -1.0, scores).argmax(axis=-1))

    def examined(self, pieces: _Pieces, before: Vector, state: PieceSearch, deadline: float) -> tuple[Vector, _Pieces]:
        """Margins and pieces that stay open; a margin is never below the parent's, ``before``."""
        bounds, root = self.bounds(pieces.signs), self.root
        rows, limits = root.rows[pieces.disjuncts][:, None], root.limits[pieces.disjuncts][:, None]
        found = exclude_in_pieces(
            self.query.graph, self.query.region, bounds, rows, limits, self.relaxation(pieces.choices)
        )
        state.pieces += len(pieces.signs)
        empty = np.any([(bounds.lower[r.input] > bounds.upper[r.input]).any(axis=-1) for r in self.relus], axis=0)
        is_open = ~(found.excluded[:, 0] | empty)
        state.try_points(self.query, self.extremes(found, is_open))
        few = is_open & ((self.spread(bounds) > 0).sum(axis=-1) <= LEAF_UNITS)
        for place in np.flatnonzero(few):
            if state.witness is None:
                inside, disjunct = piece_of(bounds, int(place)), self.query.violation[pieces.disjuncts[place]]
                is_open[place] = state.decide_leaf(self.query, inside, disjunct, deadline)
        margins = np.maximum(found.margins[:, 0], before)
        units = self.units(pieces.signs, self.joined(found.ended.losses)[:, 0], bounds)
        packed = self.packed(found.relaxation)
        return margins[is_open], _Pieces(
            pieces.signs[is_open], pieces.disjuncts[is_open], packed[is_open], units[is_open]
        )

    def extremes(self, found: Exclusion, is_open: NDArray[np.bool_]) -> Vector:
        """The points of the region at which the bounds of open pieces are attained."""
        ended, region = found.ended, self.query.region
        if ended.at_vertices is None or region.vertices is None:
            return np.asarray(region.farthest(-ended.coefficients[is_open][:, 0]))
        if region.shares is not None:
            _, up, down = np.split(ended.at_vertices[is_open][:, 0], [1, 1 + region.dim], axis=-1)
            return np.asarray(region.farthest(down - up))
        return np.asarray(region.vertices[ended.at_vertices[is_open][:, 0].argmin(axis=-1)])
