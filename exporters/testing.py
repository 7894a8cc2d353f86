"""What every ONNX operator obeys: its graph computes what the operator computes.

For `veriflow.testing`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from veriflow.piecewise.evaluate import evaluate
from veriflow.testing.requirements import require, require_close

from .onnx.reader import OnnxNetwork, read_network

Array = NDArray[np.float64]
Reference = Callable[[Sequence[Array]], Sequence[Array]]
"""The outputs of a model, computed from its inputs by other means."""


def check_operator(models: Iterable[onnx.ModelProto], reference: Reference | None = None) -> None:
    """Check that models that contain an operator are read as graphs that compute the same.

    At seeded points, of which half are whole numbers, so that there are ties and zeros.

    Args:
        models: as many as show all attributes and shapes that the operator takes.
        reference: what computes the outputs; onnxruntime by default.

    Raises:
        AssertionError: outputs that differ by more than 1e-5 of their scale, in a sentence.
        VeriflowError: a model that cannot be read.
    """
    checked = 0
    with tempfile.TemporaryDirectory(prefix="veriflow-") as folder:
        for model in models:
            path = Path(folder) / "model.onnx"
            path.write_bytes(inferred(model).SerializeToString())
            check_agreement(read_network(path), onnxruntime_outputs(path) if reference is None else reference)
            checked += 1
    require(checked, "expected a model at least; got none")


def check_agreement(network: OnnxNetwork, reference: Reference, tolerance: float = 1e-5) -> None:
    """Check that the graph of a network computes what the reference computes, up to a share of the outputs' scale.

    Raises:
        AssertionError: another number or shape of an output.
    """
    points = points_for(network)
    found = computed(network, points)
    for number, point in enumerate(points):
        wanted = reference([point[port.slice].reshape(port.shape) for port in network.inputs])
        for port, rows, want in zip(network.outputs, found, wanted, strict=True):
            require(want.shape == port.shape, f"expected the shape {want.shape} of {port.name!r}; got {port.shape}")
            scale = max(1.0, float(np.abs(want).max(initial=0.0)))
            require_close(
                rows[number],
                want.reshape(-1),
                f"the numbers of {port.name!r} at {point.tolist()}",
                abs_=tolerance * scale,
            )


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its outputs filled in where they can be inferred, without which the checker refuses it."""
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    for end, known in zip(filled.graph.output, onnx.shape_inference.infer_shapes(model).graph.output, strict=True):
        if known.type.tensor_type.HasField("shape"):
            end.type.tensor_type.shape.CopyFrom(known.type.tensor_type.shape)
        else:
            end.type.tensor_type.shape.SetInParent()
    return filled


def onnxruntime_outputs(source: Path | bytes) -> Reference:
    """What onnxruntime computes of a model in a file or as bytes, on one thread, in the floating-point type of its inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    model = source if isinstance(source, bytes) else str(source)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    dtype = np.float32 if "float" in inputs[0].type else np.float64

    def outputs(values: Sequence[Array]) -> list[Array]:
        feeds = {port.name: value.astype(dtype) for port, value in zip(inputs, values, strict=True)}
        return [result.astype(np.float64) for result in session.run(None, feeds)]

    return outputs


def computed(network: OnnxNetwork, points: Array) -> list[Array]:
    """The outputs by the graph, flat, a row of each for each point."""
    values = evaluate(network.graph, torch.from_numpy(points))[network.graph.output].numpy()
    values = np.broadcast_to(values, (len(points), network.graph.output_size))
    return [values[:, port.slice] for port in network.outputs]


def points_for(network: OnnxNetwork, seed: int = 0, count: int = 6) -> Array:
    """Float32 points, some of them whole numbers so that there are ties and zeros."""
    rng = np.random.default_rng(seed)
    points = 2 * rng.standard_normal((count, network.graph.input_size))
    points[::2] = points[::2].round()
    return points.astype(np.float32).astype(np.float64)
