"""Small ONNX models for tests, and what onnxruntime and a graph make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporters import OnnxNetwork, read_network
from veriflow.piecewise.evaluate import evaluate

Array = NDArray[Any]


def drawn_numbers(draw: DrawFn, *shape: int) -> Array:
    """An array of a shape that a test of hypothesis draws: any numbers, or small integers."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.standard_normal(shape) if draw(st.booleans()) else rng.integers(-2, 3, shape).astype(float)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    """A node whose name says what it is."""
    name = f"the {operator}" if "y" in outputs else f"{operator} to {outputs[0]}"
    return helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    shapes: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, Array] = {},
    *,
    opset: int = 13,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
    kinds: Mapping[str, int] = {},
    constants_are_inputs: bool = False,
) -> onnx.ModelProto:
    """A model with the given inputs; float constants get the type of the inputs, where ``kinds`` names no other output."""
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    tensors = [
        numpy_helper.from_array(np.asarray(value, dtype if np.asarray(value).dtype.kind == "f" else None), name)
        for name, value in constants.items()
    ]
    inputs = [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in shapes.items()]
    if constants_are_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    ends = [helper.make_tensor_value_info(name, kinds.get(name, kind), None) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", inputs, ends, tensors)
    version = 3 if constants_are_inputs else 8
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)


def inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its outputs filled in, without which the checker refuses it."""
    ends = onnx.shape_inference.infer_shapes(proto).graph.output
    for end, known in zip(proto.graph.output, ends, strict=True):
        if known.type.tensor_type.HasField("shape"):
            end.type.tensor_type.shape.CopyFrom(known.type.tensor_type.shape)
        else:
            end.type.tensor_type.shape.SetInParent()
    return proto


def read(proto: onnx.ModelProto, folder: Path) -> OnnxNetwork:
    """The model, through a file."""
    (folder / "m.onnx").write_bytes(inferred(proto).SerializeToString())
    return read_network(folder / "m.onnx")


def run(proto: onnx.ModelProto | Path, network: OnnxNetwork, points: Array) -> list[Array]:
    """The outputs by onnxruntime, flat, one list for each point; inputs have the ports' shapes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    dtype = np.float32 if "float" in session.get_inputs()[0].type else np.float64
    rows = []
    for point in points:
        feeds = {port.name: point[port.slice].reshape(port.shape).astype(dtype) for port in network.inputs}
        results = session.run(None, feeds)
        for port, result in zip(network.outputs, results, strict=True):
            assert result.shape == port.shape
        rows.append([result.reshape(-1).astype(np.float64) for result in results])
    return [np.array(column) for column in zip(*rows, strict=True)]


def computed(network: OnnxNetwork, points: Array) -> list[Array]:
    """The outputs by the graph, flat, for each point."""
    values = evaluate(network.graph, torch.from_numpy(points))[network.graph.output].numpy()
    values = np.broadcast_to(values, (len(points), network.graph.output_size))
    return [values[:, port.slice] for port in network.outputs]


def points_for(network: OnnxNetwork, seed: int = 0, count: int = 6) -> Array:
    """Float32 points, some of them whole numbers so that there are ties and zeros."""
    rng = np.random.default_rng(seed)
    points = 2 * rng.standard_normal((count, network.graph.input_size))
    points[::2] = points[::2].round()
    return points.astype(np.float32).astype(np.float64)


def assert_agree(proto: onnx.ModelProto, folder: Path, tolerance: float = 1e-5) -> OnnxNetwork:
    """The graph computes what onnxruntime computes, up to a share of the outputs' scale."""
    network = read(proto, folder)
    assert sum(math.prod(port.shape) for port in network.inputs) == network.graph.input_size
    points = points_for(network)
    for want, got in zip(run(proto, network, points), computed(network, points), strict=True):
        assert np.abs(want - got).max() <= tolerance * max(1.0, np.abs(want).max())
    return network


def whole(*values: int) -> Array:
    """Integers as ONNX takes them for shapes and axes."""
    return np.array(values, dtype=np.int64)


def weights(*shape: int) -> Array:
    """The same random numbers for every call with that many."""
    return np.random.default_rng(math.prod(shape)).standard_normal(shape) * 0.5


def residual_network() -> onnx.ModelProto:
    """Two convolutions with batch normalisation around a skip, pools, a clip and a classifier whose shape is computed."""
    norms = {f"{n}{k}": weights(4) for k in (1, 2) for n in ("scale", "shift", "mean")}
    norms |= {f"variance{k}": 0.5 + weights(4) ** 2 for k in (1, 2)}
    constants = norms | {
        "w1": weights(4, 2, 3, 3),
        "w2": weights(4, 4, 3, 3),
        "b2": weights(4),
        "w3": weights(4 * 3 * 3, 5),
        "b3": weights(5),
        "zero": np.array(0, dtype=np.int64),
        "first": whole(0),
        "rest": whole(-1),
        "low": np.array(-1.0),
        "high": np.array(2.0),
    }
    first, second = ([f"{n}{k}" for n in ("scale", "shift", "mean", "variance")] for k in (1, 2))
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", *first], ["n1"]),
        node("Relu", ["n1"], ["h1"]),
        node("Conv", ["h1", "w2", "b2"], ["c2"], auto_pad="SAME_UPPER"),
        node("BatchNormalization", ["c2", *second], ["n2"]),
        node("Add", ["n2", "h1"], ["s"]),
        node("LeakyRelu", ["s"], ["h2"], alpha=0.1),
        node("MaxPool", ["h2"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["p"], ["a"], kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]),
        node("Clip", ["a", "low", "high"], ["k"]),
        node("Shape", ["k"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "first"], ["batches"]),
        node("Concat", ["batches", "rest"], ["wanted"], axis=0),
        node("Reshape", ["k", "wanted"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    return model(nodes, {"x": ("N", 2, 6, 6)}, constants)


def folding(*nodes: onnx.NodeProto, constants: Mapping[str, Array] = {}, opset: int = 13) -> onnx.ModelProto:
    """A network that adds the folded constant c."""
    return model([*nodes, node("Add", ["x", "c"])], {"x": (1, 4)}, constants, opset=opset)
