"""The bab engine: an attack, then branch and bound on boxes in few dimensions, on ReLUs in many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.region import Region
from veriflow.runtime.deadline import OutOfTime, until

from ..bab.box_domains import FEW_DIMENSIONS
from ..bab.box_split import RadialSearch, search_box, search_radially
from ..bab.checkpoint import SearchFile
from ..bab.options import SearchOptions
from ..bab.progress import progress_text
from ..bab.relu_split import SIGNS, search_splits
from ..bab.search import MEMORY_FULL, DomainSearch
from ..witness.attack import RepeatedAttack
from ..witness.verdict import LATE, Outcome, Verdict
from .limits import Limits

BOTH_KINDS, TRIED = 5, 512
"""Dimensions of a ball from which on ReLUs are split before boxes are, and for how many domains."""

AnySearch = DomainSearch | RadialSearch


def verify_branch_and_bound(query: Query, limits: Limits) -> Verdict:
    """Decide a query over a box, a ball, a shell or a product of these, within its time limit.

    The checkpoint is written now and then and however the search ends.

    Raises:
        QueryError: a checkpoint of another query.
        StorageError: a checkpoint that cannot be read or written.
    """
    deadline = time.monotonic() + limits.timeout
    file = None if limits.checkpoint is None else SearchFile(limits.checkpoint, query)
    if file is not None and file.witness is not None:
        return Verdict(Outcome.VIOLATED, "the checkpoint has a violation, replayed exactly", file.witness)

    reported: list[AnySearch] = []

    def report(search: AnySearch) -> None:
        reported[:] = [search]
        if limits.report is not None:
            limits.report(progress_text(search, query))
        if file is not None:
            file.keep(search)

    try:
        with until(deadline):
            options = SearchOptions(deadline, report, None if file is None else file.frontier)
            verdict = _decided(query, options)
    except OutOfTime:
        verdict = _stopped(query, reported)
    finally:
        if file is not None:
            file.write()
    if file is None:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {file.failure}") if file.failure else verdict


def _decided(query: Query, options: SearchOptions[AnySearch]) -> Verdict:
    region = query.region
    few = region.dim <= FEW_DIMENSIONS or not query.graph.relus
    attack = RepeatedAttack(query, first=256, cut=8) if few else RepeatedAttack(query, first=1, cut=16)
    witness = attack.after(0)
    if witness is not None:
        return Verdict(Outcome.VIOLATED, "an attack found a violation, replayed exactly", witness)
    if not few:
        return _verdict(search_splits(query, options, attack), region)
    ball = region.ball
    if ball is None or ball.inner or not ball.radius:
        return _verdict(search_box(query, options, attack))
    frontier = options.frontier
    if region.dim >= BOTH_KINDS and query.graph.relus and (frontier is None or frontier.kind == SIGNS):
        found = search_splits(query, replace(options, most_domains=TRIED), attack)
        if found.witness is not None or not found.open:
            return _verdict(found)
        options = replace(options, frontier=None)
    return _radial_verdict(search_radially(query, ball, options, attack=attack), ball)


def _stopped(query: Query, reported: Sequence[AnySearch]) -> Verdict:
    """The verdict of a search that ran out of time within a round, from its last report."""
    for search in reported:
        if isinstance(search, DomainSearch) and (search.open or search.witness):
            return _verdict(search, query.region)
        if isinstance(search, RadialSearch) and query.region.ball:
            return _radial_verdict(search, query.region.ball)
    return Verdict(Outcome.UNKNOWN, f"{LATE} before the region was split")


def _radial_verdict(state: RadialSearch, ball: Ball) -> Verdict:
    if state.witness is not None:
        return Verdict(Outcome.VIOLATED, "a violation was found and replayed exactly", state.witness)
    if state.proved >= ball.radius:
        return Verdict(Outcome.HOLDS, _excluded(state.boxes, "boxes"))
    end = MEMORY_FULL if state.is_full else "the time limit"
    missed = "a near miss within the tolerance" if state.settled else end
    return Verdict(Outcome.UNKNOWN, f"{missed} leaves norms from {state.proved:.6g} open")


def _verdict(state: DomainSearch, split: Region | None = None) -> Verdict:
    """The verdict of a search; one by ReLUs names the region that it ``split``, whose L2 shells it fills."""
    if state.witness is not None:
        return Verdict(Outcome.VIOLATED, "a violation was found and replayed exactly", state.witness)
    if state.open and not state.gave_up:
        end = MEMORY_FULL if state.is_full else "the time limit"
        left = "1 piece stays" if state.open == 1 else f"{state.open} pieces stay"
        return Verdict(Outcome.UNKNOWN, f"{left} open at {end}, after bounds of {state.domains}")
    if state.near_misses:
        missed = "a near miss within the tolerance"
        if split is not None and split.has_round_hole:
            missed += ", or a violation inside of the L2 shell,"
        return Verdict(Outcome.UNKNOWN, f"{missed} stays open")
    return Verdict(Outcome.HOLDS, _excluded(state.domains, "pieces"))


def _excluded(count: int, parts: str) -> str:
    found = f"{count} {parts} cover the region, and their bounds exclude" if count > 1 else "bounds exclude"
    return f"{found} every violation"
