"""Relaxations of nodes: backward and adjoint steps belong together, numpy and torch agree, and bounds stay as they are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_queries import random_graph, small_query

from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.beta_crown import BetaAscent
from veriflow.piecewise.bounds.crown import backward_rows, symbolic_bounds
from veriflow.piecewise.bounds.interval import interval_bounds
from veriflow.piecewise.bounds.relaxation import AffineRelaxation, ReluRelaxation, affine_relaxations
from veriflow.piecewise.bounds.sdp import semidefinite_relaxation
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Relu, dense
from veriflow.regions.ball import Ball
from veriflow.regions.box import corners

REGIONS = [Ball(1, 0.7, 3), Ball(2, 0.6, 3), Ball(math.inf, 0.4, 3), Ball(1, 0.7, 3, limit=0.4)]


@st.composite
def relaxations(draw):
    """A relaxation of one row's units, with rows of both signs and zeros; chords or not."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    rows, units, vertices = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(0, 4))
    below, slope, chords = rng.uniform(0, 1, (3, rows, units))
    offset = rng.uniform(0, 1, (rows, units))
    peaks = rng.uniform(0, 1, (units, vertices)) if vertices else None
    found = ReluRelaxation(below, slope, offset, chords if vertices else None, peaks)
    return found, rng.integers(-2, 3, (rows, units)) * rng.uniform(0, 1, (rows, units)), rng


@given(drawn=relaxations())
def test_the_adjoint_step_carries_points_as_the_backward_step_carries_rows(drawn):
    """rows · output = part · point + constant + rest · convex: both are the value of the bound at the point."""
    relaxed, rows, rng = drawn
    step, point = relaxed.backward(rows), rng.standard_normal(rows.shape)
    convex = (
        None if relaxed.peaks is None else rng.dirichlet(np.ones(relaxed.peaks.shape[1]), len(rows)) @ relaxed.peaks.T
    )
    value = (step.part * point).sum(-1) + step.constant
    if convex is not None:
        value = value + (step.rest * convex).sum(-1)
    output = relaxed.adjoint(rows, point, convex).output
    np.testing.assert_allclose((rows * output).sum(-1), value, rtol=1e-12, atol=1e-12)


@given(drawn=relaxations())
def test_steps_in_torch_are_those_in_numpy(drawn):
    relaxed, rows, _ = drawn
    names = ("below", "slope", "offset", "chords", "peaks")
    arrays = [getattr(relaxed, name) for name in names]
    same = ReluRelaxation(*(None if array is None else torch.from_numpy(array) for array in arrays))
    here, there = relaxed.backward(rows), same.backward(torch.from_numpy(rows))
    for name in ("part", "constant", "negative", "rest"):
        mine, theirs = getattr(here, name), getattr(there, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-14)


def test_a_map_without_a_weight_is_the_identity():
    weight, bias, rows = np.array([[1.0, 2], [3, 4]]), np.array([0.5, -0.5]), np.array([[1.0, -1], [2, 0]])
    plain = AffineRelaxation("t", (("a", np.eye(2)), ("b", weight)), bias)
    short = AffineRelaxation("t", (("a", None), ("b", weight)), bias)
    for one, other in zip(plain.backward(rows), short.backward(rows), strict=True):
        assert one[0] == other[0]
        assert (one[1] == other[1]).all()
    points = {"a": rows, "b": 2 * rows}
    assert (short.adjoint(points) == plain.adjoint(points)).all()


def frozen(bounds):
    """The same bounds, in arrays that cannot be written into."""
    sides = [
        {name: array.copy() for name, array in side.items()} for side in (bounds.lower, bounds.upper, bounds.convex)
    ]
    for side in sides:
        for array in side.values():
            array.flags.writeable = False
    return Bounds(*sides)


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_no_pass_writes_into_bounds(region):
    graph = random_graph(3)
    bounds = frozen(symbolic_bounds(graph, region))
    before = {name: (bounds.lower[name].copy(), bounds.upper[name].copy()) for name in graph.sizes}
    rows, limits = np.eye(3)[:2], np.array([0.1, 0.2])
    backward_rows(graph, region, bounds, graph.output, rows)
    start = np.full((2, 3, graph.relu_count), 0.5, dtype=np.float32)
    BetaAscent(graph, region).ascend(bounds, rows, limits, start)
    signs = np.zeros(graph.relu_count, dtype=np.int8)
    semidefinite_relaxation(graph, region, bounds, signs, rows[0], 0.1)
    symbolic_bounds(graph, region, within=bounds)
    assert bounds.lower.keys() == graph.sizes.keys()
    for name, (lower, upper) in before.items():
        assert (bounds.lower[name] == lower).all()
        assert (bounds.upper[name] == upper).all()


def test_bounds_of_one_more_tensor_are_new_bounds():
    graph = random_graph(0)
    first = Bounds({graph.input: -np.ones(3)}, {graph.input: np.ones(3)})
    second = first.extended("t", np.array([-1.0]), np.array([2.0]))
    assert list(first.lower) == [graph.input]
    assert list(second.lower) == [graph.input, "t"]
    assert second.magnitude("t") == 2.0
    with pytest.raises(KeyError):
        first.lower["t"]


def test_derived_bounds_do_not_share_what_differs():
    """Bounds on the same tensors that were narrowed have lines and magnitudes of their own."""
    wide = Bounds({"a": np.array([-2.0])}, {"a": np.array([1.0])})
    relu = Relu("h", "a")
    assert wide.magnitude("a") == 2.0
    assert wide.unit_lines(relu).unstable.all()
    narrow = Bounds({"a": np.array([0.5])}, wide.upper)
    assert narrow.magnitude("a") == 1.0
    assert narrow.unit_lines(relu).on.all()


def test_every_way_to_bounds_is_above_intervals():
    query = small_query("L1 ball", "mixed", 1)
    coarse, fine = interval_bounds(query.graph, query.region), symbolic_bounds(query.graph, query.region)
    best = optimised_bounds(query.graph, query.region, query.arrays.conjunctions).bounds
    for name in query.graph.sizes:
        for bounds in (fine, best):
            assert (bounds.lower[name] >= coarse.lower[name] - 1e-12).all()
            assert (bounds.upper[name] <= coarse.upper[name] + 1e-12).all()


@pytest.mark.parametrize("few", [True, False])
def test_a_stack_of_regions_is_bounded_as_each_alone(few):
    """With the ascent's first parameters; as many boxes as a tensor has rows, so that axes cannot be confused."""
    graph, violation = random_graph(4), small_query("box", "largest", 4).arrays.conjunctions
    rng = np.random.default_rng(0)
    lower = rng.uniform(-1, 0, (8, 3))
    upper = lower + rng.uniform(0, 1, lower.shape)

    class Boxes:
        """A stack, or one of it."""

        def __init__(self, lower, upper):
            self.lower, self.upper, self.shares = lower, upper, None
            self.vertices = corners(lower, upper) if few else None

        def support(self, rows):
            return np.maximum(rows * self.lower[..., None, :], rows * self.upper[..., None, :]).sum(axis=-1)

        def farthest(self, rows):
            return np.where(rows > 0, self.upper[..., None, :], self.lower[..., None, :])

    together = optimised_bounds(graph, Boxes(lower, upper), violation, steps=1)
    for place in range(len(lower)):
        alone = optimised_bounds(graph, Boxes(lower[place], upper[place]), violation, steps=1)
        np.testing.assert_allclose(together.margins[place], alone.margins, rtol=1e-9, atol=1e-9)


def test_maps_keep_their_quotients():
    graph = random_graph(2)
    maps = affine_relaxations(graph, dense)
    for name, relaxed in maps.items():
        point = {source: np.ones(graph.sizes[source]) for source, _ in relaxed.terms}
        node = next(node for node in graph.nodes if node.output == name)
        np.testing.assert_allclose(
            relaxed.adjoint(point),
            node.bias + sum(dense(w) @ point[source] for source, w in node.terms),
            rtol=1e-12,
            atol=1e-12,
        )
