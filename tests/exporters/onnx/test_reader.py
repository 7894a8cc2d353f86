"""Whole ONNX networks: inputs and outputs, what is taken off the end, and folded constants."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import assert_agree, folding, model, node, read, residual_network, run, weights, whole

from exporters import EndingKind, graph_to_onnx, read_network, read_onnx, run_onnx
from exporters.testing import computed, points_for
from veriflow.errors import GraphError
from veriflow.piecewise.evaluate import evaluate, evaluate_exact

SHARED = Path(os.environ.get("VERIFLOW_SHARED_DATA", "no such folder"))


# --- whole networks --------------------------------------------------------------------------------------------------


def test_a_residual_convolutional_network(tmp_path):
    network = assert_agree(residual_network(), tmp_path)
    assert [(p.name, p.shape, p.slice) for p in network.inputs] == [("x", (1, 2, 6, 6), slice(0, 72))]
    assert [(p.name, p.shape, p.slice, p.ending) for p in network.outputs] == [("y", (1, 5), slice(0, 5), None)]


def test_the_exact_and_the_float_value_of_a_convolutional_network_agree(tmp_path):
    graph = read(residual_network(), tmp_path).graph
    point = points_for(read(residual_network(), tmp_path))[1]
    exact = evaluate_exact(graph, [Fraction(v) for v in point])
    values = evaluate(graph, torch.from_numpy(point))
    for name, value in values.items():
        np.testing.assert_allclose([float(v) for v in exact[name]], value.numpy(), atol=1e-12)


def test_gradients_pass_sparse_weights(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["c"]), node("MaxPool", ["c"], kernel_shape=[2, 2])]
    graph = read(model(nodes, {"x": (1, 1, 4, 3)}, {"w": weights(2, 1, 2, 2)}), tmp_path).graph
    points = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 3, 12))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: evaluate(graph, x)[graph.output], points)


def test_a_network_that_was_read_is_written_again(tmp_path):
    proto = residual_network()
    network = read(proto, tmp_path)
    points = points_for(network)
    np.testing.assert_allclose(
        run_onnx(graph_to_onnx(network.graph), points), run(proto, network, points)[0], atol=1e-4
    )


def test_sparse_weights_are_not_written_as_huge_files(tmp_path):
    proto = model([node("Conv", ["x", "w"], pads=[1] * 4)], {"x": (1, 1, 128, 128)}, {"w": weights(1, 1, 3, 3)})
    network = read(proto, tmp_path)
    with pytest.raises(GraphError, match="sparse weights that gain at most"):
        graph_to_onnx(network.graph)


# --- exactness -------------------------------------------------------------------------------------------------------


@given(slope=st.floats(-3, 3, width=32), point=st.lists(st.fractions(-9, 9), min_size=3, max_size=3))
def test_what_relus_are_made_of_is_exact(slope, point, tmp_path):
    low, high = sorted((slope, 0.1))
    proto = model(
        [
            node("LeakyRelu", ["x"], ["a"], alpha=slope),
            node("Clip", ["x", "l", "u"], ["b"]),
            node("Abs", ["x"], ["c"]),
            node("Max", ["x", "l"], ["d"]),
            node("ReduceMin", ["x"], ["e"]),
        ],
        {"x": (1, 3)},
        {"l": np.array(low), "u": np.array(high)},
        outputs="abcde",
    )
    graph = read(proto, tmp_path).graph
    got = evaluate_exact(graph, point)[graph.output]
    a, low, high = (Fraction(float(np.float32(v))) for v in (slope, low, high))
    want = [x if x > 0 else a * x for x in point]
    want += [min(max(x, low), high) for x in point]
    want += [abs(x) for x in point] + [max(x, low) for x in point] + [min(point)]
    assert got == want


def test_every_constant_is_a_constant_of_the_file(tmp_path):
    kernel, bias = weights(3, 2, 2, 2).astype(np.float32), weights(3).astype(np.float32)
    proto = model([node("Conv", ["x", "w", "b"])], {"x": (1, 2, 4, 3)}, {"w": kernel, "b": bias})
    (affine,) = read(proto, tmp_path).graph.nodes
    ((_, weight),) = affine.terms
    assert set(weight.data.tolist()) == set(kernel.astype(float).reshape(-1).tolist())
    assert set(affine.bias.tolist()) == set(bias.astype(float).tolist())
    assert weight.nnz == kernel.size * 3 * 2  # one kernel for each of 3 × 2 windows


@pytest.mark.parametrize(("kernel", "stride", "units"), [(2, 2, 12), (3, 1, 24), (3, 2, 8)])
def test_pools_share_their_comparisons(kernel, stride, units, tmp_path):
    pool = node("MaxPool", ["x"], kernel_shape=[kernel, kernel], strides=[stride, stride])
    network = assert_agree(model([pool], {"x": (1, 1, 4, 4)}), tmp_path)
    assert network.graph.relu_count <= units


def test_moving_entries_adds_nothing_to_a_graph(tmp_path):
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Reshape", ["t", "shape"], ["r"]),
        node("Slice", ["r", "from", "to", "axis"], ["s"]),
        node("Relu", ["s"], ["h"]),
        node("Split", ["h"], ["a", "b"], axis=2),
        node("Concat", ["b", "a"], ["c"], axis=1),
        node("Squeeze", ["c", "first"], ["q"]),
        node("MatMul", ["q", "w"], ["y"]),
    ]
    constants = {
        "shape": whole(1, 6, 4),
        "from": whole(1),
        "to": whole(5),
        "axis": whole(1),
        "first": whole(0),
        "w": weights(2, 3),
    }
    network = assert_agree(model(nodes, {"x": (1, 3, 4, 2)}, constants), tmp_path)
    assert [type(n).__name__ for n in network.graph.nodes] == ["Affine", "Relu", "Affine"]


# --- inputs and outputs ----------------------------------------------------------------------------------------------


def test_several_inputs_and_outputs_are_one_vector_each(tmp_path):
    nodes = [
        node("MatMul", ["second", "w"], ["m"]),
        node("Add", ["first", "m"], ["sum"]),
        node("Relu", ["sum"], ["h"]),
        node("Transpose", ["h"], ["turned"]),
    ]
    shapes = {"first": ("N", 3), "second": (2, 4), "unused": (1, 2)}
    network = assert_agree(model(nodes, shapes, {"w": weights(4, 3)}, outputs=["turned", "sum"]), tmp_path)
    assert [(p.name, p.shape, p.start, p.size) for p in network.inputs] == [
        ("first", (1, 3), 0, 3),
        ("second", (2, 4), 3, 8),
        ("unused", (1, 2), 11, 2),
    ]
    assert [(p.name, p.shape, p.start, p.size) for p in network.outputs] == [
        ("turned", (3, 2), 0, 6),
        ("sum", (2, 3), 6, 6),
    ]
    assert read_onnx(tmp_path / "m.onnx").output_size == 12


def test_constants_among_the_inputs_are_no_inputs(tmp_path):
    proto = model([node("Add", ["x", "c"])], {"x": (1, 3)}, {"c": weights(3)}, opset=8, constants_are_inputs=True)
    network = assert_agree(proto, tmp_path)
    assert [port.name for port in network.inputs] == ["x"]


@pytest.mark.parametrize("batch", ["N", None, 0, -1, 1])
def test_an_open_batch_is_one(batch, tmp_path):
    network = read(model([node("Add", ["x", "c"])], {"x": (batch, 3)}, {"c": weights(3)}), tmp_path)
    assert network.inputs[0].shape == (1, 3)


def test_doubles_keep_their_precision(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["c"]), node("Relu", ["c"], ["p"]), node("ReduceMax", ["p"], axes=[1])]
    constants = {"w": weights(5, 3)}
    assert_agree(model(nodes, {"x": (1, 2, 5)}, constants, kind=TensorProto.DOUBLE), tmp_path, 1e-14)


def test_names_that_the_file_uses_are_not_taken(tmp_path):
    nodes = [
        node("Relu", ["x"], ["y/relu"]),
        node("Abs", ["x"], ["inputs"]),
        node("Abs", ["y/relu"], ["a"]),
        node("Add", ["a", "inputs"], ["y"]),
        node("LeakyRelu", ["z"], ["outputs"]),
    ]
    assert_agree(model(nodes, {"x": (1, 3), "z": (1, 2)}, outputs=["y", "outputs"]), tmp_path)


# --- endings ---------------------------------------------------------------------------------------------------------


def finish(port, logits):
    """What the operation that was taken off makes of the logits, one row for each point."""
    ending = port.ending
    if ending is None:
        return logits
    values = logits.reshape(-1, *ending.shape)
    axis = None if ending.axis is None else ending.axis + 1
    if ending.kind is EndingKind.SIGMOID:
        values = 1 / (1 + np.exp(-values))
    elif ending.kind is EndingKind.ARGMAX:
        length = values.shape[axis]
        values = length - 1 - np.flip(values, axis).argmax(axis) if ending.prefers_last else values.argmax(axis)
    else:
        values = values - np.log(np.exp(values).sum(axis, keepdims=True))
        values = np.exp(values) if ending.kind is EndingKind.SOFTMAX else values
    return values.reshape(len(logits), -1)[:, ending.entries.reshape(-1)]


ENDINGS = {
    "sigmoid": ([node("Sigmoid", ["l"])], 13, (None, (2, 2, 3))),
    "softmax": ([node("Softmax", ["l"])], 13, (2, (2, 2, 3))),
    "softmax along 1": ([node("Softmax", ["l"], axis=1)], 13, (1, (2, 2, 3))),
    "softmax of old": ([node("Softmax", ["l"])], 11, (1, (2, 6))),
    "softmax of old along 2": ([node("Softmax", ["l"], axis=2)], 8, (1, (4, 3))),
    "softmax of old along -1": ([node("Softmax", ["l"], axis=-1)], 11, (1, (4, 3))),
    "log softmax": ([node("LogSoftmax", ["l"], axis=0)], 18, (0, (2, 2, 3))),
    "argmax": ([node("ArgMax", ["l"])], 13, (0, (2, 2, 3))),
    "argmax without its axis": ([node("ArgMax", ["l"], axis=-1, keepdims=0)], 11, (2, (2, 2, 3))),
    "argmax of the last": ([node("ArgMax", ["l"], axis=2, select_last_index=1)], 13, (2, (2, 2, 3))),
    "argmax as float": ([node("ArgMax", ["l"], ["i"]), node("Cast", ["i"], to=1)], 13, (0, (2, 2, 3))),
    "softmax, moved": (
        [
            node("Softmax", ["l"], ["s"]),
            node("Transpose", ["s"], ["t"]),
            node("Flatten", ["t"], ["f"]),
            node("Identity", ["f"]),
        ],
        13,
        (2, (2, 2, 3)),
    ),
    "one class's share": ([node("Softmax", ["l"], ["s"]), node("Gather", ["s", "i"], axis=2)], 13, (2, (2, 2, 3))),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings_are_taken_off(name, tmp_path):
    nodes, opset, (axis, shape) = ENDINGS[name]
    constants = {"i": np.array(1, dtype=np.int64)} if name == "one class's share" else {}
    kind = TensorProto.INT64 if nodes[-1].op_type == "ArgMax" else TensorProto.FLOAT
    first = [node("Neg", ["x"], ["n"]), node("Transpose", ["n"], ["l"])]
    proto = model([*first, *nodes], {"x": (3, 2, 2)}, constants, opset=opset, kinds={"y": kind})
    network = read(proto, tmp_path)
    (port,) = network.outputs
    assert (port.ending.axis, port.ending.shape, port.ending.entries.shape) == (axis, shape, port.shape)
    points = points_for(network)
    want, (logits,) = run(proto, network, points)[0], computed(network, points)
    np.testing.assert_allclose(finish(port, logits), want, atol=1e-6)
    with pytest.raises(GraphError, match=rf"got {port.ending.kind} before output 'y', which read_logits"):
        read_onnx(tmp_path / "m.onnx")


def test_logits_beside_probabilities(tmp_path):
    nodes = [node("Relu", ["x"], ["l"]), node("Softmax", ["l"], ["p"]), node("ArgMax", ["l"], ["k"], axis=1)]
    proto = model(nodes, {"x": (1, 3)}, outputs="plk", kinds={"k": TensorProto.INT64})
    network = read(proto, tmp_path)
    assert [port.ending and port.ending.kind.value for port in network.outputs] == ["Softmax", None, "ArgMax"]
    points = points_for(network)
    for port, logits, want in zip(network.outputs, computed(network, points), run(proto, network, points), strict=True):
        np.testing.assert_allclose(finish(port, logits), want, atol=1e-6)


# --- constants -------------------------------------------------------------------------------------------------------


FOLDED = {
    "constant": folding(node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1, 2, 3, 4])))),
    "float": folding(node("Constant", [], ["c"], value_float=0.1)),
    "floats": folding(node("Constant", [], ["c"], value_floats=[0.1, 0.2, 0.3, 0.4])),
    "int": folding(node("Constant", [], ["i"], value_int=3), node("Cast", ["i"], ["c"], to=1)),
    "ints": folding(node("Constant", [], ["i"], value_ints=[3, 4, 5, 6]), node("Cast", ["i"], ["c"], to=1)),
    "sparse": folding(
        node(
            "Constant",
            [],
            ["c"],
            sparse_value=helper.make_sparse_tensor(
                helper.make_tensor("v", 1, [2], [1.5, 2.5]), helper.make_tensor("i", 7, [2], [0, 3]), [4]
            ),
        )
    ),
    "shapes": folding(
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["n"]),
        node("Range", ["zero", "n", "one"], ["r"]),
        node("Cast", ["r"], ["f"], to=1),
        node("ConstantOfShape", ["s"], ["z"], value=numpy_helper.from_array(np.float32([0.5]))),
        node("Sub", ["z", "f"], ["c"]),
        constants={"zero": np.array(0, np.int64), "one": np.array(1, np.int64)},
    ),
    "part of a shape": folding(
        node("Shape", ["x"], ["s"], start=-1), node("Expand", ["v", "s"], ["c"]), constants={"v": weights(1)}, opset=15
    ),
    "size": folding(
        node("Size", ["x"], ["n"]), node("Cast", ["n"], ["f"], to=1), node("Sqrt", ["f"], ["c"])
    ),
    "moved": folding(
        node("Transpose", ["m"], ["t"]),
        node("Slice", ["t", "one", "two"], ["s"]),
        node("Squeeze", ["s", "nil"], ["q"]),
        node("Mul", ["q", "q"], ["c"]),
        constants={"m": weights(4, 3), "one": whole(1), "two": whole(2), "nil": whole(0)},
    ),
    "where": folding(
        node("Equal", ["a", "b"], ["e"]),
        node("Where", ["e", "v", "w"], ["c"]),
        constants={"a": whole(1, 2, 3, 4), "b": whole(1, 0, 3, 0), "v": weights(4), "w": weights(1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_constants_are_folded(name, tmp_path):
    assert_agree(FOLDED[name], tmp_path)


def test_half_precision_constants_may_be_cast(tmp_path):
    half = helper.make_tensor(
        "h", TensorProto.FLOAT16, [4], np.float16([0.1, 0.2, 0.3, 7]).view(np.uint16).tobytes(), True
    )
    proto = folding(node("Cast", ["h"], ["c"], to=1))
    proto.graph.initializer.append(half)
    assert_agree(proto, tmp_path)


# --- networks at hand ------------------------------------------------------------------------------------------------

AT_HAND = sorted(SHARED.glob("networks/*.onnx")) + sorted(SHARED.glob("acasxu/*.onnx"))[::7]


@pytest.mark.skipif(not AT_HAND, reason="VERIFLOW_SHARED_DATA names no folder with networks")
@pytest.mark.parametrize("path", AT_HAND, ids=lambda path: path.stem)
def test_published_networks_agree_with_onnxruntime(path):
    network = read_network(path)
    points = np.random.default_rng(0).uniform(-1, 1, (10, network.graph.input_size)).astype(np.float32).astype(float)
    (want,), (got,) = run(path, network, points), computed(network, points)
    assert np.abs(want - got).max() <= 1e-5 * np.abs(want).max()
