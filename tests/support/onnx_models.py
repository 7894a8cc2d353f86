"""Small ONNX models for tests, and what onnxruntime and a graph make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporters import OnnxNetwork, read_network
from exporters.testing import check_agreement, inferred, onnxruntime_outputs

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


def read(proto: onnx.ModelProto, folder: Path) -> OnnxNetwork:
    """The model, through a file."""
    (folder / "m.onnx").write_bytes(inferred(proto).SerializeToString())
    return read_network(folder / "m.onnx")


def assert_agree(proto: onnx.ModelProto, folder: Path, tolerance: float = 1e-5) -> OnnxNetwork:
    """The graph computes what onnxruntime computes, up to a share of the outputs' scale."""
    network = read(proto, folder)
    assert sum(math.prod(port.shape) for port in network.inputs) == network.graph.input_size
    check_agreement(network, onnxruntime_outputs(folder / "m.onnx"), tolerance)
    return network


def run(proto: onnx.ModelProto | Path, network: OnnxNetwork, points: Array) -> list[Array]:
    """The outputs by onnxruntime, flat, one list for each point; inputs have the ports' shapes."""
    reference = onnxruntime_outputs(proto if isinstance(proto, Path) else proto.SerializeToString())
    rows = [reference([point[port.slice].reshape(port.shape) for port in network.inputs]) for point in points]
    return [np.array([result.reshape(-1) for result in column]) for column in zip(*rows, strict=True)]


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
