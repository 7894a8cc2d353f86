"""Convolutions and poolings as sparse matrices, by arithmetic on indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.graph import Divisor

from .elementwise import largest
from .importer import Entries, Importer, Operation, Tensor


@dataclass(frozen=True)
class _Axis:
    """Windows along one axis of length ``size``: ``count`` of them, ``kernel`` cells each, ``stride`` apart."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def cells(self) -> Entries:
        """Where each window's cells lie, ``[count, kernel]``; outside the axis where it is padded."""
        starts = np.arange(self.count) * self.stride - self.before
        return starts[:, None] + np.arange(self.kernel) * self.dilation

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which cells lie on the axis, ``[count, kernel]``."""
        return (self.cells >= 0) & (self.cells < self.size)

    def cell_counts(self, *, padded: bool) -> Vector:
        """How many cells of each window lie on the axis, or on it and its padding, ``[count]``."""
        within = (self.cells < self.size + self.after) if padded else self.inside
        return np.asarray(within.sum(axis=1), dtype=np.float64)


def _spatial(operation: Operation, name: str, default: int, rank: int) -> list[int]:
    values = operation.integers(name) or [default] * rank
    if len(values) != rank or min(values) < 1:
        raise operation.refused(f"{rank} positive {name}", values)
    return values


def _automatic(operation: Operation) -> str:
    mode = str(operation.attributes.get("auto_pad", "NOTSET"))
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise operation.refused("auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER", repr(mode))
    return mode


def _pads(operation: Operation, rank: int) -> list[tuple[int, int]]:
    pads = operation.integers("pads") or [0] * (2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise operation.refused(f"{2 * rank} pads of 0 or more", pads)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _axes(importer: Importer, operation: Operation, tensor: Tensor, kernel: Sequence[int]) -> list[_Axis]:
    """The windows of a convolution or pooling along each axis after batch and channels."""
    sizes, rank = tensor.shape[2:], len(kernel)
    strides, dilations = _spatial(operation, "strides", 1, rank), _spatial(operation, "dilations", 1, rank)
    mode = _automatic(operation)
    pads = _pads(operation, rank) if mode == "NOTSET" else [(0, 0)] * rank
    ceil, axes = operation.flag("ceil_mode"), []
    for size, k, stride, dilation, (before, after) in zip(sizes, kernel, strides, dilations, pads, strict=True):
        extent, ends = (k - 1) * dilation + 1, (before, after)
        if mode.startswith("SAME"):
            count = -(-size // stride)
            total = (count - 1) * stride + extent - size
            if total < -1 and "Pool" in operation.operator:  # onnxruntime then skips entries, others do not
                raise operation.refused(f"windows at least {stride - 1} long with {mode}", f"{extent}")
            total = max(total, 0)
            ends = (total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2)
        else:
            room = size + before + after - extent
            count = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (count - 1) * stride >= size + before:  # a window must begin on the axis or before it
                count -= 1
        if count < 1 or extent > size + sum(ends) + ceil * stride:
            raise operation.refused("windows that fit the tensor", f"shape {tensor.shape} and kernel {list(kernel)}")
        axes.append(_Axis(size, k, stride, dilation, *ends, count))
    importer.reserve(operation, math.prod(axis.count for axis in axes), math.prod(kernel))
    return axes


def _table(axes: Sequence[_Axis]) -> Entries:
    """For each window, its cells in the flattened axes, ``[windows, cells]``; −1 for padding."""
    places, inside = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    for axis in axes:
        shape = (len(places) * axis.count, places.shape[1] * axis.kernel)
        places = (places[:, None, :, None] * axis.size + axis.cells[None, :, None, :]).reshape(shape)
        inside = (inside[:, None, :, None] & axis.inside[None, :, None, :]).reshape(shape)
    return np.where(inside, places, -1)


def _matrix(
    importer: Importer, operation: Operation, weight: Vector, table: Entries, size: int, groups: int, batch: int
) -> Matrix:
    """The convolution ``[batch · out channels · windows, batch · in channels · size]`` with ``weight [out, in/groups, …]``.

    Zeros of the weight are left out.
    """
    outputs, inputs = weight.shape[:2]
    (windows, cells), flat = table.shape, weight.reshape(outputs, inputs, -1)
    importer.reserve(operation, batch, outputs, inputs, windows, cells)
    channels = np.arange(outputs)[:, None] // (outputs // groups) * inputs + np.arange(inputs)
    present = (table >= 0)[None, :, None, :] & (flat != 0)[:, None, :, :]
    columns = channels.astype(np.int32)[:, None, :, None] * size + table.astype(np.int32)[None, :, None, :]
    data = np.broadcast_to(flat[:, None, :, :], present.shape)[present]
    starts = np.concatenate([[0], np.cumsum(present.sum(axis=(2, 3)))]).astype(np.int32)
    matrix = sparse.csr_array((data, columns[present], starts), shape=(outputs * windows, groups * inputs * size))
    return matrix if batch == 1 else sparse.csr_array(sparse.block_diag([matrix] * batch, format="csr"))


def _filters(operation: Operation) -> tuple[Tensor, Vector, int]:
    tensor, weight = operation.tensor(), operation.numbers(1)
    groups = operation.attributes.get("group", 1)
    if weight.ndim < 3 or len(tensor.shape) != weight.ndim or not weight.size:
        raise operation.refused(
            "a tensor and a weight with batch, channels and as many more axes", f"{tensor.shape} and {weight.shape}"
        )
    if groups < 1 or weight.shape[0] % groups or tensor.shape[1] % groups:
        raise operation.refused("a group that divides all channels", groups)
    kernel = operation.integers("kernel_shape")
    if kernel is not None and tuple(kernel) != weight.shape[2:]:
        raise operation.refused(f"a kernel_shape like the weight's {weight.shape[2:]}", kernel)
    return tensor, weight, groups


def _bias(operation: Operation, channels: int, rank: int) -> Vector:
    bias = operation.numbers(2) if operation.argument(2) is not None else np.zeros(channels)
    if bias.shape != (channels,):
        raise operation.refused(f"a bias of shape {(channels,)}", bias.shape)
    return bias.reshape(-1, *(1,) * (rank - 2))


def convolution(importer: Importer, operation: Operation) -> Tensor:
    """Conv in one, two, three or more dimensions, with a constant weight."""
    tensor, weight, groups = _filters(operation)
    if weight.shape[1] * groups != tensor.shape[1]:
        raise operation.refused(f"a weight for {tensor.shape[1]} channels", f"{weight.shape} with group {groups}")
    axes = _axes(importer, operation, tensor, weight.shape[2:])
    batch, size = tensor.shape[0], math.prod(tensor.shape[2:])
    matrix = _matrix(importer, operation, weight, _table(axes), size, groups, batch)
    bias = _bias(operation, weight.shape[0], weight.ndim)
    return importer.affine(
        operation, "", tensor, matrix, bias, (batch, weight.shape[0], *(axis.count for axis in axes))
    )


def transposed_convolution(importer: Importer, operation: Operation) -> Tensor:
    """ConvTranspose: the transposed matrix of the convolution that would lead back."""
    tensor, weight, groups = _filters(operation)
    if weight.shape[0] != tensor.shape[1]:
        raise operation.refused(f"a weight for {tensor.shape[1]} channels", weight.shape)
    axes = _transposed_axes(operation, tensor, weight)
    batch, size = tensor.shape[0], math.prod(axis.size for axis in axes)
    importer.reserve_tensor(operation, batch * groups * weight.shape[1], size)
    matrix = _matrix(importer, operation, weight, _table(axes), size, groups, batch)
    channels = groups * weight.shape[1]
    shape = (batch, channels, *(axis.size for axis in axes))
    bias = _bias(operation, channels, weight.ndim)
    return importer.affine(operation, "", tensor, sparse.csr_array(matrix.T), bias, shape)


def _transposed_axes(operation: Operation, tensor: Tensor, weight: Vector) -> list[_Axis]:
    """Windows on the *result*, one for each entry of the tensor."""
    rank, mode = weight.ndim - 2, _automatic(operation)
    strides, dilations = _spatial(operation, "strides", 1, rank), _spatial(operation, "dilations", 1, rank)
    extra = operation.integers("output_padding") or [0] * rank
    wanted, pads = operation.integers("output_shape"), _pads(operation, rank)
    if mode.startswith("SAME") and wanted is None:
        wanted = [size * stride for size, stride in zip(tensor.shape[2:], strides, strict=True)]
    if len(extra) != rank or min(extra) < 0 or (wanted is not None and len(wanted) != rank):
        raise operation.refused(f"{rank} sizes of output padding and output shape", [extra, wanted])
    axes = []
    for i, (size, stride, dilation) in enumerate(zip(tensor.shape[2:], strides, dilations, strict=True)):
        full = (size - 1) * stride + extra[i] + (weight.shape[2 + i] - 1) * dilation + 1
        before, after = pads[i] if mode == "NOTSET" else (0, 0)
        if wanted is not None:
            total = full - wanted[i]
            if total < 0:
                raise operation.refused(f"an output of at most {full} entries along axis {2 + i}", wanted[i])
            before, after = total // 2, total - total // 2
            if mode != "SAME_UPPER":
                before, after = after, before
        length = full - before - after if wanted is None else wanted[i]
        if length < 1:
            raise operation.refused("pads that leave something", f"{length} entries along axis {2 + i}")
        axes.append(_Axis(length, weight.shape[2 + i], stride, dilation, before, after, size))
    return axes


def _pooled(importer: Importer, operation: Operation) -> tuple[Tensor, list[_Axis]]:
    tensor, kernel = operation.tensor(), operation.integers("kernel_shape")
    if kernel is None or len(kernel) < 1 or len(tensor.shape) != len(kernel) + 2 or min(kernel) < 1:
        raise operation.refused(f"a kernel for the axes after the first two of {tensor.shape}", kernel)
    axes = _axes(importer, operation, tensor, kernel)
    if not all(axis.inside.any(axis=1).all() for axis in axes):
        raise operation.refused("windows that each hold an entry", "one that is padding alone")
    return tensor, axes


def average_pool(importer: Importer, operation: Operation) -> Tensor:
    """AveragePool: sums, divided by how many cells they have."""
    tensor, axes = _pooled(importer, operation)
    counts, padded = np.ones(1), operation.flag("count_include_pad")
    for axis in axes:
        if padded and operation.opset < 19 and (axis.cells >= axis.size + axis.after).any():
            # onnxruntime then divides by the whole kernel, onnx's reference by the cells up to the padding's end
            raise operation.refused("windows that end within the padding, before opset 19", "ceil_mode that adds more")
        counts = (counts[:, None] * axis.cell_counts(padded=padded)).reshape(-1)
    channels, size = math.prod(tensor.shape[:2]), math.prod(tensor.shape[2:])
    matrix = _matrix(
        importer, operation, np.ones((1, 1, *(axis.kernel for axis in axes))), _table(axes), size, 1, channels
    )
    shape = (*tensor.shape[:2], *(axis.count for axis in axes))
    return importer.affine(
        operation, "", tensor, matrix, 0.0, shape, Divisor.of(np.tile(counts, channels).reshape(shape))
    )


def max_pool(importer: Importer, operation: Operation) -> Tensor:
    """MaxPool, one axis after the other: the largest of a box is the largest of its rows' largest."""
    tensor, axes = _pooled(importer, operation)
    windows = []
    for position, axis in enumerate(axes, start=2):
        some = np.take_along_axis(axis.cells, axis.inside.argmax(axis=1)[:, None], axis=1)
        cells = np.where(axis.inside, axis.cells, some)  # padding becomes an entry that the window has anyway
        used, places = np.unique(cells, return_inverse=True)
        tensor = tensor.chosen(np.take(tensor.entries, used, position))
        windows.append(places.reshape(cells.shape))
    for position, places in enumerate(windows, start=2):
        importer.reserve_tensor(operation, tensor.entries.size // tensor.shape[position], places.size)
        entries = np.moveaxis(np.moveaxis(tensor.entries, position, -1)[..., places], -2, position)
        tensor = largest(importer, operation, tensor.chosen(entries))
    return tensor
