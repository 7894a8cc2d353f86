"""Branch and bound on ReLUs, for regions of many dimensions, where halving boxes gains little.

The domain with the least margin is split first. A domain is closed by a proved margin alone (β-CROWN, or a program in small
ones). The bounds on units that all domains share are tightened from time to time, for about as much work as the search
itself. A domain that was bounded before the last tightening is bounded again before it is split.

Source: Wang et al., *Beta-CROWN: Efficient Bound Propagation with Per-neuron Split Constraints for Neural Network
Robustness Verification*, NeurIPS 2021.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.tensor_bounds import LinearBounds
from veriflow.queries.query import Query
from veriflow.regions.region import Region

from ..witness.attack import RepeatedAttack
from .box_domains import nearest_first
from .frontier import Arrays, Frontier, misfit, numbers
from .options import SearchOptions
from .relu_domains import ReluDomains, ReluTree
from .sdp_tree import SemidefiniteTrees
from .search import LEAF_UNITS, DomainSearch, domain_at
from .tightening import Tightening

BATCH = 256
SIGNS = "signs of units"
"""The kind of domains of this search."""

LARGER_LEAVES, MANY = 40, 3000
"""Unstable units up to which a domain is a leaf once MANY were bounded: near a violation bounds alone close few."""

_Entry = tuple[float, int, ReluDomains]
"""The margin of one domain, its number, and the domain."""


def search_splits(
    query: Query,
    options: SearchOptions[DomainSearch],
    attack: RepeatedAttack | None = None,
) -> DomainSearch:
    """Close every domain of the region, or find a violation, or stop at one of the limits.

    An attack, where one is given, goes on between the rounds.

    Raises:
        StorageError: a frontier that is not of this query.
    """
    state, frontier, deadline = DomainSearch(), options.frontier, options.deadline
    _, places = nearest_first(query)
    if not places.size:
        return state
    root = optimised_bounds(query.graph, query.region, query.arrays.conjunctions.chosen(places))
    if root.excluded.all():
        return state
    tightening = Tightening(query.graph, query.region, root)
    rows, limits = np.zeros((len(query.violation), root.rows.shape[-1])), np.zeros(len(query.violation))
    rows[places], limits[places] = root.rows, root.limits
    tree = ReluTree(query.graph, query.region, root.bounds, rows, limits)
    asked = np.flatnonzero(~root.excluded)
    known = dict(zip(places[asked].tolist(), root.margins[asked].tolist(), strict=True))
    trees = SemidefiniteTrees(query, tree, known)
    # what is known of the root is in the order of places, and rows are numbered as the query's disjuncts are
    whole = replace(tree.whole(asked, root.parameters, root.linear.losses), rows=places[asked])
    heap: list[_Entry] = []
    counter, fresh = itertools.count(), 0

    def report() -> None:
        state.open, state.margin = len(heap), heap[0][0] if heap else None
        counts = numbers(pieces=state.domains, near_misses=state.near_misses)
        state.frontier = partial(_frontier, list(heap), whole, {**counts, **tightening.kept()})
        options.report(state)

    def push(margins: Vector, domains: ReluDomains) -> None:
        for place, margin in enumerate(margins.tolist()):
            heapq.heappush(heap, (margin, next(counter), domains[place : place + 1]))

    if frontier is None:
        push(root.margins[asked], whole)
    else:
        state.domains, state.near_misses = frontier.count("pieces"), frontier.count("near_misses")
        push(*_restored(frontier, query, whole))
        tightening.restore(frontier)
        tree.bounds = tightening.bounds
    while heap:
        report()
        if attack and state.witness is None:
            state.witness = attack.after(state.domains + int(trees.work) + 1)
        late = time.monotonic() > deadline or state.domains > options.most_domains
        if state.witness is not None or late or state.is_full or state.gave_up:
            return state
        if tightening.is_due(state.domains):
            tightening.tighten(deadline)
            tree.bounds, fresh = tightening.bounds, next(counter)
        if trees.is_due(state.domains):
            worst_last = sorted(((int(domain.rows[0]), margin) for margin, _, domain in heap), reverse=True)
            closed = trees.step(dict(worst_last), state, deadline)
            heap = [entry for entry in heap if entry[2].rows[0] != closed]
            heapq.heapify(heap)
            continue
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        old, new = ([entry for entry in taken if (entry[1] < fresh) is is_old] for is_old in (True, False))
        domains = [ReluDomains.stacked([domain for _, _, domain in part]) for part in (old, new) if part]
        domains[-1] = domains[-1].children() if new else domains[-1]
        margins = [margin for margin, _, _ in old] + [margin for margin, _, _ in new for _ in range(2)]
        push(*_examined(query, tree, ReluDomains.stacked(domains), np.array(margins), state, deadline))
    report()
    return state


def _frontier(heap: Sequence[_Entry], like: ReluDomains, others: Arrays) -> Frontier:
    """Open domains as arrays, the least margin first, and the other arrays to keep."""
    heap = sorted(heap)
    nothing = ReluDomains(*(array[:0] for array in vars(like).values()))
    stack = ReluDomains.stacked([nothing, *(domain for _, _, domain in heap)])
    margins = np.array([margin for margin, _, _ in heap], dtype=np.float64)
    return Frontier(SIGNS, {**vars(stack), "margins": margins, **others})


def _restored(frontier: Frontier, query: Query, like: ReluDomains) -> tuple[Vector, ReluDomains]:
    """Margins and domains from arrays."""
    arrays = frontier.stacks({**vars(like), "margins": np.zeros(0)})
    margins, domains = arrays.pop("margins"), ReluDomains(**arrays)
    ends = ((domains.rows, len(query.violation)), (domains.units, query.graph.relu_count))
    if frontier.kind != SIGNS or any(((places < 0) | (places >= count)).any() for places, count in ends):
        raise misfit("pieces of another kind")
    if (np.abs(domains.signs) > 1).any() or (domains.choices < 0).any() or (domains.choices[:, ::2] > 1).any():
        raise misfit("signs or slopes out of their range")
    return margins, domains


def _examined(
    query: Query, tree: ReluTree, domains: ReluDomains, before: Vector, state: DomainSearch, deadline: float
) -> tuple[Vector, ReluDomains]:
    """Margins and domains that stay open; no margin is below that of the domain or of its parent ``before``."""
    bounded = tree.bounded(domains)
    state.domains += len(domains.rows)
    is_open = ~(bounded.margins > 0)
    state.try_points(query, _extremes(query.region, bounded.found.linear, is_open))
    leaf = LEAF_UNITS if state.domains < MANY else LARGER_LEAVES
    for place in np.flatnonzero(is_open & (bounded.unstable <= leaf)):
        if state.witness is None:
            inside, disjunct = domain_at(bounded.bounds, int(place)), query.violation[domains.rows[place]]
            is_open[place] = state.decide_leaf(query, inside, disjunct, deadline)
    return np.maximum(bounded.margins, before)[is_open], bounded.domains[is_open]


def _extremes(region: Region, ended: LinearBounds, is_open: NDArray[np.bool_]) -> Vector:
    """The points of the region at which the linear bounds of open domains are attained, ``[open, dim]``."""
    if ended.at_vertices is None or region.vertices is None:
        return np.asarray(region.farthest(-ended.coefficients[is_open][:, 0]))
    if region.shares is not None:
        _, up, down = np.split(ended.at_vertices[is_open][:, 0], [1, 1 + region.dim], axis=-1)
        return np.asarray(region.farthest(down - up))
    return np.asarray(region.vertices[ended.at_vertices[is_open][:, 0].argmin(axis=-1)])
