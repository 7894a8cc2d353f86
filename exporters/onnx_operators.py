"""The table of ONNX operators that piecewise affine networks use, and what each of them adds to a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from veriflow.errors import GraphError

from . import onnx_choices as choices
from . import onnx_elementwise as elementwise
from . import onnx_endings as endings
from . import onnx_products as products
from . import onnx_windows as windows
from .onnx_graph import Importer, Operation, Tensor, Value

Translation = Callable[[Importer, Operation], Value | tuple[Tensor, ...]]

CHOICES: Mapping[str, Translation] = {
    "Cast": choices.cast,
    "Dropout": choices.dropout,
    "Expand": choices.expand,
    "Flatten": choices.flatten,
    "Gather": choices.gather,
    "Identity": choices.unchanged,
    "Reshape": choices.reshape,
    "Slice": choices.slices,
    "Split": choices.split,
    "Squeeze": choices.squeeze,
    "Transpose": choices.transpose,
    "Unsqueeze": choices.unsqueeze,
}
"""Operators that only move entries about; they may also follow a last Sigmoid, Softmax, LogSoftmax or ArgMax."""

OPERATORS: Mapping[str, Translation] = {
    **CHOICES,
    "Abs": elementwise.absolute,
    "Add": elementwise.total,
    "ArgMax": endings.argmax,
    "AveragePool": windows.average_pool,
    "BatchNormalization": elementwise.batch_normalization,
    "Clip": elementwise.clip,
    "Concat": choices.concat,
    "Conv": windows.convolution,
    "ConvTranspose": windows.transposed_convolution,
    "Div": elementwise.quotient,
    "Gemm": products.gemm,
    "GlobalAveragePool": products.global_pool,
    "GlobalMaxPool": products.global_pool,
    "LeakyRelu": elementwise.leaky_relu,
    "LogSoftmax": endings.softmax,
    "MatMul": products.matmul,
    "Max": elementwise.extreme,
    "MaxPool": windows.max_pool,
    "Min": elementwise.extreme,
    "Mul": elementwise.product,
    "Neg": elementwise.negative,
    "PRelu": elementwise.prelu,
    "Pad": choices.pad,
    "ReduceMax": products.reduction,
    "ReduceMean": products.reduction,
    "ReduceMin": products.reduction,
    "ReduceSum": products.reduction,
    "Relu": elementwise.relu,
    "Shape": choices.shape,
    "Sigmoid": endings.sigmoid,
    "Size": choices.size,
    "Softmax": endings.softmax,
    "Sub": elementwise.total,
    "Sum": elementwise.total,
}
"""Operators on tensors that depend on the input."""


def translate(importer: Importer, operation: Operation) -> tuple[Value, ...]:
    """What an operation gives, with the graph of ``importer`` extended by what it needs.

    Raises:
        GraphError: an operator that is not affine or made of ReLUs, sizes that do not fit, or a use that is not supported.
    """
    importer.operation = operation
    translation = OPERATORS.get(operation.operator)
    if translation is None:
        known = ", ".join(sorted(OPERATORS))
        raise GraphError(f"expected operators among {known}; got {operation.operator} in node {operation.name!r}")
    for value in operation.arguments:
        if isinstance(value, Tensor) and value.removed is not None and operation.operator not in (*CHOICES, "Shape"):
            kind = value.removed.kind
            raise GraphError(
                f"expected {kind} at the end of the network alone; got {kind} node {value.removed.node!r} before "
                f"{operation.operator} node {operation.name!r}"
            )
    result = translation(importer, operation)
    return result if isinstance(result, tuple) else (result,)
