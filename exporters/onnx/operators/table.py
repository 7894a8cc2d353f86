"""The tables of ONNX operators that piecewise affine networks use, and what each of them adds to a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from veriflow.errors import GraphError

from . import branches, choices, classical, elementwise, endings, equations, products, windows
from .importer import Importer, Operation, Tensor, Value

Translation = Callable[[Importer, Operation], Value | tuple[Tensor, ...]]

CHOICES: Mapping[str, Translation] = {
    "Cast": choices.cast,
    "CastLike": choices.cast_like,
    "Dropout": choices.dropout,
    "Expand": choices.expand,
    "Flatten": choices.flatten,
    "Gather": choices.gather,
    "Identity": choices.unchanged,
    "Reshape": choices.reshape,
    "Slice": choices.slices,
    "Split": choices.split,
    "Squeeze": choices.squeeze,
    "Tile": choices.tile,
    "Transpose": choices.transpose,
    "Unsqueeze": choices.unsqueeze,
    "ZipMap": choices.unchanged,
}
"""Operators that only rearrange entries; they may also follow a last Sigmoid, Softmax, LogSoftmax or ArgMax."""

OPERATORS: dict[str, Translation] = {
    **CHOICES,
    "Abs": elementwise.absolute,
    "Add": elementwise.total,
    "ArgMax": endings.argmax,
    "ArrayFeatureExtractor": choices.extracted,
    "AveragePool": windows.average_pool,
    "BatchNormalization": elementwise.batch_normalization,
    "Clip": elementwise.clip,
    "Concat": choices.concat,
    "Conv": windows.convolution,
    "ConvTranspose": windows.transposed_convolution,
    "Div": elementwise.quotient,
    "Einsum": equations.einsum,
    "FeatureVectorizer": classical.feature_vectorizer,
    "Gemm": products.gemm,
    "GlobalAveragePool": products.global_pool,
    "GlobalMaxPool": products.global_pool,
    "Greater": branches.comparison,
    "GreaterOrEqual": branches.comparison,
    "HardSigmoid": elementwise.hard_sigmoid,
    "Imputer": classical.imputer,
    "IsNaN": branches.is_nan,
    "LeakyRelu": elementwise.leaky_relu,
    "Less": branches.comparison,
    "LessOrEqual": branches.comparison,
    "LinearClassifier": classical.linear_classifier,
    "LinearRegressor": classical.linear_regressor,
    "LogSoftmax": endings.softmax,
    "LpNormalization": classical.normalizer,
    "MatMul": products.matmul,
    "Max": elementwise.extreme,
    "MaxPool": windows.max_pool,
    "Min": elementwise.extreme,
    "Mul": elementwise.product,
    "Neg": elementwise.negative,
    "Normalizer": classical.normalizer,
    "PRelu": elementwise.prelu,
    "Pad": choices.pad,
    "ReduceMax": products.reduction,
    "ReduceMean": products.reduction,
    "ReduceMin": products.reduction,
    "ReduceSum": products.reduction,
    "Relu": elementwise.relu,
    "Scaler": classical.scaler,
    "Shape": choices.shape,
    "Sigmoid": endings.sigmoid,
    "Size": choices.size,
    "Softmax": endings.softmax,
    "Sub": elementwise.total,
    "Sum": elementwise.total,
    "Where": branches.where,
}
"""Operators on tensors that depend on the input. Networks with one that is added here are read."""

BEHIND_ENDINGS: Mapping[str, Translation] = {
    **CHOICES,
    "Abs": endings.magnitude,
    "ArgMax": endings.argmax,
    "ArrayFeatureExtractor": endings.label,
    "Binarizer": endings.threshold,
    "Concat": endings.joined,
    "Div": endings.share,
    "Gather": endings.label,
    "Greater": endings.threshold,
    "LabelEncoder": classical.label_encoder,
    "Log": endings.log_of_softmax,
    "LpNormalization": classical.normalizer,
    "Normalizer": classical.normalizer,
    "Not": branches.opposite,
    "ReduceSum": endings.probabilities_added,
    "Shape": choices.shape,
    "Sub": endings.complement,
    "Where": branches.where,
}
"""Operators on the result of a Sigmoid, Softmax, LogSoftmax, ArgMax or comparison."""


def translate(importer: Importer, operation: Operation) -> tuple[Value, ...]:
    """What an operation gives, with the graph of ``importer`` extended by what it needs.

    Raises:
        GraphError: an operator that is not affine or made of ReLUs, sizes that do not fit, or a use that is not supported.
    """
    removed = [
        value.removed for value in operation.arguments if isinstance(value, Tensor) and value.removed is not None
    ]
    translation = (BEHIND_ENDINGS if removed else OPERATORS).get(operation.operator)
    if translation is None and operation.operator not in OPERATORS:
        raise GraphError(
            "expected operators of piecewise affine networks (docs/formats.md lists them); got "
            f"{operation.operator} in node {operation.name!r}"
        )
    if translation is None:
        raise endings.misplaced(operation, removed[0])
    result = translation(importer, operation)
    return result if isinstance(result, tuple) else (result,)
