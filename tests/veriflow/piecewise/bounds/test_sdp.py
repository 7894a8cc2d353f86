"""Semidefinite bounds: their products hold, what they prove holds in rationals, and they see what linear bounds do not."""

import math
import time
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
import torch
from shares import by_day
from small_queries import exact, in_other_units, random_flow, random_network

from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.interior_point import InteriorPoint
from veriflow.piecewise.bounds.sdp import NO_PAIRS, _shift_to_semidefinite, semidefinite_relaxation
from veriflow.piecewise.evaluate import evaluate, evaluate_exact
from veriflow.piecewise.graph import compose
from veriflow.queries.properties import classified_as
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.testing.enumeration import violating_point
from verify import Outcome
from verify.bab.options import SearchOptions
from verify.bab.relu_domains import ReluTree
from verify.bab.relu_split import search_splits
from verify.bab.sdp_tree import SemidefiniteTrees, _rounded, is_known
from verify.bab.search import DomainSearch

REGIONS = [Ball(math.inf, 0.6, 4), Box(np.array([-0.4, 0.1, -1, 0.25]), np.array([0.3, 0.7, 1, 0.25])), Ball(2, 0.9, 4)]


def piece(seed, region, split=0, power=0):
    """A query, its tree, and a piece in which some units are as they are at one point of the region."""
    rng = np.random.default_rng(seed)
    graph = compose(random_flow(rng, 4, 1, 6, depth=1), random_network(rng, (4, 6, 6, 2)))
    query = network_query(graph, region, classified_as(0, -1.0))
    if power:
        query = in_other_units(query, power, seed)
    root = optimised_bounds(query.graph, region, query.arrays.conjunctions)
    tree = ReluTree(query.graph, region, root.bounds, root.rows, root.limits)
    points = rng.uniform(region.lower, region.upper, (2000, 4))
    if balls(region):
        points = points[np.linalg.norm(points, axis=1) <= region.radius]
    points = points[:400]
    values = evaluate(query.graph, torch.from_numpy(points))
    inputs = np.concatenate([values[relu.input].numpy() for relu in query.graph.relus], axis=1)
    signs = np.zeros(query.graph.relu_count, dtype=np.int8)
    chosen = rng.permutation(len(signs))[:split]
    signs[chosen] = np.where(inputs[0, chosen] > 0, 1, -1)
    inside = np.all((signs == 0) | (signs * inputs >= 0), axis=1)
    return query, tree, signs, points[inside], inputs[inside]


def balls(region):
    return [(slice(0, region.dim), region.radius)] if isinstance(region, Ball) and region.p == 2 else []


def relaxed(query, tree, signs, pairs=NO_PAIRS):
    limit = float(tree.limits[0])
    return semidefinite_relaxation(
        tree.graph, query.region, tree.bounds_of(signs), signs, tree.rows[0], limit, pairs, balls(query.region)
    )


def all_pairs(units):
    return np.stack(np.triu_indices(2 * units, 1), axis=-1)


@pytest.mark.parametrize("split", [0, 3, 8])
@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("seed", by_day(range(4), 1))
def test_products_are_zero_or_less_and_the_matrix_adds_them_up(seed, region, split):
    query, tree, signs, points, inputs = piece(seed, region, split)
    relaxation = relaxed(query, tree, signs, all_pairs(len(signs)))
    upper = np.concatenate([tree.bounds_of(signs).upper[relu.input] for relu in tree.relus])[relaxation.units]
    free = region.lower < region.upper
    ends = np.maximum(np.abs(region.lower), np.abs(region.upper))[free]
    units = np.ldexp(1.0, np.frexp(np.concatenate([np.full(1, 0.5), ends, upper]))[1])  # powers of two above them
    outputs = np.maximum(inputs[:, relaxation.units], 0)
    x = np.concatenate([np.ones((len(points), 1)), points[:, free], outputs], axis=1) / units
    assert np.abs(x).max() <= 1
    assert np.allclose(x @ relaxation.input.rows.T, points)
    values = np.stack([relaxation.values(one) for one in x])
    assert np.abs(values[:, relaxation.equal]).max(initial=0) < 1e-12
    assert values[:, ~relaxation.equal].max() < 1e-12
    assert len(relaxation.pairs) > 0
    weights = np.append(np.random.default_rng(seed).uniform(-1, 1, relaxation.shape[1]), 0.75)
    margins = tree.limits[0] - evaluate(tree.graph, torch.from_numpy(points))[tree.graph.output].numpy() @ tree.rows[0]
    found = np.einsum("bi,ij,bj->b", x, relaxation.matrix(weights), x)
    assert np.allclose(found, margins + values @ weights[:-1] - 0.75, atol=1e-9)


@pytest.mark.parametrize("power", [0, 8, 25])
@pytest.mark.parametrize("split", [0, 4])
@pytest.mark.parametrize("seed", by_day(range(6), 3))
def test_what_is_proved_holds_in_rationals(seed, split, power):
    query, tree, signs, points, _ = piece(seed, REGIONS[seed % 3], split, power)
    relaxation = relaxed(query, tree, signs, all_pairs(len(signs))[::7])
    method, seen = InteriorPoint(relaxation), []
    last = method.maximise(lambda now: seen.append(relaxation.proved(now.values)))
    row, limit = [Fraction(v) for v in tree.rows[0]], Fraction(float(tree.limits[0]))
    least = min(
        limit - sum(a * b for a, b in zip(row, evaluate_exact(tree.graph, exact(p))[tree.graph.output], strict=True))
        for p in points[:60]
    )
    assert all(Fraction(v) <= least for v in seen if v > -np.inf)
    assert relaxation.proved(last.values) > -np.inf
    assert relaxation.proved(last.values) <= last.bound
    assert last.bound - relaxation.proved(last.values) < 1e-6 * (1 + abs(last.bound))


def test_multipliers_of_the_wrong_sign_or_no_numbers_prove_nothing():
    query, tree, signs, _, _ = piece(0, REGIONS[0])
    relaxation = relaxed(query, tree, signs)
    values = InteriorPoint(relaxation).maximise(lambda now: False).values
    assert relaxation.proved(values) > -np.inf
    place = int(np.flatnonzero(~relaxation.equal)[0])
    for wrong in (-1e-9, np.nan, np.inf):
        changed = values.copy()
        changed[place] = wrong
        assert relaxation.proved(changed) == -np.inf
    higher = values.copy()
    higher[-1] += 1.0  # more than the multipliers show: what is proved falls
    assert relaxation.proved(higher) < relaxation.proved(values)


@pytest.mark.parametrize("seed", range(20))
def test_a_raised_matrix_is_positive_semidefinite_in_rationals(seed):
    """By Gauss's elimination: all pivots are above zero."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((6, 6 - seed % 3)) * 10.0 ** rng.integers(-6, 6, (6, 1))
    matrix = factor @ factor.T - (seed % 4 == 0) * np.diag(10.0 ** rng.integers(-9, 1, 6))
    matrix = (matrix + matrix.T) / 2
    raised = _shift_to_semidefinite(matrix)
    assert raised < np.inf
    rows = [[Fraction(v) for v in row] for row in matrix]
    for k in range(6):
        rows[k][k] += Fraction(raised)
    for k in range(6):
        assert rows[k][k] > 0
        for i in range(k + 1, 6):
            share = rows[i][k] / rows[k][k]
            rows[i] = [a - share * b for a, b in zip(rows[i], rows[k], strict=True)]


def test_no_number_makes_what_is_not_finite_semidefinite():
    assert _shift_to_semidefinite(np.array([[1.0, np.nan], [np.nan, 1.0]])) == np.inf


def test_pairs_raise_the_bound_and_linear_bounds_are_far_below():
    """A wide layer over a box, all units unstable: the worst of each of them never happens at one point."""
    rng = np.random.default_rng(2)
    graph = random_network(rng, (12, 24, 2))
    query = network_query(graph, Ball(math.inf, 1.0, 12), classified_as(0, -3.0))
    root = optimised_bounds(graph, query.region, query.arrays.conjunctions)
    tree = ReluTree(graph, query.region, root.bounds, root.rows, root.limits)
    signs = np.zeros(graph.relu_count, dtype=np.int8)
    relaxation = relaxed(query, tree, signs)
    first = InteriorPoint(relaxation).maximise(lambda now: False)
    assert first.bound > root.margins[0] + 0.2 * abs(root.margins[0])
    pairs = relaxation.violated(first.moments, 40)
    assert 0 < len(pairs) <= 40
    second = InteriorPoint(relaxed(query, tree, signs, pairs)).maximise(lambda now: False)
    assert second.bound > first.bound
    points = torch.from_numpy(rng.uniform(-1, 1, (20000, 12)))
    margins = tree.limits[0] - evaluate(graph, points)[graph.output].numpy() @ tree.rows[0]
    assert second.bound <= margins.min()


def narrow_query(seed, margin):
    rng = np.random.default_rng(seed)
    graph = random_network(rng, (3, 8, 6, 2))
    return network_query(graph, Ball(math.inf, 0.7, 3), classified_as(0, margin))


@pytest.mark.parametrize("seed", by_day(range(12), 5))
def test_a_search_by_programs_alone_decides_what_enumeration_decides(seed):
    query = narrow_query(seed, (-0.3, -0.1, 0.1)[seed % 3])
    truth = Outcome.HOLDS if violating_point(query) is None else Outcome.VIOLATED
    with patch.multiple("verify.bab.sdp_tree", CHEAPEST=0, PRICE=math.inf, LEAF_UNITS=4):
        found = search_splits(query, SearchOptions(time.monotonic() + 600))
    assert not found.near_misses
    assert found.open == 0 or found.witness is not None
    assert (found.witness is not None) == (truth is Outcome.VIOLATED)


@pytest.mark.parametrize(("p", "radius", "margin"), [(math.inf, 1.0, -6.5), (2, 3.0, -4.0)])
def test_programs_close_in_many_dimensions_what_linear_bounds_leave_open(p, radius, margin):
    rng = np.random.default_rng(5)
    graph = random_network(rng, (40, 40, 40, 2))
    query = network_query(graph, Ball(p, radius, 40), classified_as(0, margin))
    few = SearchOptions(time.monotonic() + 600, most_domains=4000)
    with patch.object(SemidefiniteTrees, "is_due", lambda *_: False):
        assert search_splits(query, few).open
    with patch.multiple("verify.bab.sdp_tree", PRICE=math.inf):
        found = search_splits(query, few)
    assert not found.open
    assert found.witness is None


def test_of_an_l2_ball_more_is_known_than_its_box():
    rng = np.random.default_rng(1)
    graph = random_network(rng, (24, 24, 24, 2))
    query = network_query(graph, Ball(2, 2.0, 24), classified_as(0, -2.0))
    root = optimised_bounds(graph, query.region, query.arrays.conjunctions)
    tree = ReluTree(graph, query.region, root.bounds, root.rows, root.limits)
    signs = np.zeros(graph.relu_count, dtype=np.int8)
    ball = relaxed(query, tree, signs)
    around = semidefinite_relaxation(graph, query.region, root.bounds, signs, tree.rows[0], float(tree.limits[0]))
    assert ball.shape[1] == around.shape[1] + 1
    within, without = (InteriorPoint(relaxation).maximise(lambda now: False) for relaxation in (ball, around))
    assert root.margins[0] < without.bound < 0 < ball.proved(within.values)
    points = rng.standard_normal((20000, 24))
    points *= 2.0 / np.linalg.norm(points, axis=1, keepdims=True)
    margins = tree.limits[0] - evaluate(graph, torch.from_numpy(points))[graph.output].numpy() @ tree.rows[0]
    assert within.bound <= margins.min()


def test_only_boxes_and_l2_balls_are_asked():
    assert is_known(Ball(math.inf, 1.0, 3, 0.5))
    assert all(is_known(region) for region in REGIONS)
    assert not is_known(Ball(1, 1.0, 3))
    assert not is_known(Product((Ball(2, 1.0, 3), Ball(1, 1.0, 3))))


def test_a_deadline_leaves_the_piece_open():
    query, tree, _, _, _ = piece(0, REGIONS[0])
    trees, state = SemidefiniteTrees(query, tree, {0: -1.0}), DomainSearch()
    with patch.object(DomainSearch, "try_points", lambda *_: None):
        assert trees.step({0: -1.0}, state, deadline=time.monotonic() - 1) is None
    with patch.multiple("verify.bab.sdp_tree", CHEAPEST=0, PRICE=math.inf):
        assert trees.step({}, state, deadline=time.monotonic() + 600) is None  # closed by the other search
    assert state.domains == 1
    assert not trees.is_due(10**9)


def test_violations_are_found_by_the_moments_of_a_piece():
    """No attack is asked, and points of linear bounds are not tried."""
    rng = np.random.default_rng(3)
    graph = random_network(rng, (30, 30, 30, 2))
    region = Ball(math.inf, 1.0, 30)
    points = rng.uniform(-1, 1, (20000, 30))
    outputs = evaluate(graph, torch.from_numpy(points))[graph.output].numpy()
    margin = float((outputs[:, 0] - outputs[:, 1]).min()) - 0.3  # below what is met by chance
    query = network_query(graph, region, classified_as(0, margin))
    root = optimised_bounds(graph, region, query.arrays.conjunctions)
    tree = ReluTree(graph, region, root.bounds, root.rows, root.limits)
    trees, state = SemidefiniteTrees(query, tree, {0: float(root.margins[0])}), DomainSearch()
    assert trees.step({0: float(root.margins[0])}, state, deadline=time.monotonic() + 600) is None
    assert state.witness is not None
    assert trees.work > 0


@pytest.mark.parametrize("seed", range(2))
def test_points_drawn_by_moments_have_them(seed, monkeypatch):
    query, tree, signs, _, _ = piece(seed, REGIONS[0])
    relaxation = relaxed(query, tree, signs)
    found = InteriorPoint(relaxation).maximise(lambda now: now.steps == 4)
    monkeypatch.setattr("verify.bab.sdp_tree.ROUNDED", 40_000)
    points = _rounded(relaxation, found.moments, seed)
    rows, moments = relaxation.input.rows, found.moments / found.moments[0, 0]
    mean = rows @ moments[0]
    spread = rows @ moments @ rows.T - np.outer(mean, mean)
    assert np.allclose(points[0], mean)
    assert np.allclose(points.mean(axis=0), mean, atol=0.03 * math.sqrt(spread.trace()))
    assert np.allclose(np.cov(points.T), spread, atol=0.03 * spread.trace())
    assert not _rounded(relaxation, np.nan * found.moments, seed).any()
