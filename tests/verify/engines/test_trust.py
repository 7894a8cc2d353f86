"""Enumeration, Z3, branch and bound and mixed-integer programs never differ on small random queries, whatever the region."""

from collections import Counter

import pytest
from differential import (
    exact_answer,
    float_answers,
    proved_by_bounds_alone,
    proved_by_programs_alone,
    splits_are_right,
    z3_answer,
)
from shares import by_day
from small_queries import in_other_units, threshold_query
from tie_queries import near, tie_query

from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from verify import Outcome


def check_agreement(queries):
    """All answers, every other query without the attacks; what is left open must be near a threshold."""
    seen = Counter()
    for seed, query in queries:
        truth = exact_answer(query)
        seen[truth] += 1
        assert z3_answer(query) is truth, seed
        answers = float_answers(query, attack=bool(seed % 2))
        for name, verdict in answers.items():
            assert verdict.outcome in (truth, Outcome.UNKNOWN), (seed, name, verdict)
            assert verdict.outcome is truth or "toleran" in verdict.reason, (seed, name, verdict)
        if any(verdict.outcome is Outcome.UNKNOWN for verdict in answers.values()):
            seen[Outcome.UNKNOWN] += 1
            assert near(query, truth is Outcome.VIOLATED), (seed, answers)
        assert seed % 10 or splits_are_right(query, truth), seed
    assert min(seen[Outcome.HOLDS], seen[Outcome.VIOLATED]) >= 0.2 * len(queries), seen
    assert seen[Outcome.UNKNOWN] <= 0.4 * len(queries), seen


def ties(start, count):
    return [(seed, tie_query(seed)) for seed in range(start, start + count)]


def thresholds(start, count):
    return [(seed, threshold_query(seed)) for seed in range(start, start + count)]


@pytest.mark.parametrize("part", by_day(range(28), 1))
def test_engines_agree_at_ties(part):
    check_agreement(ties(66 * part, 66))


def test_engines_agree_where_numbers_use_all_their_bits():
    check_agreement(thresholds(0, 36))


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(1, 4))
def test_engines_agree_on_more_numbers_with_all_their_bits(part):
    check_agreement(thresholds(50 * part, 50))


def check_bounds(queries, prove=proved_by_bounds_alone):
    """Bounds alone prove nothing that is violated, also where units are of very different sizes."""
    proved = 0
    for seed, query in queries:
        holds = exact_answer(query) is Outcome.HOLDS
        for asked in (query, in_other_units(query, (10, 30, 60)[seed % 3], seed)):
            found = prove(asked)
            assert holds or not found, seed
            proved += found
    assert proved >= 0.2 * len(queries)


def test_refined_bounds_alone_prove_nothing_wrong():
    check_bounds(ties(0, 66)[::3])
    check_bounds(thresholds(200, 8))


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(12))
def test_refined_bounds_alone_prove_nothing_wrong_of_more(part):
    check_bounds(ties(2000 + 66 * part, 66))
    check_bounds(thresholds(300 + 30 * part, 30))


def test_semidefinite_programs_alone_prove_nothing_wrong():
    check_bounds(ties(1, 66)[::13], proved_by_programs_alone)
    check_bounds(thresholds(230, 3), proved_by_programs_alone)


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(12))
def test_semidefinite_programs_alone_prove_nothing_wrong_of_more(part):
    check_bounds(ties(3000 + 66 * part, 66), proved_by_programs_alone)
    check_bounds(thresholds(700 + 30 * part, 30), proved_by_programs_alone)


def test_the_queries_are_of_every_size():
    """From one ReLU to forty, in one to three dimensions, with every kind of region."""
    found = [tie_query(seed) for seed in range(66)]
    units = [query.graph.relu_count for query in found]
    assert min(units) == 1
    assert max(units) >= 36
    assert {query.region.dim for query in found} == {1, 2, 3}
    assert {type(query.region) for query in found} == {Ball, Box, Product}
