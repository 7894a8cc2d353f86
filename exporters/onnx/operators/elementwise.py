"""ONNX operators that work entry by entry: sums, products with constants, and all that ReLUs are made of.

Every constant that ends up in the graph is a constant of the file (or ±1, 2, or a product of two that is exact), and what
the file divides by is a divisor, so the graph means exactly what the file means in real arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.graph import Divisor

from ...forms.numerals import are_float32
from .importer import Importer, Operation, Tensor

Slopes = tuple[Vector, Divisor | None]
"""Factors of a tensor's entries, and what they are divided by."""

_LARGEST = float(np.finfo(np.float32).max)


def total(importer: Importer, operation: Operation) -> Tensor:
    """Add, Sub and Sum."""
    signs = (1.0, -1.0) if operation.operator == "Sub" else (1.0,) * len(operation.arguments)
    values = operation.values()
    shape = importer.broadcast_shape(operation, *(value.shape for value in values))
    terms: list[tuple[Tensor, float | Vector]] = []
    constants = []
    for position, (value, sign) in enumerate(zip(values, signs, strict=True)):
        if isinstance(value, Tensor):
            terms.append((value.broadcast(shape), sign))
        else:
            constants.append(sign * operation.numbers(position))
    result = importer.combine(operation, "", terms, constants[0] if constants else 0.0)
    for constant in constants[1:]:  # one by one, as a sum of constants could round
        result = importer.combine(operation, "sum", [(result, 1.0)], constant)
    return result


def negative(importer: Importer, operation: Operation) -> Tensor:
    """Neg."""
    return importer.combine(operation, "", [(operation.tensor(), -1.0)], 0.0)


def _scaled(
    importer: Importer, operation: Operation, tensor: Tensor, factors: Vector, divisor: Divisor | None = None
) -> Tensor:
    shape = importer.broadcast_shape(operation, tensor.shape, factors.shape)
    return importer.combine(operation, "", [(tensor.broadcast(shape), factors)], 0.0, divisor)


def product(importer: Importer, operation: Operation) -> Tensor:
    """Mul, where one factor is a constant."""
    first = isinstance(operation.value(0), Tensor)
    return _scaled(importer, operation, operation.tensor(int(not first)), operation.numbers(int(first)))


def quotient(importer: Importer, operation: Operation) -> Tensor:
    """Div by a constant."""
    divisors, tensor = operation.numbers(1), operation.tensor()
    if not divisors.all():
        raise operation.refused("divisors other than zero", divisors.reshape(-1)[:8].tolist())
    return _scaled(importer, operation, tensor, np.sign(divisors), Divisor.of(np.abs(divisors)))


def relu(importer: Importer, operation: Operation) -> Tensor:
    """Relu."""
    return importer.relu(operation, operation.tensor())


def leaky_relu(importer: Importer, operation: Operation) -> Tensor:
    """LeakyRelu: relu(x) + a (x − relu(x))."""
    return _leaky(importer, operation, operation.tensor(), np.array(operation.number("alpha", 0.01)))


def prelu(importer: Importer, operation: Operation) -> Tensor:
    """PRelu: relu(x) + a (x − relu(x)) with slopes that broadcast to x."""
    tensor, slopes = operation.tensor(), operation.numbers(1)
    if importer.broadcast_shape(operation, tensor.shape, slopes.shape) != tensor.shape:
        raise operation.refused(f"slopes that broadcast to {tensor.shape}", slopes.shape)
    return _leaky(importer, operation, tensor, slopes)


def _leaky(importer: Importer, operation: Operation, tensor: Tensor, slopes: Vector) -> Tensor:
    return sloped(importer, operation, tensor, (np.ones(()), None), (slopes, None))


def sloped(importer: Importer, operation: Operation, tensor: Tensor, above: Slopes, below: Slopes) -> Tensor:
    """a relu(x) + b (x − relu(x)). No constant is a − b, which need not be a float32 number."""
    importer.reserve(operation, 4, tensor.entries.size)
    upper = importer.relu(operation, tensor, "relu")
    lower = importer.combine(operation, "below", [(tensor, 1.0), (upper, -1.0)], 0.0)
    terms: list[tuple[Tensor, float | Vector]] = []
    for half, (factors, divisor) in ((upper, above), (lower, below)):
        if divisor is None:
            terms.append((half, factors))
        else:
            terms.append((importer.combine(operation, "quotient", [(half, factors)], 0.0, divisor), 1.0))
    return importer.combine(operation, "", terms, 0.0)


def hard_sigmoid(importer: Importer, operation: Operation) -> Tensor:
    """HardSigmoid: min(max(a x + b, 0), 1)."""
    slope, shift = operation.number("alpha", 0.2), operation.number("beta", 0.5)
    line = importer.combine(operation, "line", [(operation.tensor(), slope)], shift)
    return _limited(importer, operation, _limited(importer, operation, line, np.zeros(()), 1.0), np.ones(()), -1.0)


def absolute(importer: Importer, operation: Operation) -> Tensor:
    """Abs: 2 relu(x) − x."""
    tensor = operation.tensor()
    importer.reserve(operation, 3, tensor.entries.size)
    return importer.combine(operation, "", [(importer.relu(operation, tensor, "relu"), 2.0), (tensor, -1.0)], 0.0)


def clip(importer: Importer, operation: Operation) -> Tensor:
    """Clip: min(max(x, l), u), limits being attributes before opset 11; float32's last number is no limit."""
    tensor, limits = operation.tensor(), []
    for position, attribute, none in ((1, "min", -np.inf), (2, "max", np.inf)):
        limit = np.array(operation.number(attribute, none))
        if operation.argument(position) is not None:
            limit = operation.numbers(position, finite=False)
        if limit.size != 1:
            raise operation.refused("limits that are single numbers", f"shape {limit.shape}")
        limits.append(limit.reshape(()))
    return _limited(importer, operation, _limited(importer, operation, tensor, limits[0], 1.0), limits[1], -1.0)


def extreme(importer: Importer, operation: Operation) -> Tensor:
    """Max and Min of tensors and constants."""
    return largest_operand(importer, operation, 1.0 if operation.operator == "Max" else -1.0)


def largest_operand(importer: Importer, operation: Operation, sign: float) -> Tensor:
    """The largest (sign −1: the least) of what the operation reads, entry by entry."""
    values = operation.values()
    shape = importer.broadcast_shape(operation, *(value.shape for value in values))
    tensors = [value.broadcast(shape) for value in values if isinstance(value, Tensor)]
    constants = [operation.numbers(k, finite=False) for k, v in enumerate(values) if not isinstance(v, Tensor)]
    result = reduce(lambda left, right: larger(importer, operation, left, right, sign), tensors)
    if not constants:
        return result
    limit = reduce(np.maximum if sign > 0 else np.minimum, constants)
    return _limited(importer, operation, result, limit, sign)


def _limited(importer: Importer, operation: Operation, tensor: Tensor, limit: Vector, sign: float) -> Tensor:
    """max(x, c) = c + relu(x − c) for sign 1, min(x, c) = c − relu(c − x) for sign −1."""
    if (sign * limit <= -_LARGEST).all():
        return tensor
    if not np.isfinite(limit).all():
        raise operation.refused("finite limits", "some that are infinite")
    importer.reserve(operation, 3, tensor.entries.size)
    if sign > 0 and not limit.any():
        return importer.relu(operation, tensor, "relu")
    excess = importer.relu(operation, importer.combine(operation, "excess", [(tensor, sign)], -sign * limit), "relu")
    return importer.combine(operation, "limited", [(excess, sign)], limit)


def larger(importer: Importer, operation: Operation, left: Tensor, right: Tensor, sign: float = 1.0) -> Tensor:
    """The larger (sign −1: the smaller) of two tensors of one shape: b ± relu(±(a − b)), each pair once.

    A pair of one entry with itself takes no ReLU.
    """
    shape, size = left.shape, importer.sizes[right.name]
    a, b = left.entries.reshape(-1), right.entries.reshape(-1)
    if left.name == right.name:
        a, b = np.minimum(a, b), np.maximum(a, b)
    pairs, place = np.unique(a * size + b, return_inverse=True)
    a, b = pairs // size, pairs % size
    differ = np.flatnonzero((a != b) | (left.name != right.name))
    if not differ.size:
        return left
    importer.reserve(operation, 5, pairs.size)
    gap = [(left.chosen(a[differ]), sign), (right.chosen(b[differ]), -sign)]
    excess = importer.relu(operation, importer.combine(operation, "gap", gap, 0.0), "excess")
    slots = np.full(pairs.size, -1)
    slots[differ] = np.arange(differ.size)
    result = importer.combine(operation, "largest", [(right.chosen(b), 1.0), (excess.chosen(slots), sign)], 0.0)
    return result.chosen(place.reshape(shape))


def largest(importer: Importer, operation: Operation, tensor: Tensor, sign: float = 1.0) -> Tensor:
    """The largest (sign −1: the least) along the last axis, which goes, by a tournament."""
    while (count := tensor.shape[-1]) > 1:
        half = (count + 1) // 2
        first = tensor.entries[..., :half]
        second = np.concatenate([tensor.entries[..., half:], first[..., count - half :]], axis=-1)
        tensor = larger(importer, operation, tensor.chosen(first), tensor.chosen(second), sign)
    return tensor.chosen(tensor.entries[..., 0])


def batch_normalization(importer: Importer, operation: Operation) -> Tensor:
    """BatchNormalization at inference: scale (x − mean) / √(var + ε) + B."""
    tensor, rank = operation.tensor(), len(operation.tensor().shape)
    if operation.flag("training_mode") or not operation.flag("spatial", 1):
        raise operation.refused("inference over the channels", "training_mode or spatial=0")
    scale, shift, mean, variance = (operation.numbers(k) for k in range(1, 5))
    if rank < 2 or any(v.shape != tensor.shape[1:2] for v in (scale, shift, mean, variance)):
        raise operation.refused("four vectors with an entry for each channel", f"{scale.shape} for {tensor.shape}")
    epsilon = Fraction(operation.number("epsilon", 1e-5))
    squares = [Fraction(value) + epsilon for value in variance.tolist()]
    if not all(square > 0 for square in squares):
        raise operation.refused("positive variances", float(variance.min()))
    importer.reserve(operation, 3, tensor.entries.size)
    per_channel = (-1,) + (1,) * (rank - 2)
    scale, shift, mean = (values.reshape(per_channel) for values in (scale, shift, mean))
    roots = Divisor.roots(squares)
    roots = Divisor(roots.low.reshape(per_channel), roots.high.reshape(per_channel))
    offset = -mean * scale
    if not (are_float32(mean) & are_float32(scale)).all():  # else the product is exact
        tensor, offset = importer.combine(operation, "centred", [(tensor, 1.0)], -mean), np.zeros(())
    part = "scaled" if shift.any() else ""
    result = importer.combine(operation, part, [(tensor, scale)], offset, roots)
    return importer.combine(operation, "", [(result, 1.0)], shift) if part else result
