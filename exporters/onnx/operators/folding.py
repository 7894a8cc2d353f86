"""Operations on constants alone, computed by onnx's reference evaluator once their results are known to be small enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from veriflow.errors import GraphError

from .importer import Constant, Importer, Operation, Value

_AS_INPUTS = """Abs And ArgMax ArgMin Cast CastLike Ceil Clip Concat Constant CumSum Div Dropout Equal Erf Exp Flatten Floor
    Greater GreaterOrEqual Identity LeakyRelu Less LessOrEqual Log Max Min Mod Mul Neg Not Or PRelu Pow Reciprocal ReduceL1
    ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Round Shape Sigmoid Sign Size Slice Split Sqrt
    Squeeze Sub Sum Tanh Transpose Unsqueeze Where Xor Add Trilu"""


def _broadcast(inputs: Sequence[Constant]) -> int:
    """Entries of all inputs together, or of what they broadcast to if that is more."""
    try:
        shape = np.broadcast_shapes(*(array.shape for array in inputs))
    except ValueError:
        shape = ()
    return max(math.prod(shape), sum(array.size for array in inputs))


def _named_shape(inputs: Sequence[Constant]) -> int:
    """ConstantOfShape and Expand, whose last input is a shape."""
    return math.prod(max(1, int(size)) for size in inputs[-1].reshape(-1)) * _broadcast(inputs[:-1])


def _tiled(inputs: Sequence[Constant]) -> int:
    return math.prod(max(1, int(count)) for count in inputs[1].reshape(-1)) * inputs[0].size


def _range(inputs: Sequence[Constant]) -> int:
    start, limit, delta = (float(array.reshape(-1)[0]) for array in inputs)
    steps = (limit - start) / delta if delta else math.inf
    if not math.isfinite(steps):
        raise GraphError(f"expected a finite Range; got {start} to {limit} in steps of {delta}")
    return max(0, math.ceil(steps))


def _gathered(inputs: Sequence[Constant]) -> int:
    """The most along any axis."""
    data, indices = inputs
    return data.size // max(1, min(data.shape, default=1)) * max(1, indices.size)


def _multiplied(inputs: Sequence[Constant]) -> int:
    """MatMul; products of whole numbers, which are slow, count as well."""
    inner = max(1, inputs[0].shape[-1])
    rows, columns = inputs[0].size // inner, inputs[1].size // max(1, inputs[1].shape[-2:][0])
    steps = 1 if inputs[0].dtype.kind == "f" else 1 + inner // _PRODUCTS
    return int(rows * columns * steps)


_SIZES: Mapping[str, Callable[[Sequence[Constant]], int]] = dict.fromkeys(_AS_INPUTS.split(), _broadcast) | {
    "ConstantOfShape": _named_shape,
    "Expand": _named_shape,
    "Gather": _gathered,
    "MatMul": _multiplied,
    "Range": _range,
    "Tile": _tiled,
}
"""How many entries the results of an operator have at most."""

_PRODUCTS = 128
"""Products of whole numbers that take as long as an entry of a result."""

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def folded(
    importer: Importer, operation: Operation, node: onnx.NodeProto, inputs: Mapping[str, Value | None]
) -> list[Constant]:
    """The outputs of a node whose inputs, by name, are constants.

    Raises:
        GraphError: an operator that is not folded, a result that is too large, inputs that do not fit.
    """
    constants = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    arguments = [constants[name] for name in node.input if name]
    if node.attribute and node.attribute[0].type == onnx.AttributeProto.SPARSE_TENSOR:
        return [_dense(importer, operation, node.attribute[0].sparse_tensor)]
    if node.op_type == "DequantizeLinear":
        return [_dequantized(importer, operation, arguments)]
    size = _SIZES.get(node.op_type)
    if size is None:
        raise operation.refused(f"constants that go through {', '.join(sorted(_SIZES))}", node.op_type)
    try:
        importer.reserve_folded(operation, 1 + size(arguments))
        ends = [
            [helper.make_value_info(name, onnx.TypeProto()) for name in names] for names in (constants, node.output)
        ]
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(helper.make_graph([node], "folded", *ends), opsets={"": operation.opset})
            results = evaluator.run(None, constants)
    except GraphError:
        raise
    except _FAILURES as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise operation.refused("constants that fit the operator", reason) from None
    return [np.asarray(result) for result in results]


def _dequantized(importer: Importer, operation: Operation, arguments: Sequence[Constant]) -> Constant:
    """DequantizeLinear, which the reference evaluator lacks before opset 19: (x − zero) · scale, in the scale's type."""
    axis = operation.attributes.get("axis", 1)
    block = operation.attributes.get("block_size", 0)
    values, scale = arguments[:2]
    importer.reserve_folded(operation, 1 + values.size)

    def along(numbers: Constant) -> Constant:
        if block:
            numbers = np.repeat(numbers, block, axis)[tuple(map(slice, values.shape))]
        elif numbers.ndim == 1 and values.ndim > 1 and numbers.size > 1:
            numbers = numbers.reshape([-1 if k == axis % values.ndim else 1 for k in range(values.ndim)])
        return numbers.reshape(()) if numbers.size == 1 else numbers

    try:
        whole = values.astype(np.int64) - (along(arguments[2]).astype(np.int64) if len(arguments) > 2 else 0)
        result: Constant = whole.astype(scale.dtype) * along(scale)
    except _FAILURES as error:
        raise operation.refused("constants that fit the operator", error) from None
    if result.shape != values.shape or values.dtype.kind not in "iu" or scale.dtype.kind != "f":
        raise operation.refused(f"whole numbers and a scale for {values.shape}", f"{scale.shape}")
    return result


def _dense(importer: Importer, operation: Operation, tensor: onnx.SparseTensorProto) -> Constant:
    """A sparse constant, which the reference evaluator does not turn into an array."""
    importer.reserve_folded(operation, 1 + math.prod(tensor.dims))
    values, places = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
    result = np.zeros(tuple(tensor.dims), dtype=values.dtype)
    try:
        if places.ndim == 1:
            result.reshape(-1)[places] = values
        else:
            result[tuple(places.T)] = values
    except (IndexError, ValueError) as error:
        raise operation.refused("indices that fit a sparse constant", error) from None
    return result
