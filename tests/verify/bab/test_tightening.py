"""Bounds refined by trees of their own: they hold at all points, and get tighter with every step."""

import math
import time

import numpy as np
import pytest
import torch
from small_queries import inside_points, random_flow, random_network

from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.conjunctions import Conjunctions
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import compose
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify.bab.relu_domains import ReluTree
from verify.bab.tightening import FIRST, Tightening

REGIONS = [
    Ball(1, 1.5, 6),
    Ball(2, 1.0, 6),
    Ball(math.inf, 0.6, 6),
    Ball(1, 2.0, 6, limit=0.7),
    Box(np.full(6, -0.4), np.linspace(0.1, 0.9, 6)),
]
FOREVER = time.monotonic() + 1e6


def refinement_of(region, seed):
    rng = np.random.default_rng(seed)
    graph = compose(random_flow(rng, 6, 2, 8, depth=1), random_network(rng, (6, 8, 8, 2)))
    root = optimised_bounds(graph, region, Conjunctions(np.array([[1.0, -1.0]]), np.array([0.0]), ((0,),)))
    return graph, Tightening(graph, region, root), rng


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_refined_bounds_hold_and_are_tighter(region, seed):
    graph, refinement, rng = refinement_of(region, seed)
    values = evaluate(graph, torch.from_numpy(np.stack(inside_points(region, rng, 2000))))
    names = [relu.input for relu in graph.relus]
    before, widths, cost = refinement.bounds, [], 0.0
    for _ in range(3):
        refinement.tighten(FOREVER)
        after = refinement.bounds
        for name in names:
            assert (values[name].numpy() >= after.lower[name]).all()
            assert (values[name].numpy() <= after.upper[name]).all()
            assert (after.lower[name] >= before.lower[name]).all()
            assert (after.upper[name] <= before.upper[name]).all()
        widths.append(sum((after.upper[n] - after.lower[n]).sum() for n in names))
        assert refinement.cost > cost or refinement.is_over
        before, cost = after, refinement.cost
    first = sum((refinement.root.bounds.upper[n] - refinement.root.bounds.lower[n]).sum() for n in names)
    assert widths[0] < 0.97 * first
    assert widths == sorted(widths, reverse=True)


def test_a_tree_that_is_split_to_its_end_gives_exact_bounds():
    """One layer, so that bounds of a piece are exact: the ends of one unit of the next layer, against dense sampling."""
    rng = np.random.default_rng(1)
    region = Ball(math.inf, 1.0, 2)
    graph = random_network(rng, (2, 4, 3, 1))
    root = optimised_bounds(graph, region, Conjunctions(np.array([[1.0]]), np.array([0.0]), ((0,),)))
    refinement = Tightening(graph, region, root)
    for _ in range(6):
        refinement.tighten(FOREVER)
    axis = np.linspace(-1, 1, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    name = graph.relus[1].input
    values = evaluate(graph, torch.from_numpy(grid))[name].numpy()
    lower, upper = refinement.bounds.lower[name], refinement.bounds.upper[name]
    unstable = (lower < 0) & (upper > 0)
    assert unstable.any()
    size = np.abs(values).max()
    assert (values.min(axis=0) - lower)[unstable].max() < 0.02 * size
    assert (upper - values.max(axis=0))[unstable].max() < 0.02 * size


def test_no_time_leaves_the_bounds_as_they_are():
    _, refinement, _ = refinement_of(REGIONS[2], 0)
    before = refinement.bounds
    refinement.tighten(0.0)
    assert refinement.bounds is before
    assert refinement.splits == 2 * FIRST
    assert not refinement.is_over


def test_a_bound_that_is_no_number_closes_nothing():
    graph, refinement, _ = refinement_of(REGIONS[2], 0)
    rows = np.array([[1.0, -1.0], [np.nan, 0.0]])
    tree = ReluTree(graph, REGIONS[2], refinement.bounds, rows, np.zeros(2))
    known = refinement.root.parameters
    whole = tree.whole(np.array([0, 0]), known)
    margins = tree.bounded(type(whole)(whole.signs, np.array([0, 1]), whole.choices, whole.units)).margins
    assert np.isfinite(margins[0])
    assert margins[1] == -np.inf
