"""The violation of least norm in a ball, by searches in balls of growing radius."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from veriflow.queries.query import Query
from veriflow.regions.ball import Ball

from ..bab.box_domains import FEW_DIMENSIONS
from ..bab.box_split import RadialSearch, search_radially
from ..bab.frontier import Frontier, numbers
from ..bab.options import SearchOptions
from ..bab.relu_split import search_splits
from ..bab.search import DomainSearch
from ..witness.attack import drawn_in, nearest_violation
from ..witness.verdict import Witness
from .local_search import polished

GROWTH, STAGES = 1.5, 13
"""Factor between the radii of successive balls, and the number of balls: bounds are tight only near their radius."""


def _frontier(radius: float, proved: float, inner: Callable[[], Frontier] | None) -> Frontier:
    """The frontier of the search in the ball of a radius, with the radius that is proved."""
    found = Frontier("", {}) if inner is None else inner()
    return Frontier(found.kind, {**found.arrays, **numbers(radius=radius, proved=proved)})


def search_outwards(
    query: Query, ball: Ball, options: SearchOptions[RadialSearch], gap: float, known: Witness | None
) -> RadialSearch:
    """Both radii: up to which the property is proved in a ball, and from which it is refuted.

    Args:
        query: what is asked.
        ball: how far out to look.
        options: the frontier is that of an earlier call, and has the radius proved by it.
        gap: relative difference of both radii at which the search ends.
        known: the violation of least norm that the earlier call had found.

    Raises:
        StorageError: a frontier that is not of this query.
    """
    proved, begun, frontier = 0.0, 0.0, options.frontier
    if frontier is not None:
        proved, begun = min(frontier.number("proved"), ball.radius), frontier.number("radius")
        options = replace(options, frontier=frontier if frontier.kind and begun > proved else None)
    options.report(RadialSearch(proved, known.norm if known else math.inf, known))
    witness = known or nearest_violation(query, ball)
    state = RadialSearch(proved, witness.norm if witness else math.inf, witness)
    options.report(state)
    if ball.dim > FEW_DIMENSIONS and query.graph.relus:
        return grow_balls(query, ball, state, gap, options, begun)
    outermost = min(ball.radius, state.refuted)
    radii = [outermost / GROWTH**stage for stage in reversed(range(STAGES))]
    if options.frontier is not None:
        radii = [begun, *(radius for radius in radii if radius > begun)]
    boxes = 0

    def report(state: RadialSearch) -> None:
        state.frontier = partial(_frontier, radius, state.proved, state.frontier)
        options.report(state)

    for radius in radii:
        if radius <= proved and radius < outermost:
            continue
        inner = replace(ball, radius=radius)
        start = witness if radius >= outermost else None
        here = replace(options, report=report, frontier=options.frontier if radius == begun else None)
        state = search_radially(query, inner, here, gap=gap, start=start, proved=proved)
        state.boxes = boxes = boxes + state.boxes
        if state.witness is not None or state.proved < radius:
            break
        proved = state.proved
    if witness is not None and witness.norm < state.refuted:
        state.refuted, state.witness = witness.norm, witness
    return state


def grow_balls(
    query: Query, ball: Ball, state: RadialSearch, gap: float, options: SearchOptions[RadialSearch], begun: float
) -> RadialSearch:
    """Decide balls by splits of ReLUs: the next one is larger, or smaller where one was too hard.

    Each gets half of the remaining time. A violation is polished before the ball up to its norm, the hardest of all, is
    decided. The ball that an earlier search had ``begun`` comes first where its frontier was kept and no violation in it
    is known.
    """
    deadline, frontier = options.deadline, options.frontier
    limit, too_hard = min(ball.radius, state.refuted * (1 - gap)), math.inf
    radius, is_polished = min(limit, max(state.proved * GROWTH, limit / GROWTH**4)), False
    if frontier is not None and begun <= replace(ball, radius=limit).rounded_outward().radius:
        radius = min(begun, limit)
    while state.proved < limit and too_hard > state.proved * (1 + gap) and time.monotonic() < deadline:
        if state.witness is not None and not is_polished and radius * GROWTH > limit:
            state.witness = polished(query, state.witness, deadline=(3 * time.monotonic() + deadline) / 4)
            state.refuted, is_polished = state.witness.norm, True
            limit = state.refuted * (1 - gap)
            radius = min(radius, limit)
        options.report(state)
        inner = replace(ball, radius=radius).rounded_outward()
        here = query.at(inner)
        before = state.boxes

        def report(found: DomainSearch, before: int = before, radius: float = inner.radius) -> None:
            state.boxes, state.open = before + found.domains, found.open
            if found.witness is None:  # domains may be closed that hold the violation
                state.frontier = partial(_frontier, radius, state.proved, found.frontier)
            options.report(state)

        half = (time.monotonic() + deadline) / 2
        found = search_splits(here, SearchOptions(half, report, frontier if inner.radius == begun else None))
        state.boxes, frontier = before + found.domains, None
        if found.witness is not None:
            state.witness = drawn_in(here, found.witness)
            state.refuted, is_polished = state.witness.norm, False
            limit = state.refuted * (1 - gap)
        elif found.open or found.near_misses:
            too_hard = radius
        else:
            state.proved = inner.radius
            state.frontier = partial(_frontier, inner.radius, state.proved, None)
        if too_hard > limit:
            radius = min(limit, max(state.proved * GROWTH, limit / GROWTH**4))
        else:
            radius = math.sqrt(too_hard * max(state.proved, too_hard / GROWTH**4))
    return state
