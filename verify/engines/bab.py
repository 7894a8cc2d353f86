"""The bab engine: an attack, then branch and bound on boxes in few dimensions, on ReLUs in many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.region import Region
from veriflow.runtime.deadline import OutOfTime, until

from ..bab.box_domains import FEW_DIMENSIONS
from ..bab.box_split import RadialSearch, search_box, search_radially
from ..bab.checkpoint import SearchFile
from ..bab.frontier import OpenParts
from ..bab.progress import progress_text
from ..bab.relu_split import WAY, search_splits
from ..bab.search import MOST_PIECES, PieceSearch
from ..witness.attack import RepeatedAttack
from ..witness.verdict import LATE, Outcome, Verdict

BOTH_WAYS, TRIED = 5, 512
"""Dimensions of a ball from which on splitting ReLUs is tried before boxes, and for how many pieces."""

Report = Callable[[PieceSearch | RadialSearch], None]

FULL = f"the memory's limit of {MOST_PIECES} open pieces"


def verify_branch_and_bound(
    query: Query,
    *,
    timeout: float,
    checkpoint: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Verdict:
    """Decide a query over a box, a ball, a shell or a product of these.

    Args:
        query: what to decide.
        timeout: seconds.
        checkpoint: a file that keeps what is open, now and then and however the search ends, and from which it goes on.
        report: called with a line on how it gets on.

    Raises:
        QueryError: a checkpoint of another query.
        StorageError: a checkpoint that cannot be read or written.
    """
    deadline = time.monotonic() + timeout
    file = None if checkpoint is None else SearchFile(checkpoint, query)
    if file is not None and file.witness is not None:
        return Verdict(Outcome.VIOLATED, "the checkpoint has a violation, replayed exactly", file.witness)

    told: list[PieceSearch | RadialSearch] = []

    def tell(search: PieceSearch | RadialSearch) -> None:
        told[:] = [search]
        if report is not None:
            report(progress_text(search, query))
        if file is not None:
            file.keep(search)

    try:
        with until(deadline):
            verdict = _decided(query, deadline, None if file is None else file.left, tell)
    except OutOfTime:
        verdict = _stopped(query, told)
    finally:
        if file is not None:
            file.write()
    if file is None:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {file.failure}") if file.failure else verdict


def _decided(query: Query, deadline: float, left: OpenParts | None, report: Report) -> Verdict:
    region = query.region
    few = region.dim <= FEW_DIMENSIONS or not query.graph.relus
    attack = RepeatedAttack(query, first=256, cut=8) if few else RepeatedAttack(query, first=1, cut=16)
    witness = attack.after(0)
    if witness is not None:
        return Verdict(Outcome.VIOLATED, "an attack found a violation, replayed exactly", witness)
    if not few:
        return _verdict(search_splits(query, attack, deadline=deadline, report=report, left=left), region)
    ball = region.ball
    if ball is None or ball.inner or not ball.radius:
        return _verdict(search_box(query, region, attack, deadline=deadline, report=report, left=left))
    if region.dim >= BOTH_WAYS and query.graph.relus and (left is None or left.way == WAY):
        found = search_splits(query, attack, deadline=deadline, most_pieces=TRIED, report=report, left=left)
        if found.witness is not None or not found.open:
            return _verdict(found)
        left = None
    return _on_ball(query, ball, attack, deadline, left, report)


def _stopped(query: Query, told: Sequence[PieceSearch | RadialSearch]) -> Verdict:
    """The verdict of a search that ran out of time within a step, from what it last told of itself."""
    for search in told:
        if isinstance(search, PieceSearch) and (search.open or search.witness):
            return _verdict(search, query.region)
        if isinstance(search, RadialSearch) and query.region.ball:
            return _radial_verdict(search, query.region.ball)
    return Verdict(Outcome.UNKNOWN, f"{LATE} before the region was split")


def _on_ball(
    query: Query, ball: Ball, attack: RepeatedAttack, deadline: float, left: OpenParts | None, report: Report
) -> Verdict:
    state = search_radially(query, ball, None, gap=0.0, deadline=deadline, attack=attack, report=report, left=left)
    return _radial_verdict(state, ball)


def _radial_verdict(state: RadialSearch, ball: Ball) -> Verdict:
    if state.witness is not None:
        return Verdict(Outcome.VIOLATED, "a violation was found and replayed exactly", state.witness)
    if state.proved >= ball.radius:
        return Verdict(Outcome.HOLDS, _excluded(state.boxes, "boxes"))
    end = FULL if state.is_full else "the time limit"
    missed = "a near miss within the tolerance" if state.settled else end
    return Verdict(Outcome.UNKNOWN, f"{missed} leaves norms from {state.proved:.6g} open")


def _verdict(state: PieceSearch, split: Region | None = None) -> Verdict:
    """What a search found; of one by ReLUs with the region that it ``split``, whose L2 shells it takes for balls."""
    if state.witness is not None:
        return Verdict(Outcome.VIOLATED, "a violation was found and replayed exactly", state.witness)
    if state.open and not state.is_vain:
        end = FULL if state.is_full else "the time limit"
        left = "1 piece stays" if state.open == 1 else f"{state.open} pieces stay"
        return Verdict(Outcome.UNKNOWN, f"{left} open at {end}, after bounds of {state.pieces}")
    if state.near_misses:
        missed = "a near miss within the tolerance"
        if split is not None and split.has_round_hole:
            missed += ", or a violation inside of the L2 shell,"
        return Verdict(Outcome.UNKNOWN, f"{missed} stays open")
    return Verdict(Outcome.HOLDS, _excluded(state.pieces, "pieces"))


def _excluded(count: int, parts: str) -> str:
    found = f"{count} {parts} cover the region, and their bounds exclude" if count > 1 else "bounds exclude"
    return f"{found} every violation"
