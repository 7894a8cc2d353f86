"""What an ONNX file computes in its own floating point, by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from veriflow.errors import GraphError, StorageError

REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)
"""What onnxruntime raises where it cannot load or run a model."""

ELEMENT_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
"""The floating-point types of inputs, as onnxruntime names them."""


def open_session(model: bytes | Path, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A session on one thread; without optimisation every operation is computed as it is written.

    Raises:
        StorageError: a model that onnxruntime cannot load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise StorageError(f"expected a model that onnxruntime loads; got: {error}") from None


def run_onnx(model: bytes | str | Path, inputs: ArrayLike) -> NDArray[np.float64]:
    """Outputs ``[n, k]`` at inputs ``[n, d]``, or ``[k]`` at one input ``[d]``; one thread, one input at a time.

    Inputs are rounded to the model's type and given its shape, with open sizes taken as 1.

    Raises:
        StorageError: a model that onnxruntime cannot load.
        GraphError: several inputs, a type that is no float, inputs that the model does not take.
    """
    session = open_session(model if isinstance(model, bytes) else Path(model))
    ends = session.get_inputs()
    if len(ends) != 1 or ends[0].type not in ELEMENT_TYPES:
        raise GraphError(
            f"expected one input of type float16, float or double; got {[(end.name, end.type) for end in ends]}"
        )
    shape = [size if isinstance(size, int) else 1 for size in ends[0].shape]
    points = np.asarray(inputs, dtype=ELEMENT_TYPES[ends[0].type])
    try:
        rows = [
            session.run(None, {ends[0].name: point.reshape(shape)})[0].reshape(-1) for point in np.atleast_2d(points)
        ]
    except (*REFUSALS, ValueError) as error:
        raise GraphError(f"expected inputs of shape {shape}; got {points.shape}: {error}") from None
    outputs = np.asarray(rows, dtype=np.float64)
    return outputs if points.ndim > 1 else outputs[0]
