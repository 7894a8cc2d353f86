"""Models in the operators that skl2onnx writes: graphs compute what onnxruntime computes, labels and classes included."""

import numpy as np
import onnx
import pytest
from classical_models import (
    FLOAT,
    OFFSET,
    READ,
    ROWS,
    SCALE,
    by_graph,
    by_onnxruntime,
    classical,
    linear_classifier,
    ml,
    std,
)
from onnx import helper

from exporters import OnnxNetwork, read_logits, read_network, read_onnx
from exporters.testing import points_for
from veriflow.errors import GraphError


@pytest.mark.parametrize("name", READ)
def test_exports_compute_what_onnxruntime_computes(name):
    model, kind, classes = READ[name]
    network, ending, found, inputs = read_logits(model)
    assert (ending and ending.kind) == kind
    assert found == classes
    points = points_for(OnnxNetwork(network, inputs, ()))
    outputs = [end.name for end in model.graph.output]
    scores = [end for end in outputs if end not in ("label", "name")]
    for want, got in zip(by_onnxruntime(model, scores, inputs, points), by_graph(network, ending, points), strict=True):
        assert got == pytest.approx(want, rel=1e-5, abs=1e-5)
    if "label" in outputs:
        network, ending, _, inputs = read_logits(model, "label")
        assert ending.kind == "argmax"
        assert by_graph(network, ending, points) == by_onnxruntime(model, ["label"], inputs, points)


def test_constants_of_a_scaler_are_kept_as_they_are():
    graph = read_onnx(classical([ml("Scaler", ["X"], ["y"], offset=OFFSET, scale=SCALE)], {"y": FLOAT}))
    shift, factor = graph.nodes
    assert (shift.bias == -np.float32(OFFSET).astype(float)).all()
    assert (factor.terms[0][1].diagonal() == np.float32(SCALE).astype(float)).all()


REFUSED = {
    "a norm": ([ml("Normalizer", ["X"], ["y"], norm="L2")], "division of each row by its L2 norm"),
    "a threshold": ([ml("Binarizer", ["X"], ["y"], threshold=0.5)], "piecewise affine networks .* got Binarizer"),
    "a probit": ([linear_classifier("PROBIT", ROWS, [0.0] * 3, [0, 1, 2])], "post_transform NONE, LOGISTIC or SOFTMAX"),
    "shares": (
        [
            linear_classifier("LOGISTIC", ROWS, [0.5, -0.25, 0.0], [0, 1, 2]),
            ml("Normalizer", ["scores"], ["y"], norm="L1"),
        ],
        "add up to 1 before they are divided by their sum .*or a label as the output",
    ),
    "shares of a part": (
        [
            linear_classifier("LOGISTIC", [1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.5, 0.0, 1.0], [0.0] * 3, [0, 1, 2]),
            std("Constant", [], ["axis"], value_ints=[1]),
            std("Constant", [], ["pair"], value_ints=[0, 1]),
            std("ReduceSum", ["scores", "axis"], ["sum"]),
            ml("ArrayFeatureExtractor", ["scores", "pair"], ["first"]),
            std("Div", ["first", "sum"], ["y"]),
        ],
        "all probabilities over the sums of their rows",
    ),
    "a filled gap": (
        [ml("Imputer", ["X"], ["y"], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=0.0)],
        "NaN as the value to replace",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence(name):
    nodes, message = REFUSED[name]
    end = nodes[-1].output[-1]
    with pytest.raises(GraphError, match=message) as caught:
        read_network(classical(nodes, {end: FLOAT}), end)
    assert str(caught.value).startswith("expected ") and "\n" not in str(caught.value)


def test_nodes_that_the_output_does_not_need_are_not_looked_at():
    nodes = [
        std("Relu", ["X"], ["y"]),
        std("Tanh", ["X"], ["unused"]),
        helper.make_node("Mystery", ["X"], ["z"], domain="com.example"),
    ]
    model = classical(nodes, {"y": FLOAT, "z": FLOAT})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert read_onnx(model, "y").relu_count == 3
    for output, message in ((None, "got Mystery of 'com.example'"), ("x", "an output among 'y', 'z'; got 'x'")):
        with pytest.raises(GraphError, match=message):
            read_onnx(model, output)


def test_constants_among_the_inputs_are_named():
    nodes = [std("Sub", ["X", "layer/mean"], ["c"]), std("Mul", ["c", "layer/factor"], ["y"])]
    model = classical(nodes, {"y": FLOAT}, inputs=[("X", 3), ("layer/mean", 3), ("layer/factor", 3)])
    for value in model.graph.input[1:]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(GraphError, match=r"beside 'layer/mean' and 'layer/factor' of fixed size: constants"):
        read_network(model)


def test_a_model_is_read_from_bytes_and_left_alone(tmp_path):
    model = READ["scores"][0]
    before = model.SerializeToString()
    onnx.save(model, tmp_path / "m.onnx")
    for source in (model, before, tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
        assert read_logits(source).classes == ("a", "b", "c")
    assert model.SerializeToString() == before
