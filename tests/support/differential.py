"""Engines against the truth of small queries, by enumeration in rationals and by Z3."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from unittest.mock import patch

from pysmt.shortcuts import Solver

from exporters import query_formula
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.queries.query import Query
from veriflow.testing.enumeration import violating_point
from verify import Outcome, Verdict, verify
from verify.bab.options import SearchOptions
from verify.bab.relu_split import search_splits
from verify.bab.search import DomainSearch
from verify.bab.tightening import Tightening


def exact_answer(query: Query) -> Outcome:
    """By enumeration, which owes nothing to bounds, programs or solvers."""
    return Outcome.HOLDS if violating_point(query) is None else Outcome.VIOLATED


def z3_answer(query: Query) -> Outcome:
    """What the smt engine asks Z3, in this process: faster than enumeration where there are many ReLUs."""
    with Solver(name="z3", logic="QF_LRA") as solver:
        solver.add_assertion(query_formula(query, symbolic_bounds(query.graph, query.region)))
        return Outcome.VIOLATED if solver.solve() else Outcome.HOLDS


def float_answers(query: Query, *, attack: bool = True) -> dict[str, Verdict]:
    """Those of bab and milp; without their attacks a violation is left to what has to prove that there is none."""
    with ExitStack() as stack:
        if not attack:
            stack.enter_context(patch.object(sys.modules["verify.witness.attack"], "find_violation", return_value=None))
        return {name: verify(query, name, timeout=600) for name in ("bab", "milp")}


def splits_are_right(query: Query, truth: Outcome) -> bool:
    """Whether branch and bound on ReLUs, which bab uses in many dimensions, finds the truth or leaves a near miss."""
    found = search_splits(query, SearchOptions(time.monotonic() + 600))
    if found.witness is not None:
        return truth is Outcome.VIOLATED
    return not found.open and (bool(found.near_misses) or truth is Outcome.HOLDS)


def proved_by_bounds_alone(query: Query, *, most_domains: int = 60) -> bool:
    """Whether bounds close every piece, refined before each round; no program decides a leaf, and no point is tried."""
    bare = {"LEAF_UNITS": -1, "LARGER_LEAVES": -1}
    with ExitStack() as stack:
        stack.enter_context(patch.multiple("verify.bab.relu_split", **bare))
        stack.enter_context(patch.multiple("verify.bab.tightening", FIRST=1, MOST=64))
        stack.enter_context(patch.object(Tightening, "is_due", lambda self, pieces: not self.is_over))
        stack.enter_context(patch.object(DomainSearch, "try_points", lambda *_: None))
        return not search_splits(query, SearchOptions(time.monotonic() + 600, most_domains=most_domains)).open


def proved_by_programs_alone(query: Query, *, most_domains: int = 40) -> bool:
    """Whether semidefinite programs close every piece; nothing else is asked, and no point is tried."""
    with ExitStack() as stack:
        free = {"CHEAPEST": 0, "PRICE": float("inf"), "LEAF_UNITS": 0, "is_known": lambda region: True}
        stack.enter_context(patch.multiple("verify.bab.sdp_tree", **free))
        stack.enter_context(patch.object(DomainSearch, "try_points", lambda *_: None))
        stack.enter_context(patch.object(DomainSearch, "decide_leaf", lambda *_: True))
        return not search_splits(query, SearchOptions(time.monotonic() + 600, most_domains=most_domains)).open
