"""Graphs: evaluation, simplification and bounds against each other and against the exact optimum."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog
from small_queries import (
    REGIONS,
    exact,
    float32_array,
    inside_points,
    random_graph,
    threshold_query,
    with_divisors,
)
from torch import nn

from exporters.forms.fused_affine import fuse_affine
from veriflow.errors import GraphError
from veriflow.piecewise.bounds.crown import linear_lower_bounds, symbolic_bounds
from veriflow.piecewise.bounds.interval import interval_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import enclose_exact, evaluate, evaluate_exact
from veriflow.piecewise.from_torch import from_torch
from veriflow.piecewise.graph import Affine, Graph, Relu, compose
from veriflow.piecewise.simplify import drop_dead_units, join_shifts
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box, corners
from verify import Outcome, verify


@pytest.mark.parametrize("seed", range(5))
def test_float64_equals_exact_rationals(seed):
    graph = random_graph(seed)
    point = np.random.default_rng(seed).standard_normal(3)
    floats = evaluate(graph, torch.from_numpy(point))
    rationals = evaluate_exact(graph, exact(point))
    for name, values in rationals.items():
        assert np.abs(floats[name].numpy() - [float(v) for v in values]).max() < 1e-13


def test_exact_evaluation_takes_any_rational():
    graph = Graph("x", 1, (Affine("a", (("x", np.array([[0.1], [-2.0]])),), np.array([0.3, 1.0])), Relu("h", "a")), "h")
    third = Fraction(1, 3)
    assert evaluate_exact(graph, [third])["h"] == [Fraction(0.1) * third + Fraction(0.3), third]
    assert evaluate_exact(graph, [Fraction(-7)])["h"] == [Fraction(0), Fraction(15)]


@pytest.mark.parametrize("roots", [False, True])
def test_an_exact_answer_is_the_callers_own(roots):
    graph = with_divisors(threshold_query(0), 0, roots=roots).graph
    point = exact(np.linspace(0.1, 0.3, graph.input_size))
    first = enclose_exact(graph, point)
    kept = [{name: tuple(values) for name, values in ends.items()} for ends in first]
    for ends in first:
        ends[graph.output][0] += 1
    assert [{name: tuple(values) for name, values in ends.items()} for ends in enclose_exact(graph, point)] == kept
    assert (kept[0] != kept[1]) == roots


def test_threads_evaluate_one_graph_exactly_at_once():
    graph, interval = random_graph(0), sys.getswitchinterval()
    points = [[Fraction(k, 3), Fraction(n, 7), Fraction(1)] for k in range(8) for n in range(11)]

    def outputs(start):
        return [evaluate_exact(graph, point)[graph.output] for point in (points[start:] + points[:start]) * 4]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(outputs, range(0, 88, 11)))
    finally:
        sys.setswitchinterval(interval)
    fresh = replace(graph)
    wanted = [evaluate_exact(fresh, point)[graph.output] for point in points]
    assert all(found[k] == (wanted[11 * k :] + wanted[: 11 * k]) * 4 for k in range(8))


@pytest.mark.parametrize("seed", range(5))
def test_simpler_graphs_compute_the_same(seed):
    graph = random_graph(seed)
    points = torch.randn(20, 3, dtype=torch.float64)
    outputs = evaluate(graph, points)[graph.output]
    fused, _ = fuse_affine(graph, symbolic_bounds(graph, REGIONS["box"]))
    assert len(fused.nodes) < len(graph.nodes)
    assert torch.allclose(evaluate(fused, points)[fused.output], outputs, atol=1e-12)
    point = exact(points[0].numpy())
    assert evaluate_exact(drop_dead_units(graph), point)[graph.output] == evaluate_exact(graph, point)[graph.output]


def test_large_sparse_maps_compute_what_dense_ones_do():
    matrix = sparse.random_array((400, 300), density=0.01, rng=np.random.default_rng(0), format="csr")
    graphs = [
        Graph("x", 300, (Affine("y", (("x", weight),), np.ones(400)),), "y") for weight in (matrix, matrix.toarray())
    ]
    points = torch.randn(2, 3, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, two = (evaluate(graph, points)["y"] for graph in graphs)
    torch.testing.assert_close(one, two)


def test_dead_units_are_dropped():
    keep = np.array([[1.0, 0.0, 0.0]])
    nodes = (
        Affine("a", (("x", np.ones((3, 2))),), np.zeros(3)),
        Relu("h", "a"),
        Affine("unused", (("h", np.ones((1, 3))),), np.zeros(1)),
        Affine("y", (("h", sparse.csr_array(keep)),), np.zeros(1)),
    )
    small = drop_dead_units(Graph("x", 2, nodes, "y"))
    assert small.sizes == {"x": 2, "a": 1, "h": 1, "y": 1}


def test_products_and_the_constants_added_to_them_become_one_node():
    copy, product = sparse.eye_array(2, format="csr"), np.array([[1.0, 2.0], [0.1, -3.0]])
    nodes = (
        Affine("copy", (("x", copy),), np.zeros(2)),
        Affine("product", (("copy", product),), np.zeros(2)),
        Affine("shifted", (("product", copy),), np.array([0.3, 0.7])),
        Relu("h", "shifted"),
        Affine("read twice", (("h", product),), np.zeros(2)),
        Affine("again", (("read twice", copy),), np.ones(2)),
        Affine("rounds", (("again", copy),), np.array([0.1, 0.0])),
        Affine("sum", (("rounds", product), ("read twice", copy)), np.zeros(2)),
        Affine("y", (("sum", copy),), np.zeros(2)),
    )
    graph = Graph("x", 2, nodes, "y")
    joined = join_shifts(graph)
    assert [node.output for node in joined.nodes] == ["shifted", "h", "read twice", "again", "rounds", "y"]
    for point in ([Fraction(1, 3), Fraction(2)], [Fraction(-7), Fraction(1, 10)]):
        assert evaluate_exact(joined, point)["y"] == evaluate_exact(graph, point)["y"]


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_bounds_contain_ten_thousand_points(region):
    graph = random_graph(3)
    points = np.stack(inside_points(region, np.random.default_rng(0), 10_000))
    values = evaluate(graph, torch.from_numpy(points))
    for bounds in (interval_bounds(graph, region), symbolic_bounds(graph, region)):
        for name, tensor in values.items():
            assert (tensor.numpy() >= bounds.lower[name] - 1e-12).all()
            assert (tensor.numpy() <= bounds.upper[name] + 1e-12).all()


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_in_exact_arithmetic_at_hostile_scales(seed):
    """Weights over twelve orders of magnitude: the stated rounding margin must carry the float bounds."""
    rng = np.random.default_rng(seed)

    def hostile(*shape):
        return rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 6, shape)

    nodes = (
        Affine("a", (("x", hostile(4, 3)),), hostile(4)),
        Relu("h", "a"),
        Affine("b", (("h", hostile(3, 4)), ("x", hostile(3, 3))), hostile(3)),
        Relu("g", "b"),
        Affine("y", (("g", hostile(2, 3)), ("a", hostile(2, 4))), hostile(2)),
    )
    graph = Graph("x", 3, nodes, "y")
    region = Box(np.full(3, 0.5), np.full(3, 0.5)) if seed % 2 else Ball(1, 1e-9, 3)
    point = exact(region.upper if seed % 2 else np.array([1e-9, 0.0, 0.0]))
    assert region.contains(point)
    values = evaluate_exact(graph, point)
    for bounds in (interval_bounds(graph, region), symbolic_bounds(graph, region)):
        for name in graph.sizes:
            for low, value, high in zip(bounds.lower[name], values[name], bounds.upper[name], strict=True):
                assert Fraction(low) <= value <= Fraction(high)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_affine_bounds_are_the_dual_norm(p):
    weight = np.array([[1.0, -2.0, 0.5]])
    graph = Graph("x", 3, (Affine("y", (("x", weight),), np.array([3.0])),), "y")
    q = {1: math.inf, 2: 2, math.inf: 1}[p]
    reach = 0.75 * np.linalg.norm(weight[0], q)
    bounds = symbolic_bounds(graph, Ball(p, 0.75, 3))
    assert bounds.upper["y"][0] == pytest.approx(3 + reach, rel=1e-14)
    assert bounds.lower["y"][0] == pytest.approx(3 - reach, rel=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_symbolic_bounds_contain_the_exact_optimum_and_beat_intervals(seed):
    """The optimum over all activation patterns of a small network, each by a linear program."""
    rng = np.random.default_rng(seed)
    w1, b1, w2 = rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal((1, 5))
    nodes = (Affine("a", (("x", w1),), b1), Relu("h", "a"), Affine("y", (("h", w2),), np.zeros(1)))
    graph = Graph("x", 2, nodes, "y")
    best = math.inf
    for pattern in range(32):
        on = np.array([(pattern >> i) & 1 for i in range(5)])
        sign = np.where(on == 1, -1.0, 1.0)  # on: a >= 0, off: a <= 0
        found = linprog((w2[0] * on) @ w1, A_ub=sign[:, None] * w1, b_ub=-sign * b1, bounds=[(-1, 1)] * 2)
        if found.success:
            best = min(best, found.fun + float((w2[0] * on) @ b1))
    region = Ball(math.inf, 1.0, 2)
    symbolic, interval = symbolic_bounds(graph, region), interval_bounds(graph, region)
    assert symbolic.lower["y"][0] <= best + 1e-9
    assert symbolic.lower["y"][0] >= interval.lower["y"][0]
    assert linear_lower_bounds(graph, region, symbolic, "y", np.array([[2.0]]))[0] <= 2 * best + 1e-9


def test_stacked_regions_give_the_bounds_of_each():
    graph = random_graph(1)
    lower, upper = np.array([[-1.0, -1, -1], [0.2, 0.1, 0]]), np.array([[1.0, 0, 1], [0.4, 0.2, 0.3]])

    class Stack:
        def __init__(self):
            self.lower, self.upper, self.vertices = lower, upper, corners(lower, upper)
            self.shares = None

        def support(self, rows):
            low, high = self.lower[:, None], self.upper[:, None]
            return (np.maximum(rows, 0) * high + np.minimum(rows, 0) * low).sum(-1)

    together = symbolic_bounds(graph, Stack())
    for place in range(2):
        alone = symbolic_bounds(graph, Box(lower[place], upper[place]))
        for name in graph.sizes:
            assert np.allclose(together.lower[name][place], alone.lower[name], atol=1e-12)


def test_networks_are_lowered_exactly():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Dropout())
    module = nn.Sequential(nn.Flatten(0), inner, nn.Identity(), nn.Linear(5, 2))
    graph = from_torch(module, 6)
    weight = next(w for node in graph.nodes if isinstance(node, Affine) for _, w in node.terms)
    assert np.array_equal(weight, inner[0].weight.detach().double().numpy())
    x = torch.randn(6)
    assert torch.allclose(evaluate(graph, x)[graph.output].float(), module.eval()(x.reshape(2, 3)), atol=1e-6)
    with pytest.raises(GraphError, match=r"got Tanh at '1\.0'"):
        from_torch(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh())), 2)


def test_a_graph_keeps_the_constants_that_a_network_had():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    graph = from_torch(network, 2)
    before = evaluate_exact(graph, exact(np.array([0.5, -1.0])))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert evaluate_exact(replace(graph), exact(np.array([0.5, -1.0]))) == before


def test_composition_keeps_constants_and_renames():
    first, second = random_graph(0), random_graph(1)
    both = compose(first, second)
    points = torch.randn(5, 3, dtype=torch.float64)
    middle = evaluate(first, points)[first.output]
    assert torch.equal(evaluate(both, points)[both.output], evaluate(second, middle)[second.output])
    assert torch.equal(
        evaluate(both.starting_at(first.output), middle)[both.output], evaluate(second, middle)[second.output]
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda: Graph("x", 1, (Relu("h", "y"),), "h"),
        lambda: Graph("x", 1, (Relu("h", "x"), Relu("h", "x")), "h"),
        lambda: Graph("x", 1, (Relu("h", "x"),), "y"),
        lambda: Graph("x", 2, (Affine("y", (("x", np.ones((1, 3))),), np.zeros(1)),), "y"),
        lambda: Graph("x", 1, (Affine("y", (("x", np.array([[np.nan]])),), np.zeros(1)),), "y"),
        lambda: Graph("x", 1, (Affine("y", (("x", np.ones((1, 1))),), np.array([np.inf])),), "y"),
        lambda: compose(random_graph(0), random_graph(0, dim=2)),
        lambda: evaluate(random_graph(0), torch.zeros(2)),
        lambda: evaluate_exact(random_graph(0), [Fraction(1)]),
        lambda: random_graph(0).starting_at("s1_h1"),
    ],
)
def test_malformed_graphs_are_refused(build):
    with pytest.raises(GraphError, match="expected "):
        build()


@pytest.mark.parametrize("seed", range(8))
def test_bounds_taken_over_from_a_larger_region_hold_and_are_no_looser(seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    outer = Box(np.full(3, -1.0), np.full(3, 1.0))
    known = symbolic_bounds(graph, outer)
    within = Bounds(
        {r.input: known.lower[r.input] for r in graph.relus}, {r.input: known.upper[r.input] for r in graph.relus}
    )
    low = rng.uniform(-1, 0.5, 3)
    inner = Box(low, low + rng.uniform(0, 0.5, 3))
    bounds = symbolic_bounds(graph, inner, within=within)
    points = torch.from_numpy(rng.uniform(inner.lower, inner.upper, (2000, 3)))
    for name, values in evaluate(graph, points).items():
        assert (values.numpy() >= bounds.lower[name] - 1e-12).all(), name
        assert (values.numpy() <= bounds.upper[name] + 1e-12).all(), name
    for relu in graph.relus:
        assert (bounds.lower[relu.input] >= known.lower[relu.input]).all()
        assert (bounds.upper[relu.input] <= known.upper[relu.input]).all()
    assert bounds.unstable(graph) <= known.unstable(graph)


@pytest.mark.parametrize("region", [Box(-np.ones(3), np.ones(3)), Ball(1, 1.0, 3), Ball(2, 1.0, 3)], ids=str)
@pytest.mark.parametrize("before", ["x", "first"])
def test_relus_may_read_the_input_and_relus(region, before):
    rng = np.random.default_rng(0)
    rows, last = float32_array(rng, 4, 3), float32_array(rng, 1, 4)
    nodes = (
        *([Relu("first", "x")] if before == "first" else []),
        Relu("h", before),
        Affine("a", (("h", rows),), np.zeros(4)),
        Relu("b", "a"),
        Affine("y", (("b", last),), np.zeros(1)),
    )
    graph = Graph("x", 3, nodes, "y")
    points = torch.from_numpy(np.stack(inside_points(region, rng, 300)))
    highest = float(evaluate(graph, points)["y"].max())
    outcomes = {
        bound: verify(network_query(graph, region, formula_property(y[0] < bound)), "bab", timeout=600).outcome
        for bound in (0.8 * highest, highest + 0.5, highest + 0.8, highest + 3)
    }
    assert set(outcomes.values()) == {Outcome.HOLDS, Outcome.VIOLATED}
    assert all(outcome is Outcome.VIOLATED or bound > highest for bound, outcome in outcomes.items())
