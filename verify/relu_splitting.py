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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from veriflow.piecewise import Bounds, Exclusion, Relaxation, exclude, exclude_in_pieces
from veriflow.query import Query

from .attack import RepeatedAttack
from .boxes import conjunctions
from .open_parts import OpenParts, misfit, numbers
from .pieces import PieceSearch, piece_of

Vector = NDArray[np.float64]
Signs = NDArray[np.int8]
Indices = NDArray[np.intp]

BATCH = 128
WAY = "signs of units"
"""What the parts of this search are."""

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

    @classmethod
    def stacked(cls, parts: Sequence[_Pieces]) -> _Pieces:
        """One stack of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


_Entry = tuple[float, int, _Pieces]
"""The margin of one piece, its number, and the piece."""


def search_splits(
    query: Query,
    attack: RepeatedAttack | None = None,
    *,
    deadline: float,
    most_pieces: float = math.inf,
    report: Callable[[PieceSearch], None] = lambda state: None,
    left: OpenParts | None = None,
) -> PieceSearch:
    """Close every piece of the region, or find a violation, or stop at ``deadline`` (a `time.monotonic` value).

    An attack, where one is given, goes on between the rounds. After ``most_pieces`` the search stops as well. It begins
    with what an earlier one of the same query has ``left`` open.

    Raises:
        StorageError: open parts that are not those of this query.
    """
    state = PieceSearch()
    root = exclude(query.graph, query.region, conjunctions(query))
    if root.excluded.all():
        return state
    tree = _Tree(query, root)
    heap: list[_Entry] = []
    counter = itertools.count()

    def tell() -> None:
        state.open, state.margin = len(heap), heap[0][0] if heap else None
        state.left = partial(_left, list(heap), whole[1], state.pieces, state.near_misses)
        report(state)

    def push(margins: Vector, pieces: _Pieces) -> None:
        for place, margin in enumerate(margins.tolist()):
            one = slice(place, place + 1)
            part = _Pieces(pieces.signs[one], pieces.disjuncts[one], pieces.choices[one], pieces.units[one])
            heapq.heappush(heap, (margin, next(counter), part))

    whole = tree.roots()
    if left is None:
        push(*whole)
    else:
        state.pieces, state.near_misses = int(left.number("pieces")), int(left.number("near_misses"))
        push(*_restored(left, query, whole[1]))
    while heap:
        tell()
        if attack and state.witness is None:
            state.witness = attack.after(state.pieces + 1)
        late = time.monotonic() > deadline or state.pieces > most_pieces
        if state.witness is not None or late or state.is_full or state.is_vain:
            return state
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        parents = _Pieces.stacked([piece for _, _, piece in taken])
        push(*tree.examined(parents.children(), np.array([m for m, _, _ in taken]).repeat(2), state, deadline))
    tell()
    return state


def _left(heap: Sequence[_Entry], like: _Pieces, pieces: int, near_misses: int) -> OpenParts:
    """Open pieces as arrays, in their order."""
    heap = sorted(heap)
    nothing = _Pieces(*(array[:0] for array in vars(like).values()))
    stack = _Pieces.stacked([nothing, *(piece for _, _, piece in heap)])
    margins = np.array([margin for margin, _, _ in heap], dtype=np.float64)
    return OpenParts(WAY, {**vars(stack), "margins": margins, **numbers(pieces=pieces, near_misses=near_misses)})


def _restored(left: OpenParts, query: Query, like: _Pieces) -> tuple[Vector, _Pieces]:
    """Margins and pieces from arrays."""
    arrays = left.stacks({**vars(like), "margins": np.zeros(0)})
    margins, pieces = arrays.pop("margins"), _Pieces(**arrays)
    ends = ((pieces.disjuncts, len(query.violation)), (pieces.units, query.graph.relu_count))
    if left.way != WAY or any(((places < 0) | (places >= count)).any() for places, count in ends):
        raise misfit("pieces of another kind")
    if (np.abs(pieces.signs) > 1).any() or (pieces.choices < 0).any() or (pieces.choices[:, :2] > 1).any():
        raise misfit("signs or slopes out of their range")
    return margins, pieces


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
