"""Comparisons, branches, sums by equation, quantised and half-precision constants, and batches of a fixed size."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_models import assert_agree, folding, model, node, read, weights, whole

from exporters import OnnxNetwork, read_logits, read_network, read_onnx
from exporters.testing import inferred, points_for
from veriflow.errors import GraphError
from veriflow.piecewise.evaluate import evaluate

LINE = {"x": (1, 4)}
SLOPES = {
    "zero": np.array(0.0),
    "a": np.array(0.1),
    "b": weights(4),
    "two": np.array(2.0),
    "back": whole(3, 2, 1, 0),
    "third": whole(2),
}


def branch(comparison, sides, branches, *before):
    return [*before, node(comparison, sides, ["c"]), node("Where", ["c", *branches])]


AGREEING = {
    "leaky": model(branch("Greater", ["x", "zero"], ["x", "ax"], node("Mul", ["x", "a"], ["ax"])), LINE, SLOPES),
    "slopes on both sides": model(
        branch(
            "LessOrEqual", ["x", "zero"], ["bx", "ax"], node("Mul", ["x", "a"], ["ax"]), node("Mul", ["b", "x"], ["bx"])
        ),
        LINE,
        SLOPES,
    ),
    "quotients on both sides": model(
        branch(
            "Greater", ["x", "zero"], ["x/a", "x/b"], node("Div", ["x", "a"], ["x/a"]), node("Div", ["x", "d"], ["x/b"])
        ),
        LINE,
        SLOPES | {"d": np.array([3.0, -7.0, 0.3, 10.0])},
    ),
    "zero on one side": model(branch("GreaterOrEqual", ["zero", "x"], ["zero", "x"]), LINE, SLOPES),
    "a limit": model(branch("Greater", ["x", "two"], ["two", "x"]), LINE, SLOPES),
    "the larger": model(
        branch("Less", ["x", "h"], ["h", "x"], node("MatMul", ["x", "w"], ["h"])), LINE, {"w": weights(4, 4)}
    ),
    "the smaller, by not": model(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Greater", ["x", "h"], ["c"]),
            node("Not", ["c"], ["d"]),
            node("Where", ["d", "x", "h"]),
        ],
        LINE,
        {"w": weights(4, 4)},
    ),
    "a comparison turned about with its sides": model(
        [
            node("Greater", ["x", "far"], ["c"]),
            node("Gather", ["c", "back"], ["d"], axis=1),
            node("Gather", ["x", "back"], ["u"], axis=1),
            node("Gather", ["far", "back"], ["v"], axis=1),
            node("Where", ["d", "u", "v"]),
        ],
        LINE,
        {"far": weights(1, 4), "back": whole(3, 0, 2)},
    ),
    "a constant condition": model(
        [node("Where", ["c", "x", "b"])], LINE, {"c": np.array([True, False, False, True]), "b": weights(4)}
    ),
    "no input is missing": model(
        [node("IsNaN", ["x"], ["c"]), node("Where", ["c", "b", "x"])], LINE, {"b": weights(4)}
    ),
    "hard sigmoid": model([node("HardSigmoid", ["x"], alpha=0.3, beta=0.4)], LINE),
    "tile": model([node("Tile", ["x", "n"])], {"x": (2, 3)}, {"n": whole(2, 3)}),
    "a product by equation": model([node("Einsum", ["x", "w"], equation="bi,ij->bj")], LINE, {"w": weights(4, 3)}),
    "the constant first": model([node("Einsum", ["w", "x"], equation="ji, bi -> jb")], LINE, {"w": weights(3, 4)}),
    "without an arrow": model([node("Einsum", ["x", "w"], equation="bi,ij")], LINE, {"w": weights(4, 3)}),
    "dots": model([node("Einsum", ["x", "w"], equation="...i,ij->...j")], {"x": (2, 3, 4)}, {"w": weights(4, 2)}),
    "a transposition": model([node("Einsum", ["x"], equation="abc->cab")], {"x": (1, 2, 3)}),
    "a sum": model([node("Einsum", ["x"], equation="abc->b")], {"x": (1, 2, 3)}),
    "a diagonal": model([node("Einsum", ["x"], equation="aab->ba")], {"x": (3, 3, 2)}),
    "an outer product": model([node("Einsum", ["x", "v"], equation="bi,k->kbi")], LINE, {"v": weights(3)}),
    "constants added up": model([node("Einsum", ["x", "w"], equation="bi,ik->bi")], LINE, {"w": weights(4, 3)}),
    "two constants": model(
        [node("Einsum", ["w", "x", "v"], equation="ij,bi,jk->bk")], LINE, {"w": weights(4, 3), "v": weights(3, 2)}
    ),
    "triangular": folding(node("Trilu", ["t"], ["c"], upper=1), constants={"t": weights(4, 4)}, opset=14),
}


@pytest.mark.parametrize("name", AGREEING)
def test_graphs_compute_what_onnxruntime_computes(name, tmp_path):
    assert_agree(AGREEING[name], tmp_path)


def test_a_transposition_by_equation_adds_nothing():
    graph = read_onnx(inferred(model([node("Relu", ["x"], ["h"]), node("Einsum", ["h"], equation="ab->ba")], LINE)))
    assert [type(one).__name__ for one in graph.nodes] == ["Relu"]


REFUSED = {
    "a jump": (branch("Greater", ["x", "zero"], ["two", "zero"]), "branches that meet where the condition changes"),
    "a shifted branch": (
        branch("Greater", ["x", "zero"], ["x", "s"], node("Add", ["x", "two"], ["s"])),
        "branches that meet where the condition changes",
    ),
    "a comparison turned about": (
        [
            node("Mul", ["x", "a"], ["ax"]),
            node("Greater", ["x", "zero"], ["c"]),
            node("Gather", ["c", "back"], ["d"], axis=1),
            node("Where", ["d", "x", "ax"]),
        ],
        "branches that meet where the condition changes",
    ),
    "a part of a comparison": (
        [
            node("Greater", ["x", "b"], ["c"]),
            node("Gather", ["c", "third"], ["d"], axis=1),
            node("Where", ["d", "x", "b"]),
        ],
        "branches that meet where the condition changes",
    ),
    "a comparison as a number": (
        [node("Greater", ["x", "zero"], ["c"]), node("Cast", ["c"], to=1)],
        "the comparison 'y'",
    ),
    "a product with a comparison": (
        [node("Greater", ["x", "zero"], ["c"]), node("Cast", ["c"], ["m"], to=1), node("Mul", ["x", "m"])],
        "comparison before Where alone; got comparison node .* before Mul node 'the Mul'",
    ),
    "a product of two": ([node("Einsum", ["x", "x"], equation="bi,bi->b")], "one operand that depends on the input"),
    "an equation that does not fit": (
        [node("Einsum", ["x", "b"], equation="bi,ij->bj")],
        "an equation of letters that fits",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence(name):
    nodes, message = REFUSED[name]
    proto = model(nodes, LINE, SLOPES)
    proto.graph.output[0].type.tensor_type.shape.SetInParent()
    with pytest.raises(GraphError, match=message):
        read_network(proto)


@pytest.mark.parametrize(
    ("scale", "zero", "options"),
    [(0.1, 3, {}), ([0.1, 0.25, 3.0], [1, -2, 0], {"axis": 1}), ([0.1] * 4, None, {"axis": 0})],
    ids=["whole", "by column", "without zero"],
)
def test_quantised_weights_are_what_they_stand_for(scale, zero, options, tmp_path):
    values = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    parts = {"q": values, "s": np.array(scale, np.float32)} | ({} if zero is None else {"z": np.array(zero, np.int8)})
    network = read(
        model([node("DequantizeLinear", list(parts), ["w"], **options), node("MatMul", ["x", "w"])], LINE, parts),
        tmp_path,
    )
    factors = np.broadcast_to(
        np.float32(scale) if np.ndim(scale) < 2 else scale, (3 if options.get("axis") != 0 else 4,)
    )
    factors = factors[:, None] if options.get("axis") == 0 else factors
    wanted = (values.astype(np.float32) - np.float32(0 if zero is None else zero)) * factors
    assert (network.graph.nodes[0].terms[0][1] == wanted.T.astype(np.float64)).all()


def test_half_precision_keeps_its_constants(tmp_path):
    half = np.float16([0.1, 0.2, -0.3, 1 / 3])
    tensors = [onnx.numpy_helper.from_array(half, "c")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 4]) for name in "xy"]
    nodes = [node("Add", ["x", "c"], ["s"]), node("Relu", ["s"], ["h"]), node("Cast", ["h"], to=10)]
    proto = helper.make_model(
        helper.make_graph(nodes, "half", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    assert (read_onnx(proto).nodes[0].bias == half.astype(np.float64)).all()


def test_an_output_may_lack_its_type():
    proto = inferred(model([node("Relu", ["x"])], LINE))
    proto.graph.output[0].ClearField("type")
    assert read_onnx(proto).relu_count == 4


# --- batches of a fixed size ---


def batched(rows, *after, **constants):
    """A small network on a batch, with a reshape that holds its size."""
    nodes = [
        node("Reshape", ["x", "shape"], ["r"]),
        node("Gemm", ["r", "w", "b"], ["g"]),
        node("Relu", ["g"], ["h"]),
        node("MatMul", ["h", "v"], ["l"]),
        *(after or [node("Identity", ["l"])]),
    ]
    known = {"shape": whole(rows, 4), "w": weights(4, 5), "b": weights(5), "v": weights(5, 3)}
    return inferred(model(nodes, {"x": (rows, 2, 2)}, known | constants))


def test_a_batch_is_read_as_one_row():
    rows = read_onnx(batched(6))
    one = read_onnx(batched(1))
    assert (rows.input_size, rows.output_size, rows.relu_count) == (4, 3, 5)
    points = points_for(OnnxNetwork(one, (), ()))
    both = [evaluate(graph, torch.from_numpy(points))[graph.output].numpy() for graph in (rows, one)]
    assert (both[0] == both[1]).all()
    assert read_network(batched(6)).graph.input_size == 24
    assert read_logits(batched(6), inputs=24).graph.input_size == 24


def test_a_batch_keeps_what_was_taken_off():
    network = read_logits(batched(6, node("Softmax", ["l"], axis=-1)))
    assert (network.ending.kind, network.ending.logits, network.graph.output_size) == ("softmax", 3, 3)
    network = read_logits(batched(6, node("Softmax", ["l"], ["p"], axis=-1), node("Identity", ["p"])))
    assert network.inputs[0].shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("after", "constants"),
    [
        ([node("ReduceSum", ["l", "axis"], ["s"]), node("Add", ["l", "s"])], {"axis": whole(0)}),
        ([node("Add", ["l", "each"])], {"each": weights(6, 3)}),
        ([node("Min", ["l", "far"])], {"far": 1e6 + np.arange(6.0)[:, None]}),
    ],
    ids=["mixed", "unlike", "unlike far out"],
)
def test_rows_that_cannot_be_told_apart_stay_together(after, constants):
    assert read_onnx(batched(6, *after, **constants)).input_size == 24


@pytest.mark.parametrize(
    "after",
    [
        [node("Softmax", ["l"], ["p"], axis=-1), node("Gather", ["p", "turned"], axis=0)],
        [node("Sigmoid", ["l"], ["p"]), node("Gather", ["p", "first"], axis=0)],
        [
            node("ArgMax", ["l"], ["p"], axis=1),
            node("Cast", ["p"], ["q"], to=1),
            node("Gather", ["q", "turned"], axis=0),
        ],
    ],
    ids=["turned", "the first one", "labels turned"],
)
def test_rows_that_an_ending_moves_stay_together(after):
    with pytest.raises(GraphError, match="over all logits in their order"):
        read_logits(batched(2, *after, turned=whole(1, 0), first=whole(0, 0)))


def test_a_softmax_over_rows_keeps_them():
    after = [node("Gather", ["l", "column"], ["m"], axis=1), node("Softmax", ["m"], axis=0)]
    network = read_logits(batched(2, *after, column=whole(0)))
    assert (network.graph.input_size, network.ending.logits) == (8, 2)
