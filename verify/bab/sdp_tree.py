"""Trees of pieces that are bounded by semidefinite programs, beside the tree of linear bounds.

Such a bound costs as much as thousands of linear ones, but where many units are unstable at once it closes at its root what
takes these millions of pieces. So both searches go on side by side, and a row is closed as soon as one of them has closed it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy import linalg

from veriflow.numerics.arrays import Indices, Signs, Vector
from veriflow.piecewise.bounds.interior_point import InteriorPoint, Iterate
from veriflow.piecewise.bounds.sdp import NO_PAIRS, Lifting, lift
from veriflow.piecewise.graph import Affine
from veriflow.queries.query import Query
from veriflow.regions.region import Region
from veriflow.runtime.deadline import check_deadline

from ..witness.attack import climb
from .relu_domains import ReluTree
from .search import LEAF_UNITS, PieceSearch

STEPS, PRICE, CHEAPEST = 12, 7, 500
"""A bound takes about so many steps, each as much as entries · products² / (price · weights) linear ones; so many at least."""

CHEAP = 0.1
"""The least share of its price that a bound costs, if it is so much nearer to zero than the linear one."""

LARGEST = 3000
"""Products from which on no program is tried: the system for its steps has the square of that many numbers."""

PAIRS, MOST_PAIRS = 100, 1000
"""Pairs of units whose products are taken up for the parts of a piece, those that its moments have below zero by most, and how
many of its own may be kept beside."""

ROUNDED = 32
"""Inputs that are drawn by the moments of a piece that stays open, from which a violation is looked for."""

HOPELESS = 0.5
"""Gap, as a share of a bound, at which a piece is split if its bound stays below zero."""


def is_known(region: Region) -> bool:
    """Whether a region is a box, an L2 ball, or a product of these, but for its middle: nothing else is told to programs."""
    return all(part.p != 1 for part in region.parts)


class _Part(NamedTuple):
    """A piece: what its margin is at least, its number, row and signs, and pairs of sides for its program."""

    margin: float
    number: int
    row: int
    signs: Signs
    pairs: Indices


class SemidefiniteTrees:
    """A tree for each row of a `ReluTree`, of which linear ``margins`` are known, over the same bounds.

    Attributes:
        cost: number of linear bounds from which on the next piece is due. Pieces that close cost nothing, and others less
            where their bound is much above the linear ones.
        work: as many linear bounds as take about as long as all pieces have taken.
    """

    def __init__(self, query: Query, tree: ReluTree, margins: Mapping[int, float]) -> None:
        self.query, self.tree = query, tree
        graph = query.graph
        self._count = 0
        self._heap: list[_Part] = []
        for row, margin in margins.items():
            self._push(margin, row, np.zeros(graph.relu_count, dtype=np.int8), NO_PAIRS)
        self._balls = [(place, part.radius) for place, part in query.region.placed_parts if part.p == 2]
        weights = [weight for node in graph.nodes if isinstance(node, Affine) for _, weight in node.terms]
        self._weights = 1 + sum(weight.shape[0] * weight.shape[1] for weight in weights)
        entries, products = graph.input_size + graph.relu_count, graph.input_size + 4 * graph.relu_count
        self._fits = is_known(query.region) and products <= LARGEST
        self.cost, self.work = self._price(entries, products, STEPS), 0.0

    def is_due(self, count: int) -> bool:
        """Whether to bound a piece, when so many were bounded linearly."""
        return self._fits and bool(self._heap) and count >= self.cost

    def step(self, least: Mapping[int, float], state: PieceSearch, deadline: float) -> int | None:
        """Bound a piece of a row that is open, with its ``least`` linear margin; the row, if that closes it."""
        self._heap = [part for part in self._heap if part.row in least]
        if not self._heap:
            return None
        heapq.heapify(self._heap)
        part = heapq.heappop(self._heap)
        state.pieces += 1
        self._examine(part, least[part.row], state, deadline)
        return None if any(other.row == part.row for other in self._heap) else part.row

    def _examine(self, part: _Part, linear: float, state: PieceSearch, deadline: float) -> None:
        """Bound a piece, and keep what stays open of it."""
        tree, query, row = self.tree, self.query, part.row
        bounds = tree.bounds_of(part.signs)
        if any((bounds.lower[relu.input] > bounds.upper[relu.input]).any() for relu in tree.relus):
            return
        about = tree.rows[row], float(tree.limits[row])
        lifting = lift(tree.graph, query.region, bounds, part.signs, *about, part.pairs, self._balls)

        def is_enough(now: Iterate) -> bool:
            is_hopeless = now.bound + now.gap < 0 and now.gap < HOPELESS * -now.bound
            return is_hopeless or time.monotonic() > deadline or (now.bound > 0 and lifting.proved(now.values) > 0)

        found = InteriorPoint(lifting).maximise(is_enough)
        margin = lifting.proved(found.values)
        price = self._price(*lifting.shape, found.steps)
        self.work += price
        if margin > 0:
            return
        share = min(max(margin / linear, CHEAP), 1.0) if linear < 0 else 1.0
        self.cost += share * price
        points = torch.from_numpy(_rounded(lifting, found.moments, part.number))
        state.try_points(query, climb(query, query.region.project(points)).numpy())
        if state.witness is not None or time.monotonic() > deadline:
            self._push(part.margin, row, part.signs, part.pairs)
        elif len(lifting.units) > LEAF_UNITS:
            count, last = len(lifting.units), len(lifting.equal) - len(lifting.pairs)
            mean = found.moments[0] / found.moments[0, 0]
            costs = np.abs(found.values[:count] * lifting.values(mean)[:count])
            is_tight = found.values[last:-1] > found.slacks[last:-1]
            pairs = np.concatenate([lifting.pairs[is_tight][:MOST_PAIRS], lifting.violated(found.moments, PAIRS)])
            for sign in (1, -1):
                signs = part.signs.copy()
                signs[lifting.units[costs.argmax()]] = sign
                self._push(max(part.margin, margin), row, signs, np.unique(pairs, axis=0))
        elif state.decide_leaf(query, bounds, query.violation[row], deadline):
            self._push(part.margin, row, part.signs, part.pairs)

    def _push(self, margin: float, row: int, signs: Signs, pairs: Indices) -> None:
        self._count += 1
        heapq.heappush(self._heap, _Part(margin, self._count, row, signs, pairs))

    def _price(self, entries: int, products: int, steps: int) -> float:
        """As many linear bounds as take about as long."""
        return float(max(steps * entries * products**2 / (PRICE * self._weights), CHEAPEST))


def _rounded(lifting: Lifting, moments: Vector, seed: int) -> Vector:
    """The mean of some moments and normal points that have them, ``[ROUNDED, dim]``, as inputs of the graph.

    Source: Goemans and Williamson, *Improved Approximation Algorithms for Maximum Cut*, J. ACM 42, 1995, section 2.
    """
    rows = lifting.input.rows
    check_deadline()
    try:
        root = linalg.cholesky(moments / moments[0, 0], lower=True)  # its first column is the mean
    except (linalg.LinAlgError, ValueError):  # the latter where a number is not finite
        return np.zeros((1, len(rows)))
    draws = np.random.default_rng(seed).standard_normal((ROUNDED, len(root)))
    draws[0], draws[:, 0] = 0, 1
    return np.asarray(draws @ root.T @ rows.T)
