"""Branch and bound on ReLUs with semidefinite programs as bounds, beside that with linear ones.

A semidefinite bound costs as much as thousands of linear ones. Where many units are unstable at once, it closes at the root
what linear bounds close after millions of splits. Both searches run in turn; a row is closed as soon as one of them closes it.
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
from veriflow.piecewise.bounds.sdp import NO_PAIRS, SemidefiniteRelaxation, semidefinite_relaxation
from veriflow.piecewise.graph import Affine
from veriflow.queries.query import Query
from veriflow.regions.region import Region
from veriflow.runtime.deadline import check_deadline

from ..witness.attack import climb
from .relu_domains import ReluTree
from .search import LEAF_UNITS, DomainSearch

STEPS, PRICE, CHEAPEST = 12, 7, 500
"""Cost model, in linear bounds per semidefinite one: STEPS · entries · products² / (PRICE · weights), CHEAPEST at least."""

CHEAP = 0.1
"""A bound that closes nothing is charged margin / linear margin of its price, and at least this share."""

LARGEST = 3000
"""Largest number of products for which a program is tried: its linear systems have the square of that many numbers."""

PAIRS, MOST_PAIRS = 100, 1000
"""Pairs of sides whose product ≥ 0 the children of a domain add: those that its moments violate most, and tight ones kept."""

ROUNDED = 32
"""Inputs drawn from the moments of a domain that stays open; an attack starts from them."""

HOPELESS = 0.5
"""A program ends early, and its domain is split, once bound + gap < 0 and the gap is below this share of |bound|."""


def is_known(region: Region) -> bool:
    """Whether programs state all of a region but its holes: boxes, L2 and L∞ balls, and products of these."""
    return all(part.p != 1 for part in region.parts)


class _Domain(NamedTuple):
    """A domain: its proved margin, its number, row and signs, and pairs of sides whose products its program has."""

    margin: float
    number: int
    row: int
    signs: Signs
    pairs: Indices


class SemidefiniteTrees:
    """A tree for each row of a `ReluTree` whose linear ``margins`` are given, over the same bounds.

    Attributes:
        cost: number of linear bounds after which the next domain is due. A domain that closes is charged nothing, others
            less than their price where their bound is much better than the linear one.
        work: time that all domains have taken, in linear bounds.
    """

    def __init__(self, query: Query, tree: ReluTree, margins: Mapping[int, float]) -> None:
        self.query, self.tree = query, tree
        graph = query.graph
        self._count = 0
        self._heap: list[_Domain] = []
        for row, margin in margins.items():
            self._push(margin, row, np.zeros(graph.relu_count, dtype=np.int8), NO_PAIRS)
        self._balls = [(place, part.radius) for place, part in query.region.placed_parts if part.p == 2]
        weights = [weight for node in graph.nodes if isinstance(node, Affine) for _, weight in node.terms]
        self._weights = 1 + sum(weight.shape[0] * weight.shape[1] for weight in weights)
        entries, products = graph.input_size + graph.relu_count, graph.input_size + 4 * graph.relu_count
        self._fits = is_known(query.region) and products <= LARGEST
        self.cost, self.work = self._price(entries, products, STEPS), 0.0

    def is_due(self, count: int) -> bool:
        """Whether to bound a domain, after ``count`` linear bounds."""
        return self._fits and bool(self._heap) and count >= self.cost

    def step(self, least: Mapping[int, float], state: DomainSearch, deadline: float) -> int | None:
        """Bound the worst domain of the open rows, whose ``least`` linear margins are given; the row, if that closes it."""
        self._heap = [domain for domain in self._heap if domain.row in least]
        if not self._heap:
            return None
        heapq.heapify(self._heap)
        domain = heapq.heappop(self._heap)
        state.domains += 1
        self._examine(domain, least[domain.row], state, deadline)
        return None if any(other.row == domain.row for other in self._heap) else domain.row

    def _examine(self, domain: _Domain, linear: float, state: DomainSearch, deadline: float) -> None:
        """Bound a domain; push its children, or the domain itself where the time is up."""
        tree, query, row = self.tree, self.query, domain.row
        bounds = tree.bounds_of(domain.signs)
        if any((bounds.lower[relu.input] > bounds.upper[relu.input]).any() for relu in tree.relus):
            return
        about = tree.rows[row], float(tree.limits[row])
        relaxation = semidefinite_relaxation(
            tree.graph, query.region, bounds, domain.signs, *about, domain.pairs, self._balls
        )

        def is_enough(now: Iterate) -> bool:
            is_hopeless = now.bound + now.gap < 0 and now.gap < HOPELESS * -now.bound
            return is_hopeless or time.monotonic() > deadline or (now.bound > 0 and relaxation.proved(now.values) > 0)

        found = InteriorPoint(relaxation).maximise(is_enough)
        margin = relaxation.proved(found.values)
        price = self._price(*relaxation.shape, found.steps)
        self.work += price
        if margin > 0:
            return
        share = min(max(margin / linear, CHEAP), 1.0) if linear < 0 else 1.0
        self.cost += share * price
        points = torch.from_numpy(_rounded(relaxation, found.moments, domain.number))
        state.try_points(query, climb(query, query.region.project(points)).numpy())
        if state.witness is not None or time.monotonic() > deadline:
            self._push(domain.margin, row, domain.signs, domain.pairs)
        elif len(relaxation.units) > LEAF_UNITS:
            count, last = len(relaxation.units), len(relaxation.equal) - len(relaxation.pairs)
            mean = found.moments[0] / found.moments[0, 0]
            costs = np.abs(found.values[:count] * relaxation.values(mean)[:count])
            is_tight = found.values[last:-1] > found.slacks[last:-1]
            pairs = np.concatenate([relaxation.pairs[is_tight][:MOST_PAIRS], relaxation.violated(found.moments, PAIRS)])
            for sign in (1, -1):
                signs = domain.signs.copy()
                signs[relaxation.units[costs.argmax()]] = sign
                self._push(max(domain.margin, margin), row, signs, np.unique(pairs, axis=0))
        elif state.decide_leaf(query, bounds, query.violation[row], deadline):
            self._push(domain.margin, row, domain.signs, domain.pairs)

    def _push(self, margin: float, row: int, signs: Signs, pairs: Indices) -> None:
        self._count += 1
        heapq.heappush(self._heap, _Domain(margin, self._count, row, signs, pairs))

    def _price(self, entries: int, products: int, steps: int) -> float:
        """The price of a bound, in linear bounds."""
        return float(max(steps * entries * products**2 / (PRICE * self._weights), CHEAPEST))


def _rounded(relaxation: SemidefiniteRelaxation, moments: Vector, seed: int) -> Vector:
    """The mean of some moments and normal points that have them, ``[ROUNDED, dim]``, as inputs of the graph.

    Source: Goemans and Williamson, *Improved Approximation Algorithms for Maximum Cut*, J. ACM 42, 1995, section 2.
    """
    rows = relaxation.input.rows
    check_deadline()
    try:
        root = linalg.cholesky(moments / moments[0, 0], lower=True)  # its first column is the mean
    except (linalg.LinAlgError, ValueError):  # the latter where a number is not finite
        return np.zeros((1, len(rows)))
    draws = np.random.default_rng(seed).standard_normal((ROUNDED, len(root)))
    draws[0], draws[:, 0] = 0, 1
    return np.asarray(draws @ root.T @ rows.T)
