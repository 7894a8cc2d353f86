"""Networks that give one probability, or labels: properties of classes are asked of their logits, classes by name."""

import math
from fractions import Fraction

import numpy as np
import pytest
from classical_models import NAMES, READ, classical, ml, std
from cli_runs import document, refused, run
from onnx import TensorProto
from onnx_models import model, node, weights

from exporters import LogitEnding, read_logits
from exporters.testing import inferred
from veriflow import (
    Box,
    classified_as,
    confident,
    fair,
    formula_property,
    lipschitz,
    network_query,
    never_confidently_wrong,
    parse_property,
    robust,
    same_decision,
    y,
)
from veriflow.errors import GraphError, PropertyError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.logits import decision_graph, property_on_logits, without_ending

UNIT = Box(-np.ones(2), np.ones(2))
SIGMOID = inferred(
    model(
        [node("MatMul", ["x", "w"], ["l"]), node("Sigmoid", ["l"])], {"x": ("N", 2)}, {"w": np.array([[3.0], [-2.0]])}
    )
)


def logit(point):
    return 3 * Fraction(point[0]) - 2 * Fraction(point[1])


def violated(prop, point, extra=()):
    """Whether the network violates the property at a point, with further numbers that a relation is free to choose."""
    network, ending, *_ = read_logits(SIGMOID)
    graph, moved = without_ending(network, ending, prop)
    query = network_query(graph, UNIT, moved)
    outputs = evaluate_exact(query.graph, [Fraction(v) for v in (*point, *extra)])[query.graph.output]
    return query.violated_by(outputs)


POINTS = [(0.5, 0.5), (0.25, 0.5), (-0.5, 0.25), (0.375, -0.125), (1.0, 1.5), (0.0, 0.0)]


@pytest.mark.parametrize("point", POINTS)
def test_one_sigmoid_decides_as_the_logits_zero_and_l(point):
    at = float(logit(point))
    assert violated(classified_as(1), point) == (at <= 0)
    assert violated(classified_as(0), point) == (at >= 0)
    assert violated(confident(1, 0.5), point) == (at < 0.5)
    assert violated(confident(None, 0.5), point) == (abs(at) < 0.5)
    assert violated(never_confidently_wrong(1, 0.6), point) == (1 / (1 + math.exp(at)) >= 0.6)
    assert violated(never_confidently_wrong(0, 0.6), point) == (1 / (1 + math.exp(-at)) >= 0.6)
    assert violated(formula_property(y[0] > 0.5), point) == (at <= 0)


@pytest.mark.parametrize("point", POINTS)
def test_relations_compare_decisions(point):
    step = (0.125, -0.125)
    there = logit([Fraction(a) + Fraction(b) for a, b in zip(point, step, strict=True)])
    assert violated(robust(0.125), point, step) == (logit(point) >= 0 > there or logit(point) <= 0 < there)
    other = logit([1, point[1]])
    first = logit([0, point[1]])
    assert violated(fair(0, [0, 1]), point) == ((first >= 0 > other) or (first <= 0 < other))
    network, ending, *_ = read_logits(SIGMOID)
    assert not violated(same_decision(decision_graph(network, ending)), point)


def test_relations_of_outputs_are_refused():
    network, ending, *_ = read_logits(SIGMOID)
    with pytest.raises(PropertyError, match="a network without its last sigmoid for 'lipschitz"):
        without_ending(network, ending, lipschitz(1, math.inf, 0.1))


def test_mixed_text_is_about_outputs():
    assert parse_property("classified_as(1) & !never_confidently_wrong(0, 0.9)").of_logits
    assert not parse_property("classified_as(1) & y[0] >= 0").of_logits
    assert not parse_property("output_between(0, 0, 1)").of_logits
    network, ending, *_ = read_logits(SIGMOID)
    graph, moved = without_ending(network, ending, parse_property("y[0] >= 0.9"))
    assert graph is network
    assert "before the last sigmoid" in moved.text


@pytest.mark.parametrize("name", ["benign", "'benign'", '"benign"', " 'benign' "])
def test_classes_have_names_in_text(name):
    for text, same in (
        (f"classified_as({name})", classified_as(0)),
        (f"never_confidently_wrong({name}, 0.9)", never_confidently_wrong(0, 0.9)),
        (f"confident({name}, 0.5)", confident(0, 0.5)),
    ):
        assert parse_property(text, classes=NAMES).violation(2) == same.violation(2)
    network, _, classes, _ = read_logits(READ["scaler, binary, maps"][0])
    box = Box(-np.ones(3), np.ones(3))
    relation = parse_property(f"robust(0.1, inf, c={name})", classes=classes)
    assert network_query(network, box, relation).violation == network_query(network, box, robust(0.1, c=0)).violation


@pytest.mark.parametrize("text", ["classified_as({})", "confident({}, 0.5)", "robust(0.1, inf, c={})"])
def test_unknown_names_are_told_the_known_ones(text):
    with pytest.raises(PropertyError, match=r"among 'benign', 'malignant'; got 'benin', did you mean 'benign'\?"):
        parse_property(text.format("benin"), classes=NAMES)
    with pytest.raises(PropertyError, match="the number of a class, as no names of classes are known; got 'benign'"):
        parse_property(text.format("benign"))


def test_a_name_for_a_number_is_a_sentence_in_python():
    for prop in (classified_as("benign"), confident("benign", 0.5), never_confidently_wrong("benign", 0.9)):
        with pytest.raises(PropertyError, match="the number of an output, counted from 0; got 'benign'"):
            prop.violation(2)


def test_labels_are_compared_as_the_file_gives_them():
    ending = read_logits(READ["three whole labels"][0], "label").ending
    assert ending == LogitEnding("argmax", 3, (-1, 4, 7))
    above = property_on_logits(formula_property(y[0] >= 4), *ending).violation(3)
    assert above == property_on_logits(formula_property(y[0] >= 1), "argmax", 3).violation(3)
    named = read_logits(READ["scaler, binary, maps"][0], "label").ending
    with pytest.raises(PropertyError, match="a property of classes, as labels are text"):
        property_on_logits(formula_property(y[0] >= 1), *named).violation(2)


@pytest.mark.parametrize("kept", [[1], [0], [0, 1], [1, 2]])
@pytest.mark.parametrize("ending", ["Sigmoid", "Softmax", "LogSoftmax"])
def test_a_part_of_what_is_behind_the_logits_is_not_taken_for_all_of_it(ending, kept):
    nodes = [node("MatMul", ["x", "w"], ["l"]), node(ending, ["l"], ["p"]), node("Gather", ["p", "kept"], axis=1)]
    proto = inferred(model(nodes, {"x": ("N", 2)}, {"w": weights(2, 3), "kept": np.array(kept)}))
    with pytest.raises(GraphError, match="over all logits in their order"):
        read_logits(proto)


def test_several_sigmoids_are_compared_alone():
    nodes = [node("MatMul", ["x", "w"], ["l"]), node("Sigmoid", ["l"])]
    proto = inferred(model(nodes, {"x": ("N", 2)}, {"w": weights(2, 3)}, kind=TensorProto.DOUBLE))
    network, ending, *_ = read_logits(proto)
    graph, moved = without_ending(network, ending, classified_as(1))
    assert (graph, moved.violation(3)) == (network, classified_as(1).violation(3))
    with pytest.raises(PropertyError, match="comparisons that can be moved before a sigmoid"):
        without_ending(network, ending, never_confidently_wrong(1, 0.9))[1].violation(3)
    with pytest.raises(PropertyError, match="a network without its last sigmoid"):
        without_ending(network, ending, robust(0.1))


def labelled(columns, names, **others):
    """σ(x0 + x1 − 2) as the probability of the second class, from a table's columns, with its label and other outputs."""
    model = classical(
        [
            ml("FeatureVectorizer", columns, ["X"], inputdimensions=[1, 1]),
            ml("LinearClassifier", ["X"], ["label", "scores"], classlabels_strings=names, **BOTH),
            *(std("Relu", ["X"], [name]) for name in others),
        ],
        {"label": TensorProto.STRING, "scores": TensorProto.FLOAT} | others,
        inputs=[(column, 1) for column in columns],
    )
    return model.SerializeToString()


BOTH = {"coefficients": [-1.0, -1.0, 1.0, 1.0], "intercepts": [2.0, -2.0], "post_transform": "LOGISTIC"}


def test_the_command_line_takes_names_and_outputs(folder, asked, tmp_path):
    (tmp_path / "net.onnx").write_bytes(labelled(["width__mm_", "height"], ["low", "high"], other=TensorProto.FLOAT))
    for prop, output, outcome in (
        ("classified_as(high)", "scores", "holds"),
        ("classified_as('low')", "label", "violated"),
        ("robust(0.01, inf, c=high)", "scores", "holds"),
        ("y[1] > 0.4", "scores", "holds"),
        ("y[1] >= 0", "other", "holds"),
    ):
        code = {"holds": 0, "violated": 1}[outcome]
        options = [*asked(prop, network=tmp_path / "net.onnx"), "--mass", 0.1, "--output", output]
        assert document("verify", *options, code=code)["outcome"] == outcome
    options = [*asked("classified_as(hig)", network=tmp_path / "net.onnx"), "--mass", 0.1]
    assert "all logits in their order" in refused("verify", *options)
    assert "did you mean 'high'?" in refused("verify", *options, "--output", "scores")
    assert "an output among 'label', 'scores', 'other'" in refused("verify", *options, "--output", "none")
    bundle = ["-o", tmp_path / "bundle", "--network-output", "label"]
    assert (
        run("export", *asked("classified_as(high)", network=tmp_path / "net.onnx"), "--mass", 0.1, *bundle).exit_code
        == 0
    )


def test_columns_in_another_order_are_refused(asked, tmp_path):
    (tmp_path / "net.onnx").write_bytes(labelled(["height", "width__mm_"], ["low", "high"]))
    message = refused("verify", *asked("classified_as(high)", network=tmp_path / "net.onnx"), "--mass", 0.1)
    assert message == (
        "expected inputs in the order of the flow's features, width [mm], height; got height, width__mm_"
    )


def test_rows_that_mix_are_named(asked, tmp_path):
    nodes = [node("ReduceSum", ["x", "axis"], ["s"]), node("Add", ["x", "s"])]
    proto = inferred(model(nodes, {"x": (3, 2)}, {"axis": np.array([0])}))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    message = refused("verify", *asked("y[0] >= 0", network=tmp_path / "net.onnx"), "--mass", 0.1)
    assert message == (
        "expected a network of 2 inputs, as the flow gives; got 'x' of shape [3, 2], whose first axis is no batch of rows "
        "that are treated alike: export it with 1 there"
    )
