"""ONNX files that are refused, each with one sentence that names the place."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import folding, model, node, residual_network, weights, whole

from exporters import read_network, read_onnx
from exporters.testing import inferred
from veriflow.errors import GraphError, StorageError

LINE = {"x": (1, 4)}
IMAGE = {"x": (1, 2, 4, 4)}
REFUSED = {
    "an operator": (model([node("Tanh", ["x"])], LINE), "got Tanh in node 'the Tanh'"),
    "a product": (model([node("Mul", ["x", "x"])], LINE), "a constant in Mul node 'the Mul'; got 'x'"),
    "a matrix product": (model([node("MatMul", ["x", "x"])], {"x": (2, 2)}), "a constant in MatMul"),
    "a quotient": (model([node("Div", ["c", "x"])], LINE, {"c": weights(4)}), "a constant in Div .* got 'x'"),
    "a filter": (
        model([node("Conv", ["x", "w"])], {"x": (1, 1, 4), "w": (1, 1, 2)}),
        "a constant in Conv node 'the Conv'; got 'w'",
    ),
    "a softmax inside": (
        model([node("Softmax", ["x"], ["s"]), node("MatMul", ["s", "c"])], LINE, {"c": weights(4, 2)}),
        "Softmax at the end of the network alone; got Softmax node 'Softmax to s' before MatMul node 'the MatMul'",
    ),
    "a sigmoid inside": (
        model([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"])], LINE),
        "Sigmoid at the end of the network alone; got Sigmoid node .* before Mul",
    ),
    "indices": (
        model([node("ArgMax", ["x"], ["i"]), node("Gather", ["c", "i"])], LINE, {"c": weights(4)}),
        "labels, or constant indices in Gather node 'the Gather'; got 'i', which depends on the input",
    ),
    "a cast": (
        model([node("Cast", ["x"], to=TensorProto.INT64)], LINE, kinds={"y": TensorProto.INT64}),
        "a cast to FLOAT or DOUBLE",
    ),
    "whole numbers": (model([node("Relu", ["x"])], LINE, kind=TensorProto.INT32), "type FLOAT16, FLOAT or DOUBLE"),
    "pool indices": (
        model(
            [node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2]), node("Identity", ["i"])],
            IMAGE,
            kinds={"y": TensorProto.INT64},
        ),
        "tensors that veriflow computes; got 'i', which node 'the Identity' reads",
    ),
    "an empty window": (
        model([node("AveragePool", ["x"], kernel_shape=[1], pads=[1, 1])], {"x": (1, 1, 3)}),
        "windows that each hold an entry",
    ),
    "a window over the padding": (
        model(
            [node("AveragePool", ["x"], kernel_shape=[2], strides=[2], ceil_mode=1, count_include_pad=1)],
            {"x": (1, 1, 3)},
        ),
        "windows that end within the padding, before opset 19",
    ),
    "a stride over the end": (
        model([node("MaxPool", ["x"], kernel_shape=[1], strides=[3], auto_pad="SAME_UPPER")], {"x": (1, 1, 6)}),
        "windows at least 2 long with SAME_UPPER",
    ),
    "a pad": (
        model([node("Pad", ["x", "p"], mode="reflect")], LINE, {"p": whole(0, 4, 0, 0)}),
        "pads that reflect can fill",
    ),
    "training": (
        model(
            [node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], training_mode=1)],
            LINE,
            {name: np.ones(4) for name in "abcd"},
            opset=15,
        ),
        "inference over the channels",
    ),
    "a negative variance": (
        model([node("BatchNormalization", ["x", *"abcd"])], LINE, {name: -np.ones(4) for name in "abcd"}),
        "positive variances",
    ),
    "an infinite constant": (model([node("Add", ["x", "c"])], LINE, {"c": np.array([np.inf])}), "infinity in 'c'"),
    "a nan limit": (
        model([node("Clip", ["x", "c"])], LINE, {"c": np.array(np.nan)}),
        "finite constants in Clip node 'the Clip'; got NaN or infinity in 'c'",
    ),
    "an index": (
        model([node("Gather", ["x", "i"], axis=1)], LINE, {"i": whole(4)}),
        "indices from -4 to 3",
    ),
    "a broadcast": (model([node("Expand", ["x", "s"])], LINE, {"s": whole(3)}), "shapes that broadcast"),
    "an empty slice": (
        model([node("Slice", ["x", "a", "b"])], LINE, {"a": whole(1), "b": whole(1)}),
        "at least one entry in Slice",
    ),
    "channels": (
        model([node("Conv", ["x", "w"])], {"x": (1, 3, 4)}, {"w": weights(1, 2, 2)}),
        "a weight for 3 channels",
    ),
    "an open width": (model([node("Relu", ["x"])], {"x": (1, "width")}), "known sizes after the batch axis"),
    "a future opset": (model([node("Relu", ["x"])], LINE, opset=99), r"opset 7 to \d+; got 99|valid ONNX"),
    "a custom domain": (
        model([helper.make_node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")], LINE),
        "valid ONNX model|standard operators",
    ),
    "a constant output": (
        model([node("Shape", ["x"])], LINE, kinds={"y": TensorProto.INT64}),
        "an output that depends on the input",
    ),
    "texts": (
        folding(node("Constant", [], ["c"], value_strings=["a", "b", "c", "d"])),
        "constants of a float type|valid ONNX",
    ),
    "constants that do not fit": (
        folding(node("Concat", ["a", "b"], ["c"], axis=0), constants={"a": weights(4), "b": weights(4, 1)}),
        "constants that fit the operator in Concat",
    ),
    "a random constant": (
        folding(node("RandomNormal", [], ["c"], shape=[4])),
        "constants that go through .* got RandomNormal",
    ),
    "a huge constant": (
        folding(node("ConstantOfShape", ["s"], ["c"]), constants={"s": whole(10**6, 10**6)}),
        "not much larger than those of the file in ConstantOfShape",
    ),
    "a huge range": (
        folding(node("Range", ["a", "b", "a"], ["c"]), constants={"a": np.array(1.0), "b": np.array(1e18)}),
        "not much larger than those of the file in Range",
    ),
    "an endless range": (
        folding(node("Range", ["a", "a", "b"], ["c"]), constants={"a": np.array(1.0), "b": np.array(0.0)}),
        "a finite Range",
    ),
    "a huge expansion": (
        model([node("Expand", ["x", "s"])], LINE, {"s": whole(10**6, 10**6, 4)}),
        "tensors of at most [0-9]+ entries in Expand",
    ),
    "a huge pad": (
        model([node("Pad", ["x", "p"])], LINE, {"p": whole(0, 0, 10**9, 10**9)}),
        "tensors of at most [0-9]+ entries in Pad",
    ),
    "a huge choice": (
        model([node("Gather", ["x", "i"])], {"x": (1, 10**5)}, {"i": np.zeros(10**5, np.int64)}),
        "tensors of at most [0-9]+ entries in Gather",
    ),
    "a huge convolution": (
        model([node("Conv", ["x", "w"], pads=[1] * 4)], {"x": (1, 64, 400, 400)}, {"w": weights(64, 64, 2, 2)}),
        "entries at most in the network up to here in Conv",
    ),
    "huge windows": (
        model([node("MaxPool", ["x"], kernel_shape=[10**6], pads=[10**6 - 1, 10**6 - 1])], {"x": (1, 1, 10**6)}),
        "entries at most in the network up to here in MaxPool",
    ),
    "doubling": (
        model(
            [
                *(node("Concat", [f"h{k}", f"h{k}"], [f"h{k + 1}"], axis=0) for k in range(40)),
                node("Identity", ["h40"]),
            ],
            {"h0": (1, 4)},
        ),
        "tensors of at most [0-9]+ entries in Concat",
    ),
    "doubling constants": (
        folding(
            *(node("Concat", [f"c{k}", f"c{k}"], [f"c{k + 1}"], axis=0) for k in range(40)),
            node("Identity", ["c40"], ["c"]),
            constants={"c0": weights(4)},
        ),
        "not much larger than those of the file in Concat",
    ),
    "a loop": (
        model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Identity", ["b"])], LINE),
        "valid ONNX model",
    ),
    "nothing of that name": (model([node("Add", ["x", "nothing"])], LINE), "valid ONNX model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence(name, tmp_path):
    proto, message = REFUSED[name]
    try:
        proto = inferred(proto)
    except onnx.shape_inference.InferenceError:
        proto.graph.output[0].type.tensor_type.shape.SetInParent()
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match=message) as caught:
        read_network(tmp_path / "m.onnx")
    assert str(caught.value).startswith("expected ")
    assert "\n" not in str(caught.value)


def external(folder, **changes):
    """A model whose constant lies in a file, with the entry that says where changed."""
    proto = inferred(model([node("Add", ["x", "c"])], LINE, {"c": weights(4)}))
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="c.data", size_threshold=0)
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    entries = {entry.key: entry.value for entry in proto.graph.initializer[0].external_data} | changes
    del proto.graph.initializer[0].external_data[:]
    for key, value in entries.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_external_data_is_read(tmp_path):
    graph = read_onnx(external(tmp_path))
    assert (graph.nodes[0].bias == weights(4).astype(np.float32)).all()


def test_external_data_needs_a_file(tmp_path):
    path = external(tmp_path)
    for source in (path.read_bytes(), onnx.load(path, load_external_data=False)):
        with pytest.raises(StorageError, match="a model with all its data; got external data of 'c'"):
            read_onnx(source)


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "../c.data"},
        {"location": "/etc/passwd"},
        {"location": "none.data"},
        {"location": ""},
        {"offset": "8"},
        {"offset": "-8"},
        {"offset": "many"},
        {"length": "1000000000000"},
        {"length": "4"},
    ],
    ids=str,
)
def test_other_external_data_is_refused(changes, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "c.data").write_bytes(bytes(16))
    with pytest.raises(StorageError, match="expected"):
        read_network(external(tmp_path / "models", **changes))


def test_external_data_behind_a_link_is_refused(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    path = external(tmp_path / "models")
    (tmp_path / "models" / "c.data").unlink()
    (tmp_path / "models" / "c.data").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError, match="in a file of the model's folder"):
        read_network(path)


def test_a_damaged_file_is_one_sentence(tmp_path):
    data = residual_network().SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            read_network(tmp_path / "m.onnx")
        except (GraphError, StorageError) as error:
            assert str(error).startswith("expected ")


def test_nodes_and_axes_without_end_are_refused():
    names = ["x", *(f"t{k}" for k in range(10_000)), "y"]
    long = model([node("Identity", [a], [b]) for a, b in pairwise(names)], LINE)
    with pytest.raises(GraphError, match="outputs that take at most 10000 nodes; got 10001"):
        read_network(long.SerializeToString())
    wide = model(
        [node("Unsqueeze", ["x", "a"], ["u"]), node("Squeeze", ["u", "a"])], LINE, {"a": np.arange(2, 5000)}, opset=13
    )
    with pytest.raises(GraphError, match="a tensor of at most 64 axes in Unsqueeze node 'Unsqueeze to u'; got 5000"):
        read_network(wide.SerializeToString())
    for shape, what in (((1, 2), "a shape"), ((1,) * 70, "inputs")):
        deep = model([node("Reshape", ["x", "s"])], {"x": shape}, {"s": whole(*[1] * 5000, -1)})
        with pytest.raises(GraphError, match=f"{what} of at most 64 axes"):
            read_network(deep.SerializeToString())
