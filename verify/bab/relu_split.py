"""Branch and bound on ReLUs: for regions of many dimensions, where halving one coordinate hardly shrinks anything.

Pieces with the worst margin come first, so that the proof or the violation is looked for where it is hardest. Every margin
that closes a piece is a proved one. The bounds that all pieces share are refined on the way, with about as much work as the
search has had by then; pieces that were bounded before that are bounded again when it is their turn, rather than split.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.bounds.alpha_crown import exclude
from veriflow.piecewise.bounds.tensor_bounds import LinearBounds
from veriflow.queries.query import Query
from veriflow.regions.region import Region

from ..witness.attack import RepeatedAttack
from .box_domains import nearest_first
from .frontier import Arrays, OpenParts, misfit, numbers
from .relu_domains import ReluPieces, ReluTree
from .sdp_tree import SemidefiniteTrees
from .search import LEAF_UNITS, PieceSearch, piece_of
from .tightening import Refinement

BATCH = 256
WAY = "signs of units"
"""What the parts of this search are."""

LARGER_LEAVES, MANY = 40, 3000
"""Pieces of so many unstable units are leaves when many have been looked at: near to a violation bounds hardly close one."""

_Entry = tuple[float, int, ReluPieces]
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
    _, places = nearest_first(query)
    if not places.size:
        return state
    root = exclude(query.graph, query.region, query.arrays.conjunctions.chosen(places))
    if root.excluded.all():
        return state
    refinement = Refinement(query.graph, query.region, root)
    rows, limits = np.zeros((len(query.violation), root.rows.shape[-1])), np.zeros(len(query.violation))
    rows[places], limits[places] = root.rows, root.limits
    tree = ReluTree(query.graph, query.region, root.bounds, rows, limits)
    asked = np.flatnonzero(~root.excluded)
    known = dict(zip(places[asked].tolist(), root.margins[asked].tolist(), strict=True))
    trees = SemidefiniteTrees(query, tree, known)
    # what is known of the root is in the order of places, and rows are numbered as the query's disjuncts are
    whole = replace(tree.whole(asked, root.relaxation, root.ended.losses), rows=places[asked])
    heap: list[_Entry] = []
    counter, fresh = itertools.count(), 0

    def tell() -> None:
        state.open, state.margin = len(heap), heap[0][0] if heap else None
        counts = numbers(pieces=state.pieces, near_misses=state.near_misses)
        state.left = partial(_left, list(heap), whole, {**counts, **refinement.kept()})
        report(state)

    def push(margins: Vector, pieces: ReluPieces) -> None:
        for place, margin in enumerate(margins.tolist()):
            heapq.heappush(heap, (margin, next(counter), pieces[place : place + 1]))

    if left is None:
        push(root.margins[asked], whole)
    else:
        state.pieces, state.near_misses = left.count("pieces"), left.count("near_misses")
        push(*_restored(left, query, whole))
        refinement.restore(left)
        tree.bounds = refinement.bounds
    while heap:
        tell()
        if attack and state.witness is None:
            state.witness = attack.after(state.pieces + int(trees.work) + 1)
        late = time.monotonic() > deadline or state.pieces > most_pieces
        if state.witness is not None or late or state.is_full or state.is_vain:
            return state
        if refinement.is_due(state.pieces):
            refinement.tighten(deadline)
            tree.bounds, fresh = refinement.bounds, next(counter)
        if trees.is_due(state.pieces):
            worst_last = sorted(((int(piece.rows[0]), margin) for margin, _, piece in heap), reverse=True)
            closed = trees.step(dict(worst_last), state, deadline)
            heap = [entry for entry in heap if entry[2].rows[0] != closed]
            heapq.heapify(heap)
            continue
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        old, new = ([entry for entry in taken if (entry[1] < fresh) is is_old] for is_old in (True, False))
        pieces = [ReluPieces.stacked([piece for _, _, piece in part]) for part in (old, new) if part]
        pieces[-1] = pieces[-1].children() if new else pieces[-1]
        margins = [margin for margin, _, _ in old] + [margin for margin, _, _ in new for _ in range(2)]
        push(*_examined(query, tree, ReluPieces.stacked(pieces), np.array(margins), state, deadline))
    tell()
    return state


def _left(heap: Sequence[_Entry], like: ReluPieces, others: Arrays) -> OpenParts:
    """Open pieces as arrays, in their order, and what else is kept."""
    heap = sorted(heap)
    nothing = ReluPieces(*(array[:0] for array in vars(like).values()))
    stack = ReluPieces.stacked([nothing, *(piece for _, _, piece in heap)])
    margins = np.array([margin for margin, _, _ in heap], dtype=np.float64)
    return OpenParts(WAY, {**vars(stack), "margins": margins, **others})


def _restored(left: OpenParts, query: Query, like: ReluPieces) -> tuple[Vector, ReluPieces]:
    """Margins and pieces from arrays."""
    arrays = left.stacks({**vars(like), "margins": np.zeros(0)})
    margins, pieces = arrays.pop("margins"), ReluPieces(**arrays)
    ends = ((pieces.rows, len(query.violation)), (pieces.units, query.graph.relu_count))
    if left.way != WAY or any(((places < 0) | (places >= count)).any() for places, count in ends):
        raise misfit("pieces of another kind")
    if (np.abs(pieces.signs) > 1).any() or (pieces.choices < 0).any() or (pieces.choices[:, ::2] > 1).any():
        raise misfit("signs or slopes out of their range")
    return margins, pieces


def _examined(
    query: Query, tree: ReluTree, pieces: ReluPieces, before: Vector, state: PieceSearch, deadline: float
) -> tuple[Vector, ReluPieces]:
    """Margins and pieces that stay open; a margin is never below the one ``before``."""
    bounded = tree.bounded(pieces)
    state.pieces += len(pieces.rows)
    is_open = ~(bounded.margins > 0)
    state.try_points(query, _extremes(query.region, bounded.found.ended, is_open))
    leaf = LEAF_UNITS if state.pieces < MANY else LARGER_LEAVES
    for place in np.flatnonzero(is_open & (bounded.unstable <= leaf)):
        if state.witness is None:
            inside, disjunct = piece_of(bounded.bounds, int(place)), query.violation[pieces.rows[place]]
            is_open[place] = state.decide_leaf(query, inside, disjunct, deadline)
    return np.maximum(bounded.margins, before)[is_open], bounded.pieces[is_open]


def _extremes(region: Region, ended: LinearBounds, is_open: NDArray[np.bool_]) -> Vector:
    """The points of the region at which the bounds of open pieces are attained."""
    if ended.at_vertices is None or region.vertices is None:
        return np.asarray(region.farthest(-ended.coefficients[is_open][:, 0]))
    if region.shares is not None:
        _, up, down = np.split(ended.at_vertices[is_open][:, 0], [1, 1 + region.dim], axis=-1)
        return np.asarray(region.farthest(down - up))
    return np.asarray(region.vertices[ended.at_vertices[is_open][:, 0].argmin(axis=-1)])
