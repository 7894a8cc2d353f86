"""Reduced queries have the violations of the given ones: graphs equal in rationals, verdicts as known, files as read."""

import itertools
import json
import math
from dataclasses import replace
from fractions import Fraction

import corpus
import numpy as np
import pytest
from form_readers import files_of
from hypothesis import given
from hypothesis import strategies as st
from small_queries import REGIONS, exact, inside_points, random_graph, random_network, small_query

from exporters import FORMS, read_onnx, write_bundle
from exporters.forms.fused_affine import fuse_affine
from veriflow.errors import QueryError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.piecewise.simplify import fold_stable_units
from veriflow.queries.properties import output_between
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify import Outcome, reduce_query, verify


def as_if(graph, phases, point):
    """Every tensor where units do what their phases say, whether that is so or not."""
    found = {graph.input: point}
    for node in graph.nodes:
        if isinstance(node, Relu):
            signs = phases.get(node.output, [0] * graph.sizes[node.output])
            choices = zip(found[node.input], signs, strict=True)
            found[node.output] = [
                value if sign == 1 else max(value, Fraction(0)) * (sign == 0) for value, sign in choices
            ]
        else:
            one = Graph(
                "all", graph.sizes[node.inputs[0]], (replace(node, terms=(("all", node.terms[0][1]),)),), node.output
            )
            total = evaluate_exact(one, found[node.inputs[0]])[node.output]
            for name, weight in node.terms[1:]:
                more = Affine("more", (("all", weight),), np.zeros(len(node.bias)))
                part = evaluate_exact(Graph("all", graph.sizes[name], (more,), "more"), found[name])["more"]
                total = [a + b for a, b in zip(total, part, strict=True)]
            found[node.output] = total
    return found


def crossed_graph(seed):
    """ReLUs of the input, of a ReLU and of a tensor that others read too, two of one tensor, a ReLU as the output."""
    rng = np.random.default_rng(seed)

    def weight(rows, columns):
        return rng.standard_normal((rows, columns)).astype(np.float32).astype(float)

    nodes = (
        Relu("p", "z"),
        Affine("a", (("z", weight(4, 3)), ("p", weight(4, 3))), weight(1, 4)[0]),
        Relu("h", "a"),
        Relu("h2", "a"),
        Relu("hh", "h"),
        Affine(
            "b", (("a", weight(3, 4)), ("h", weight(3, 4)), ("h2", weight(3, 4)), ("hh", weight(3, 4))), weight(1, 3)[0]
        ),
        Affine("unread", (("b", weight(2, 3)),), np.zeros(2)),
        Relu("y", "b"),
    )
    return Graph("z", 3, nodes, "y")


@given(
    graph=st.one_of(st.integers(0, 999).map(crossed_graph), st.integers(0, 999).map(random_graph)),
    draw=st.randoms(use_true_random=False),
)
def test_folding_does_what_the_phases_say(graph, draw):
    phases = {
        relu.output: np.array([draw.choice([-1, 0, 1]) for _ in range(graph.sizes[relu.output])], dtype=np.int8)
        for relu in graph.relus
        if draw.random() < 0.8
    }
    keep = draw.sample([node.output for node in graph.nodes], draw.randint(0, 3))
    folded = fold_stable_units(graph, phases, keep)
    assert min(folded.sizes.values()) > 0
    assert (
        folded.relu_count
        <= sum((phases.get(r.output, np.zeros(graph.sizes[r.output])) == 0).sum() for r in graph.relus) * 2
    )
    given_numbers = numbers_of(graph) | {0.0, 1.0}
    assert numbers_of(folded) <= given_numbers
    for _ in range(3):
        point = [Fraction(draw.randint(-8, 8), 4) for _ in range(3)]
        want, found = as_if(graph, phases, point), evaluate_exact(folded, point)
        for name in {graph.output, *keep}:
            assert found[name] == want[name], name


def numbers_of(graph):
    arrays = [
        array for node in graph.nodes if isinstance(node, Affine) for array in (node.bias, *(w for _, w in node.terms))
    ]
    dense = [array.toarray() if hasattr(array, "toarray") else array for array in arrays]
    return set(np.concatenate([array.reshape(-1) for array in dense]).tolist())


@given(seed=st.integers(0, 999), region=st.sampled_from(list(REGIONS)))
def test_fused_maps_are_as_close_as_stated(seed, region):
    graph, place = random_graph(seed), REGIONS[region]
    bounds = symbolic_bounds(graph, place)
    fused, deviations = fuse_affine(graph, bounds)
    sources = {graph.input, *(relu.output for relu in graph.relus)}
    assert all(set(node.inputs) <= sources for node in fused.nodes if isinstance(node, Affine))
    assert set(deviations) == set(fused.sizes)
    assert 0 < max(deviation.max() for deviation in deviations.values()) < 1e-10
    gaps = []
    for point in inside_points(place, np.random.default_rng(seed), 10):
        want, found = (evaluate_exact(one, exact(point)) for one in (graph, fused))
        for name, deviation in deviations.items():
            for a, b, most in zip(want[name], found[name], deviation, strict=True):
                assert abs(a - b) <= Fraction(most), name
                gaps.append(abs(a - b))
    assert max(gaps) > 0


def test_nothing_to_fuse_changes_nothing():
    graph = random_network(np.random.default_rng(0), (3, 4, 4, 2))
    fused, deviations = fuse_affine(graph, symbolic_bounds(graph, REGIONS["box"]))
    assert fused.nodes == graph.nodes or [n.output for n in fused.nodes] == [n.output for n in graph.nodes]
    assert not any(deviation.any() for deviation in deviations.values())


def shrunk(query, share):
    """The query over a region a few times smaller, of the same kind."""
    region = query.region
    if isinstance(region, Ball):
        return query.at(Ball(region.p, share * region.radius, region.dim, share * region.inner))
    if isinstance(region, Box):
        return query.at(Box(share * region.lower, share * region.upper))
    return query


@pytest.mark.parametrize("region", REGIONS)
def test_a_reduced_query_equals_the_given_one_in_the_region(region):
    before = after = 0
    for seed, share in itertools.product(range(2), (1.0, 0.3)):
        query = shrunk(small_query(region, "mixed", seed), share)
        reduction = reduce_query(query)
        smaller = reduction.query
        assert reduction.counts == {"before": query.graph.relu_count, "after": smaller.graph.relu_count}
        assert min(smaller.graph.sizes.values()) > 0
        before, after = before + reduction.counts["before"], after + reduction.counts["after"]
        points = inside_points(query.region, np.random.default_rng(seed), 25)
        ends = query.region.vertices
        points += [] if ends is None else [p for p in ends if query.region.contains(exact(p))]
        for point in map(exact, points):
            want, found = (evaluate_exact(one.graph, point) for one in (query, smaller))
            assert found[smaller.graph.output] == want[query.graph.output]
            assert found[smaller.data] == want[query.data]
            for name, values in found.items():
                ends = zip(reduction.bounds.lower[name], values, reduction.bounds.upper[name], strict=True)
                assert all(low <= value <= high for low, value, high in ends), name
    assert after < 0.8 * before


@pytest.mark.parametrize("name", list(corpus.truths())[::8])
def test_reduced_queries_have_the_known_truth(name):
    query, truth = corpus.query(name), corpus.truths()[name]
    reduced = reduce_query(query).query
    verdict = verify(reduced, "milp", timeout=600)
    if verdict.outcome is Outcome.UNKNOWN:
        assert truth.near
    else:
        assert (verdict.outcome is Outcome.VIOLATED) == truth.violated
    if verdict.witness is not None:
        assert query.violated_by(evaluate_exact(query.graph, list(verdict.witness.point))[query.graph.output])


def test_all_units_stable_or_none():
    query = small_query("Linf ball", "largest")
    tiny = reduce_query(query.at(Ball(math.inf, 1e-6, 3)))
    assert tiny.counts["after"] == 0
    assert (
        verify(tiny.query, "milp", timeout=600).outcome
        is verify(query.at(tiny.query.region), "milp", timeout=600).outcome
    )
    wide = reduce_query(query.at(Ball(math.inf, 1e4, 3)))
    first = query.graph.relus[0].output
    assert wide.query.graph.relu_count == wide.counts["after"] > query.graph.sizes[first]


def test_no_time_leaves_what_bounds_prove():
    query = small_query("Linf ball", "largest")
    hasty, patient = (reduce_query(query, timeout=seconds).counts for seconds in (0.0, 60.0))
    assert patient["after"] <= hasty["after"] <= hasty["before"]


def test_round_balls_are_refused():
    with pytest.raises(QueryError, match="linear constraints"):
        reduce_query(small_query("box", "largest").at(Ball(2, 1.0, 3)))


@pytest.mark.parametrize("radius", [1e-6, 0.1, 0.4])
def test_bundles_of_reduced_queries_are_read(radius, tmp_path):
    query = small_query("Linf ball", "largest").at(Ball(math.inf, radius, 3))
    reduction = reduce_query(query)
    extra = {"query": {"reduced_relus": reduction.counts}}
    bundle = write_bundle(
        tmp_path / "bundle",
        {"query": reduction.query},
        forms=tuple(FORMS),
        extra=extra,
        bounds={"query": reduction.bounds},
    )
    entry = json.loads((bundle / "manifest.json").read_text())["queries"]["query"]
    assert entry["reduced_relus"] == reduction.counts
    files = files_of(bundle, "query")
    for form in ("onnx", "chain", "pair"):
        network = read_onnx(files[form])
        for point in inside_points(reduction.query.region, np.random.default_rng(0), 20):
            want = evaluate_exact(query.graph, exact(point))[query.graph.output]
            assert evaluate_exact(network, exact(point))[network.output] == want


def test_units_in_many_dimensions_are_settled():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 9)).astype(np.float32).astype(float)
    far = np.abs(weight).sum(axis=1) * np.where(np.arange(12) % 3, 0.999, 1.5)
    first = Affine("a", (("z", weight),), far.astype(np.float32).astype(float))
    graph = Graph("z", 9, (first, Relu("h", "a"), Affine("y", (("h", np.ones((2, 12))),), np.zeros(2))), "y")
    query = Query(graph, Ball(math.inf, 1.0, 9), output_between(0, -1, 1).violation(2), "", "z")
    reduction = reduce_query(query)
    assert reduction.counts == {"before": 12, "after": 8}
