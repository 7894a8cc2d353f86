"""ONNX operators that are products with constant matrices, and those that run along whole axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.graph import Divisor

from .elementwise import largest
from .importer import Entries, Importer, Operation, Shape, Tensor


def matmul(importer: Importer, operation: Operation) -> Tensor:
    """MatMul with a constant on either side, batched as numpy's ``@`` is."""
    tensor, weight, first = _operands(operation)
    matrix, shape = matrix_product(importer, operation, tensor, weight, first=first)
    return importer.affine(operation, "", tensor, matrix, 0.0, shape)


def gemm(importer: Importer, operation: Operation) -> Tensor:
    """Gemm, ``alpha · A @ B + beta · C``; factors other than 1 become maps of their own: no product is rounded."""
    tensor, weight, first = _operands(operation)
    if len(tensor.shape) != 2 or weight.ndim != 2:
        raise operation.refused("matrices", f"shapes {tensor.shape} and {weight.shape}")
    turned = [operation.flag(name) for name in ("transA", "transB")]
    if turned[int(not first)]:
        tensor = tensor.chosen(tensor.entries.T)
    factor = weight.T if turned[int(first)] else weight
    matrix, shape = matrix_product(importer, operation, tensor, factor, first=first)
    alpha, beta = operation.number("alpha", 1.0), operation.number("beta", 1.0)
    added = operation.argument(2)
    if added is not None and importer.broadcast_shape(operation, added.shape, shape) != shape:
        raise operation.refused(f"a bias that broadcasts to {shape}", added.shape)
    bias = np.zeros(()) if added is None or isinstance(added, Tensor) else operation.numbers(2)
    if not isinstance(added, Tensor) and (beta == 1.0 or not bias.any()):
        if alpha == 1.0:
            return importer.affine(operation, "", tensor, matrix, bias, shape)
        product = importer.affine(operation, "product", tensor, matrix, 0.0, shape)
        return importer.combine(operation, "", [(product, alpha)], bias)
    if isinstance(added, Tensor):
        offset = added.broadcast(shape)
    else:
        nothing = sparse.csr_array((math.prod(shape), tensor.entries.size))
        offset = importer.affine(operation, "bias", tensor, nothing, bias, shape)
    product = importer.affine(operation, "product", tensor, matrix, 0.0, shape)
    return importer.combine(operation, "", [(product, alpha), (offset, beta)], 0.0)


def _operands(operation: Operation) -> tuple[Tensor, Vector, bool]:
    """The factor that depends on the input, the constant one, and whether the constant comes second."""
    first = isinstance(operation.value(0), Tensor)
    return operation.tensor(int(not first)), operation.numbers(int(first)), first


def matrix_product(
    importer: Importer, operation: Operation, tensor: Tensor, weight: Vector, *, first: bool
) -> tuple[Matrix, Shape]:
    """The matrix of ``tensor @ weight``, or ``weight @ tensor`` where the tensor is not first, and the result's shape."""
    positions = np.arange(tensor.entries.size).reshape(tensor.shape)
    a: NDArray[Any]
    b: NDArray[Any]
    a, b = (positions, weight) if first else (weight, positions)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2:][0]:
        raise operation.refused("factors whose inner sizes agree", f"shapes {a.shape} and {b.shape}")
    kept = a.shape[:-1][-1:], b.shape[-2:][1:]  # a vector has no such axis
    a, b = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    batch = importer.broadcast_shape(operation, a.shape[:-2], b.shape[:-2])
    left, right = a[..., :, None, :], b.swapaxes(-1, -2)[..., None, :, :]
    full = (*batch, left.shape[-3], *right.shape[-2:])
    importer.reserve(operation, *full)
    numbers, columns = (right, left) if first else (left, right)
    shape, inner = (*batch, *kept[0], *kept[1]), full[-1]
    if tensor.entries.size == inner:
        return np.array(np.broadcast_to(numbers, full)).reshape(-1, inner), shape
    rows = math.prod(full[:-1])
    data, indices = (np.broadcast_to(array, full).reshape(-1) for array in (numbers, columns))
    matrix = sparse.csr_array((data, indices, np.arange(rows + 1) * inner), shape=(rows, tensor.entries.size))
    return matrix, shape


def reduction(importer: Importer, operation: Operation) -> Tensor:
    """ReduceSum, ReduceMean, ReduceMax and ReduceMin: axes an attribute before opset 13 or 18, all where none are named."""
    tensor, axes = operation.tensor(), operation.integers("axes", 1)
    if not axes:
        if operation.flag("noop_with_empty_axes"):
            return tensor
        axes = list(range(len(tensor.shape)))
    keep = operation.flag("keepdims", 1)
    return along(
        importer, operation, tensor, operation.axes(axes, len(tensor.shape)), operation.operator[6:], keep=keep
    )


def global_pool(importer: Importer, operation: Operation) -> Tensor:
    """GlobalAveragePool and GlobalMaxPool: over all axes but batch and channels."""
    tensor = operation.tensor()
    if len(tensor.shape) < 3:
        raise operation.refused("batch, channels and at least one more axis", f"shape {tensor.shape}")
    kind = "Max" if operation.operator == "GlobalMaxPool" else "Mean"
    return along(importer, operation, tensor, list(range(2, len(tensor.shape))), kind, keep=True)


def along(
    importer: Importer, operation: Operation, tensor: Tensor, axes: list[int], kind: str, *, keep: bool
) -> Tensor:
    """The Sum, Mean, Max or Min along axes, which keep length 1 or go."""
    shape = tuple(1 if i in axes else size for i, size in enumerate(tensor.shape))
    reduced = shape if keep else tuple(size for i, size in enumerate(tensor.shape) if i not in axes)
    importer.reserve(operation, tensor.entries.size)
    if kind in ("Max", "Min"):
        result = largest(
            importer, operation, tensor.chosen(_together(tensor.entries, axes)), 1.0 if kind == "Max" else -1.0
        )
        return result.chosen(result.entries.reshape(reduced))
    positions = _together(np.arange(tensor.entries.size).reshape(tensor.shape), axes)
    count, rows = positions.shape[-1], math.prod(shape)
    divisor = None if kind == "Sum" else Divisor.of(np.array(float(count)))
    starts = np.arange(rows + 1) * count
    weight = sparse.csr_array(
        (np.ones(positions.size), positions.reshape(-1), starts), shape=(rows, tensor.entries.size)
    )
    return importer.affine(operation, "", tensor, weight, 0.0, reduced, divisor)


def _together(entries: Entries, axes: list[int]) -> Entries:
    """The given axes as one, at the end."""
    others = [i for i in range(entries.ndim) if i not in axes]
    moved = entries.transpose(*others, *axes)
    return moved.reshape(*(entries.shape[i] for i in others), math.prod(entries.shape[i] for i in axes))
