"""Forms beyond the portable one mean the query too: linear input constraints, two networks, chains of pairs."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
import vnnlib
from hypothesis import given
from hypothesis import strategies as st
from small_queries import PROPERTIES, REGIONS, exact, points_about, random_graph, random_network, small_query
from vnnlib_text import parsed

from exporters import graph_to_onnx, linear_form, paired_chain, two_networks
from exporters.forms.portable_form import with_extra_outputs
from exporters.vnnlib.networks import MOST_DIMENSIONS
from veriflow.errors import GraphError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from veriflow.regions.product import Product


def holds(text, values):
    """Whether every assertion of a VNN-LIB text holds; ``values`` by tensor name."""
    return all(meaning(term[1], values) for term in parsed(text) if term[0] == "assert")


def meaning(term, values):
    if isinstance(term, str):
        place = re.fullmatch(r"(\w+)\[0,(\d+)\]", term)
        return values[place.group(1)][int(place.group(2))] if place else Fraction(term)
    operator, *parts = [term[0], *(meaning(part, values) for part in term[1:])]
    match operator:
        case "and":
            return all(parts)
        case "or":
            return any(parts)
        case "+":
            return sum(parts, Fraction(0))
        case "*":
            return parts[0] * parts[1]
    left, right = parts
    return {"<=": left <= right, ">=": left >= right, "==": left == right}[operator]


@pytest.mark.parametrize("prop", PROPERTIES)
@pytest.mark.parametrize("region", [name for name, place in REGIONS.items() if not isinstance(place, Product)])
def test_two_networks_mean_the_query(region, prop):
    answers = set()
    for seed in range(3):
        query = small_query(region, prop, seed)
        flow, network, text = two_networks(query)
        assert [part.name for part in vnnlib.parse_query_string(text).networks] == ["F", "N"]
        for point in map(exact, points_about(query.region, np.random.default_rng(seed), 40)):
            data = evaluate_exact(flow, point)[flow.output]
            x = data[: network.input_size]
            outputs = evaluate_exact(network, x)[network.output]
            want = query.region.contains(point) and query.violated_by(
                evaluate_exact(query.graph, point)[query.graph.output]
            )
            assert holds(text, {"Z": point, "D": data, "X": x, "Y": outputs}) == want
            assert not holds(text, {"Z": point, "D": data, "X": [value + 1 for value in x], "Y": outputs})
            answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize("prop", PROPERTIES)
def test_facets_mean_the_ball(prop):
    answers = set()
    for seed in range(3):
        query = small_query("L1 ball", prop, seed)
        form, text = linear_form(query)
        assert vnnlib.parse_query_string(text).networks[0].name == "N"
        assert not any("norm" in note for note in form.notes)
        for point in map(exact, points_about(query.region, np.random.default_rng(seed), 40)):
            outputs = evaluate_exact(form.graph, point)[form.graph.output]
            want = query.region.contains(point) and query.violated_by(outputs)
            assert holds(text, {"X": point, "Y": outputs}) == want
            answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize("dim", [1, 2, MOST_DIMENSIONS, MOST_DIMENSIONS + 1])
def test_facets_are_for_few_dimensions(dim):
    network = random_network(np.random.default_rng(0), (dim, 3, 3))
    query = network_query(network, Ball(1, 0.5, dim), PROPERTIES["largest"])
    found = linear_form(query)
    assert (found is None) == (dim > MOST_DIMENSIONS)
    if found is not None:
        assert found[1].count("assert (<=") == dim + 2**dim
        assert vnnlib.parse_query_string(found[1])
    assert two_networks(query) is None


def test_two_networks_are_for_one_data_point_of_one_latent():
    query = small_query("box", "largest")
    assert two_networks(query) is not None
    assert two_networks(replace(query, latent="x")) is None
    assert two_networks(small_query("ball times box", "largest")) is None
    last = query.graph.output_size
    both = with_extra_outputs(query.graph, [], [(slice(0, 3), 1)])  # outputs that depend on more than the data
    more = replace(query, graph=both, violation=(((Constraint(((last, Fraction(1)),), Fraction(0))),),))
    assert two_networks(more) is None


@given(
    seed=st.integers(0, 10**6),
    blocks=st.integers(0, 3),
    dim=st.integers(1, 4),
    point=st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
)
def test_a_chain_of_pairs_equals_the_graph_everywhere(seed, blocks, dim, point):
    graph = random_graph(seed, dim=dim, blocks=blocks)
    chain = paired_chain(graph)
    before = [chain.input, *(node.output for node in chain.nodes)]
    assert all(node.inputs == (name,) for node, name in zip(chain.nodes, before, strict=False))
    z = [Fraction(value) for value in point[:dim]]
    assert evaluate_exact(chain, z)[chain.output] == evaluate_exact(graph, z)[graph.output]


def test_a_chain_of_pairs_is_gemm_and_relu_alone():
    model = onnx.load_model_from_string(graph_to_onnx(paired_chain(random_graph(0))))
    assert {node.op_type for node in model.graph.node} == {"Gemm", "Relu"}


def test_a_chain_has_no_pairs_and_a_twice_read_tensor_is_refused():
    network = random_network(np.random.default_rng(0), (3, 4, 2))
    assert paired_chain(network).nodes == network.nodes
    one = np.eye(2)
    twice = Affine("y", (("h", one), ("h", one), ("z", one)), np.zeros(2))
    with pytest.raises(GraphError, match="read a tensor once"):
        paired_chain(Graph("z", 2, (Relu("h", "z"), twice), "y"))
