"""Names of classes belong to the logits that the file labels, and parts of what is behind logits are read as what they are."""

import math
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from classical_models import (
    BOTH,
    FLOAT,
    NAMES,
    ROWS,
    TEXT,
    WHOLE,
    by_graph,
    by_onnxruntime,
    classical,
    linear_classifier,
    ml,
    std,
)
from onnx import TensorProto
from onnx_models import model, node, weights

from exporters import OnnxNetwork, read_logits, read_onnx
from exporters.testing import inferred, points_for
from veriflow import never_confidently_wrong
from veriflow.errors import GraphError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.logits import without_ending

ABC = ["a", "b", "c"]
ORDERS = [[0, 1, 2], [1, 2, 0], [2, 1, 0], [0, 2, 1]]
SCORES = {
    "NONE": linear_classifier("NONE", ROWS, [0.5, -0.25, 0.0], ABC),
    "SOFTMAX": linear_classifier("SOFTMAX", ROWS, [0.5, -0.25, 0.0], ABC),
}


def names_of(proto, output, keys=None):
    """The names of an output's classes, after it was compared with onnxruntime; ``keys`` are those of maps, in order."""
    network, ending, classes, inputs = read_logits(proto, output)
    points = points_for(OnnxNetwork(network, inputs, ()), count=20)
    found = by_graph(network, ending, points)
    if ending and ending.kind == "argmax":
        assert found == by_onnxruntime(proto, [output], inputs, points)
    elif keys:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        (maps,) = session.run([output], {"X": points.astype(np.float32)})
        assert np.array(found) == pytest.approx(np.array([[row[key] for key in keys] for row in maps]), abs=1e-5)
    else:
        assert np.array(found) == pytest.approx(np.array(by_onnxruntime(proto, [output], inputs, points)), abs=1e-5)
    return classes


def permuted(transform, order, *, keys=None):
    nodes = [SCORES[transform], std("Gather", ["scores", "order"], ["y"], axis=1)]
    ends = {"label": TEXT, "y": FLOAT}
    if keys:
        nodes.append(ml("ZipMap", ["y"], ["maps"], classlabels_strings=keys))
        ends = {"label": TEXT, "maps": None}
    return classical(nodes, ends, {"order": np.array(order)})


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("transform", SCORES)
def test_names_follow_columns_that_are_moved(transform, order):
    proto = permuted(transform, order)
    assert names_of(proto, "y") == tuple(ABC[k] for k in order)
    assert names_of(proto, "label") == tuple(ABC)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("transform", SCORES)
def test_maps_name_their_own_columns(transform, order):
    moved = [ABC[k] for k in order]
    assert names_of(permuted(transform, order, keys=moved), "maps", moved) == tuple(moved)
    assert names_of(permuted(transform, order, keys=["x", "y", "z"]), "maps", ["x", "y", "z"]) == ("x", "y", "z")


def test_names_that_a_file_has_for_different_columns_are_not_given():
    assert names_of(permuted("SOFTMAX", [1, 2, 0], keys=ABC), "maps", ABC) == ()
    assert names_of(permuted("SOFTMAX", [1, 2, 0], keys=["c", "x", "y"]), "maps", ["c", "x", "y"]) == ()


def test_labels_of_other_logits_name_nothing():
    nodes = [
        SCORES["SOFTMAX"],
        std("MatMul", ["X", "w"], ["l"]),
        std("Softmax", ["l"], ["y"]),
    ]
    constants = {"w": weights(3, 3)}
    assert names_of(classical(nodes, {"label": TEXT, "y": FLOAT}, constants), "y") == ()
    pair = [linear_classifier("SOFTMAX", ROWS[:6], [0.5, -0.25], NAMES), *nodes[1:]]
    assert names_of(classical(pair, {"label": TEXT, "y": FLOAT}, {"w": weights(3, 2)}), "y") == ()


def named_pair(after, ends, constants=(), *, transform="LOGISTIC", names=NAMES):
    return classical([linear_classifier(transform, BOTH, [-0.5, 0.5], names), *after], ends, constants)


@pytest.mark.parametrize("transform", ["LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("form", ["Gather", "scalar", "Slice", "ArrayFeatureExtractor", "Split"])
def test_one_of_two_probabilities_is_a_sigmoid_with_names(transform, place, form):
    start, end = np.array([place]), np.array([place + 1])
    constants = {"place": np.array([place]), "at": np.array(place), "start": start, "end": end, "axis": np.array([1])}
    chosen = {
        "Gather": std("Gather", ["scores", "place"], ["y"], axis=1),
        "scalar": std("Gather", ["scores", "at"], ["one"], axis=1),
        "Slice": std("Slice", ["scores", "start", "end", "axis"], ["y"]),
        "ArrayFeatureExtractor": ml("ArrayFeatureExtractor", ["scores", "place"], ["y"]),
        "Split": std("Split", ["scores"], ["y", "z"] if place == 0 else ["z", "y"], axis=1),
    }[form]
    output = chosen.output[0] if form == "scalar" else "y"
    proto = named_pair([chosen], {"label": TEXT, output: FLOAT}, constants, transform=transform)
    assert names_of(proto, output) == tuple(NAMES if place else NAMES[::-1])
    assert read_logits(proto, output).ending == ("sigmoid", 1, ())
    assert names_of(proto, "label") == tuple(NAMES)


def test_a_pair_in_another_order_keeps_its_names():
    swapped = std("Gather", ["scores", "order"], ["y"], axis=1)
    for transform in ("LOGISTIC", "SOFTMAX", "NONE"):
        proto = named_pair([swapped], {"label": TEXT, "y": FLOAT}, {"order": np.array([1, 0])}, transform=transform)
        assert names_of(proto, "y") == ("malignant", "benign")


def test_the_label_replaced_by_an_encoder_names_nothing():
    encoder = ml("LabelEncoder", ["label"], ["name"], keys_strings=ABC, values_strings=["b", "c", "a"])
    nodes = [SCORES["SOFTMAX"], encoder, std("Gather", ["scores", "order"], ["y"], axis=1)]
    proto = classical(nodes, {"name": TEXT, "y": FLOAT}, {"order": np.array([2, 1, 0])}, classical_opset=2)
    assert names_of(proto, "y") == ("a", "c", "b")
    assert names_of(proto, "name") == ("b", "c", "a")


PAIR = [node("MatMul", ["x", "w"], ["l"]), node("Softmax", ["l"], ["p"])]


def taken(place, kind, *, count=2, rows="N", ending=PAIR, axis=1):
    nodes = [*ending, node("Gather", ["p", "place"], axis=axis)]
    constants = {"w": weights(3, count), "place": np.array(place)}
    return inferred(model(nodes, {"x": (rows, 3)}, constants, kind=kind))


@pytest.mark.parametrize("rows", ["N", 1, 4])
@pytest.mark.parametrize("place", [0, 1, [0], [1]])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_one_of_two_probabilities_is_the_sigmoid_of_a_difference(kind, place, rows):
    proto = taken(place, kind, rows=rows)
    network, ending, classes, inputs = read_logits(proto)
    assert (ending, classes, network.input_size, network.output_size) == (("sigmoid", 1, ()), (), 3, 1)
    points = points_for(OnnxNetwork(network, inputs, ()), count=20)
    for point in points:
        exact = [Fraction(v) for v in point.tolist()]
        logits = evaluate_exact(network, exact)[network.output]
        (run,) = network.source.run([exact])
        assert network.source.agrees(run, logits, 1e-5)
        assert run.outputs[0] == pytest.approx(1 / (1 + math.exp(-logits[0])), abs=1e-5)
        graph, prop = without_ending(network, ending, never_confidently_wrong(1, 0.75))
        sure = run.outputs[0] <= 0.25
        assert any(all(c.slack(dict(enumerate((0, logits[0])))) >= 0 for c in row) for row in prop.violation(2)) == sure
        assert graph.output_size == 2
    with pytest.raises(GraphError, match="got Sigmoid before output 'y'"):
        read_onnx(proto)


@pytest.mark.parametrize("place", [0, 1, 2, [0], [0, 1], [2, 0]])
@pytest.mark.parametrize("ending", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_a_part_of_more_than_two_stays_refused(place, ending):
    parts = [PAIR[0], node(ending, ["l"], ["p"])]
    with pytest.raises(GraphError, match=f"expected one {ending} over all logits .* got a part of one before 'y'"):
        read_logits(taken(place, TensorProto.FLOAT, count=3, ending=parts))


@pytest.mark.parametrize("rows", ["N", 1, 3])
@pytest.mark.parametrize("ending", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_all_of_an_ending_in_another_order_is_one_of_its_logits_in_that_order(ending, rows):
    parts = [PAIR[0], node(ending, ["l"], ["p"])]
    proto = taken([2, 0, 1], TensorProto.DOUBLE, count=3, rows=rows, ending=parts)
    network, kept, _, inputs = read_logits(proto)
    assert (network.input_size, kept.logits) == (3, 3)
    for point in points_for(OnnxNetwork(network, inputs, ())):
        exact = [Fraction(v) for v in point.tolist()]
        (run,) = network.source.run([exact])
        assert network.source.agrees(run, evaluate_exact(network, exact)[network.output], 1e-9)


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_in_another_order_are_no_batch(axis):
    proto = taken([1, 0], TensorProto.FLOAT, rows=2, axis=axis)
    network, ending, *_ = read_logits(proto) if axis else (None,) * 3
    assert not axis or (network.input_size, ending) == (3, ("softmax", 2, ()))
    if axis == 0:
        with pytest.raises(GraphError, match="over all logits in their order"):
            read_logits(proto)


@pytest.mark.parametrize("operator", ["LinearRegressor", "LinearClassifier"])
def test_linear_models_of_a_fixed_batch_are_read_by_their_rows(operator):
    if operator == "LinearRegressor":
        last = ml(operator, ["X"], ["scores"], coefficients=ROWS, intercepts=[1.0, 2.0, 3.0], targets=3)
    else:
        last = linear_classifier("SOFTMAX", ROWS, [0.5, -0.25, 0.0], [0, 1, 2])
    proto = classical([last], {"scores": FLOAT} if operator == "LinearRegressor" else {"label": WHOLE, "scores": FLOAT})
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    network, ending, classes, _ = read_logits(proto, "scores")
    assert (network.input_size, network.output_size) == (3, 3)
    assert classes == (() if ending is None else ("0", "1", "2"))
    exact = [Fraction(v) for v in (0.5, -1.25, 2.0)]
    (run,) = network.source.run([exact])
    assert network.source.agrees(run, evaluate_exact(network, exact)[network.output], 1e-5)


def test_named_columns_of_a_fixed_batch_are_read_by_their_rows():
    names = [(column, 1) for column in "abc"]
    proto = classical(
        [ml("FeatureVectorizer", list("abc"), ["X"], inputdimensions=[1, 1, 1]), SCORES["SOFTMAX"]],
        {"label": TEXT, "scores": FLOAT},
        inputs=names,
    )
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 4
    network, _, classes, inputs = read_logits(proto, "scores")
    assert (network.input_size, classes, [port.shape for port in inputs]) == (3, tuple(ABC), [(1, 1)] * 3)
    exact = [Fraction(v) for v in (0.5, -1.25, 2.0)]
    (run,) = network.source.run([exact])
    assert network.source.agrees(run, evaluate_exact(network, exact)[network.output], 1e-5)


@pytest.mark.parametrize("rows", ["N", 4])
def test_thresholds_of_a_batch_are_decisions_row_by_row(rows):
    nodes = [PAIR[0], node("Sigmoid", ["l"], ["p"]), node("Greater", ["p", "half"], ["b"]), node("Cast", ["b"], to=1)]
    proto = inferred(model(nodes, {"x": (rows, 3)}, {"w": weights(3, 1), "half": np.array(0.5)}))
    network, ending, *_ = read_logits(proto)
    assert (network.input_size, ending) == (3, ("argmax", 2, ()))
    for point in points_for(OnnxNetwork(network, network.source.inputs, ())):
        exact = [Fraction(v) for v in point.tolist()]
        (run,) = network.source.run([exact])
        assert network.source.agrees(run, evaluate_exact(network, exact)[network.output], 1e-5)


def test_shares_by_a_norm_of_order_one_are_those_of_a_normalizer():
    share = std("LpNormalization", ["scores"], ["y"], p=1)
    assert names_of(named_pair([share], {"label": TEXT, "y": FLOAT}), "y") == tuple(NAMES)
    several = [linear_classifier("LOGISTIC", ROWS, [0.5, -0.25, 0.0], ABC), share]
    with pytest.raises(GraphError, match=r"add up to 1 before .* \(or a label as the output\)"):
        read_logits(classical(several, {"label": TEXT, "y": FLOAT}), "y")
    with pytest.raises(GraphError, match="a division of each row by its L2 norm"):
        read_logits(classical([std("LpNormalization", ["X"], ["y"])], {"y": FLOAT}))
