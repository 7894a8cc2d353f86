"""ONNX operators that select and rearrange entries: they change a tensor's indices, not the graph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .importer import MOST_AXES, Constant, EndingKind, Importer, Operation, Shape, Tensor

_FLOATS = (1, 10, 11)  # FLOAT, FLOAT16, DOUBLE, as ONNX numbers element types
_NUMBERS = (*range(1, 8), *range(10, 14))


def unchanged(importer: Importer, operation: Operation) -> Tensor:
    """Identity."""
    del importer
    return operation.tensor()


def dropout(importer: Importer, operation: Operation) -> Tensor:
    """Dropout at inference, which changes nothing."""
    del importer
    if operation.argument(2) is not None and operation.constant(2).any():
        raise operation.refused("inference", "training_mode")
    return operation.tensor()


def cast(importer: Importer, operation: Operation) -> Tensor:
    """Cast to a float type, which real numbers pass unchanged; an ArgMax at the end of a network may become any number."""
    del importer
    tensor, target = operation.tensor(), operation.attributes.get("to")
    index = tensor.removed is not None and tensor.removed.kind is EndingKind.ARGMAX
    if target not in (_NUMBERS if index else _FLOATS):
        raise operation.refused("a cast to FLOAT or DOUBLE", f"a cast to element type {target}")
    return tensor


def cast_like(importer: Importer, operation: Operation) -> Tensor:
    """CastLike, to the type of another tensor of floats."""
    del importer
    like = operation.value(1)
    if not isinstance(like, Tensor) and like.dtype.kind != "f":
        raise operation.refused("a cast to a float type", like.dtype)
    return operation.tensor()


def shape(importer: Importer, operation: Operation) -> Constant:
    """Shape, a constant as all shapes are known."""
    del importer
    sizes = operation.tensor().shape
    start, end = operation.attributes.get("start", 0), operation.attributes.get("end", len(sizes))
    return np.array(sizes[start:end], dtype=np.int64)


def size(importer: Importer, operation: Operation) -> Constant:
    """Size, a constant."""
    del importer
    return np.array(operation.tensor().entries.size, dtype=np.int64)


def _reshaped(operation: Operation, tensor: Tensor, sizes: Shape) -> Tensor:
    if math.prod(sizes) != tensor.entries.size or min(sizes, default=1) < 0:
        raise operation.refused(f"a shape of {tensor.entries.size} entries", sizes)
    if len(sizes) > MOST_AXES:
        raise operation.refused(f"a shape of at most {MOST_AXES} axes", len(sizes))
    return tensor.chosen(tensor.entries.reshape(sizes))


def reshape(importer: Importer, operation: Operation) -> Tensor:
    """Reshape, with 0 for "as it was" and one −1 for "the rest"."""
    del importer
    tensor, sizes = operation.tensor(), operation.integers("shape", 1)
    if sizes is None:
        raise operation.refused("a shape", "none")
    if not operation.flag("allowzero"):
        if any(size == 0 and i >= len(tensor.shape) for i, size in enumerate(sizes)):
            raise operation.refused(f"zeros only for the {len(tensor.shape)} axes there are", sizes)
        sizes = [tensor.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    if sizes.count(-1) > 1 or min(sizes, default=1) < -1:
        raise operation.refused("at most one size of -1, none below it", sizes)
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = tensor.entries.size // max(known, 1)
    return _reshaped(operation, tensor, tuple(sizes))


def flatten(importer: Importer, operation: Operation) -> Tensor:
    """Flatten to a matrix."""
    del importer
    tensor, axis = operation.tensor(), operation.attributes.get("axis", 1)
    rank = len(tensor.shape)
    if not -rank <= axis <= rank:
        raise operation.refused(f"an axis of a tensor of rank {rank}", axis)
    axis = axis + rank if axis < 0 else axis
    return _reshaped(operation, tensor, (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:])))


def squeeze(importer: Importer, operation: Operation) -> Tensor:
    """Squeeze: axes an attribute before opset 13, all of length 1 where none are named."""
    del importer
    tensor, axes = operation.tensor(), operation.integers("axes", 1)
    if axes is None:
        axes = [i for i, size in enumerate(tensor.shape) if size == 1]
    axes = operation.axes(axes, len(tensor.shape))
    if any(tensor.shape[axis] != 1 for axis in axes):
        raise operation.refused("axes of length 1", f"axes {axes} of shape {tensor.shape}")
    return _reshaped(operation, tensor, tuple(size for i, size in enumerate(tensor.shape) if i not in axes))


def unsqueeze(importer: Importer, operation: Operation) -> Tensor:
    """Unsqueeze: axes an attribute before opset 13."""
    del importer
    tensor, axes = operation.tensor(), operation.integers("axes", 1)
    if axes is None:
        raise operation.refused("axes", "none")
    axes = operation.axes(axes, len(tensor.shape) + len(axes))
    return tensor.chosen(np.expand_dims(tensor.entries, tuple(axes)))


def transpose(importer: Importer, operation: Operation) -> Tensor:
    """Transpose, which reverses all axes where no order is given."""
    del importer
    tensor = operation.tensor()
    axes = operation.attributes.get("perm", list(range(len(tensor.shape)))[::-1])
    if sorted(axes) != list(range(len(tensor.shape))):
        raise operation.refused(f"a permutation of {len(tensor.shape)} axes", axes)
    return tensor.chosen(tensor.entries.transpose(axes))


def slices(importer: Importer, operation: Operation) -> Tensor:
    """Slice: attributes before opset 10, constants since."""
    tensor = operation.tensor()
    starts, ends = operation.integers("starts", 1), operation.integers("ends", 2)
    axes, steps = operation.integers("axes", 3), operation.integers("steps", 4)
    if starts is None or ends is None:
        raise operation.refused("starts and ends", "none")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise operation.refused("as many starts, ends, axes and steps", [starts, ends, axes, steps])
    operation.axes(axes, len(tensor.shape))
    if 0 in steps:
        raise operation.refused("steps other than 0", steps)
    parts = [slice(None)] * len(tensor.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = slice(start, end, step)
    entries = tensor.entries[tuple(parts)]
    importer.reserve_tensor(operation, entries.size)
    return tensor.chosen(entries)


def split(importer: Importer, operation: Operation) -> tuple[Tensor, ...]:
    """Split: sizes an attribute before opset 13, or as equal as they come."""
    tensor = operation.tensor()
    axis = operation.axis(operation.attributes.get("axis", 0), len(tensor.shape))
    length, sizes = tensor.shape[axis], operation.integers("split", 1)
    if sizes is None:
        parts = operation.attributes.get("num_outputs", operation.outputs)
        each = -(-length // max(parts, 1))
        sizes = [each] * (parts - 1) + [length - each * (parts - 1)]
    if sum(sizes) != length or len(sizes) != operation.outputs or min(sizes) < 1:
        raise operation.refused(f"{operation.outputs} sizes that add up to {length}", sizes)
    importer.reserve_tensor(operation, tensor.entries.size)
    ends = np.cumsum(sizes)[:-1]
    return tuple(tensor.chosen(part) for part in np.split(tensor.entries, ends, axis))


def gather(importer: Importer, operation: Operation) -> Tensor:
    """Gather with constant indices."""
    indices, tensor = operation.constant(1, "constant indices"), operation.tensor()
    axis = operation.axis(operation.attributes.get("axis", 0), len(tensor.shape))
    length = tensor.shape[axis]
    if indices.dtype.kind not in "iu" or not ((-length <= indices) & (indices < length)).all():
        raise operation.refused(f"whole indices from {-length} to {length - 1}", indices.reshape(-1)[:8].tolist())
    importer.reserve_tensor(operation, indices.size, tensor.entries.size // length)
    return tensor.chosen(np.take(tensor.entries, indices.astype(np.int64) % length, axis))


def extracted(importer: Importer, operation: Operation) -> Tensor:
    """ArrayFeatureExtractor: columns of the last axis."""
    last = {"axis": len(operation.tensor().shape) - 1}
    flat = operation.constant(1, "constant indices").reshape(-1)
    return gather(importer, replace(operation, arguments=(operation.tensor(), flat), attributes=last))


def tile(importer: Importer, operation: Operation) -> Tensor:
    """Tile, by constant repeats."""
    tensor, repeats = operation.tensor(), operation.integers("repeats", 1) or []
    if len(repeats) != len(tensor.shape) or min(repeats, default=1) < 1:
        raise operation.refused(f"{len(tensor.shape)} repeats of 1 or more", repeats)
    importer.reserve_tensor(operation, tensor.entries.size, *repeats)
    return tensor.chosen(np.tile(tensor.entries, repeats))


def expand(importer: Importer, operation: Operation) -> Tensor:
    """Expand."""
    tensor, wanted = operation.tensor(), operation.integers("shape", 1)
    return tensor.broadcast(importer.broadcast_shape(operation, tensor.shape, tuple(wanted or ())))


def concat(importer: Importer, operation: Operation) -> Tensor:
    """Concat: a choice where all parts come from one vector, else an affine map that gathers them."""
    values = operation.values()
    rank = len(values[0].shape)
    axis = operation.axis(operation.attributes.get("axis", 1), rank)
    rests = {value.shape[:axis] + value.shape[axis + 1 :] for value in values}
    if len(rests) > 1 or any(len(value.shape) != rank for value in values):
        shapes = [value.shape for value in values]
        raise operation.refused("shapes that agree outside the axis", f"shapes {shapes} along axis {axis}")
    importer.reserve_tensor(operation, sum(math.prod(value.shape) for value in values))
    tensors = [value for value in values if isinstance(value, Tensor)]
    names = list(dict.fromkeys(tensor.name for tensor in tensors))
    if len(names) == 1 and len(tensors) == len(values):
        return tensors[0].chosen(np.concatenate([tensor.entries for tensor in tensors], axis))
    terms = []
    for name in names:
        parts = [v.entries if isinstance(v, Tensor) and v.name == name else np.full(v.shape, -1) for v in values]
        terms.append((Tensor(name, np.concatenate(parts, axis)), 1.0))
    numbers = [
        np.zeros(v.shape) if isinstance(v, Tensor) else operation.numbers(k) for k, v in enumerate(values)
    ]  # fmt: skip
    return importer.combine(operation, "", terms, np.concatenate(numbers, axis))


def pad(importer: Importer, operation: Operation) -> Tensor:
    """Pad: with a constant, or by reflecting, repeating the edge or wrapping; negative pads cut off."""
    tensor, pads = operation.tensor(), operation.integers("pads", 1)
    mode, rank = operation.attributes.get("mode", "constant"), len(tensor.shape)
    axes = operation.integers("axes", 3) or list(range(rank))
    operation.axes(axes, rank)
    if pads is None or len(pads) != 2 * len(axes):
        raise operation.refused(f"{2 * len(axes)} pads", pads)
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise operation.refused("mode constant, reflect, edge or wrap", repr(mode))
    widths, cut = [(0, 0)] * rank, [slice(None)] * rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        widths[axis] = max(before, 0), max(after, 0)
        cut[axis] = slice(max(-before, 0), max(tensor.shape[axis] - max(-after, 0), 0))
    entries = tensor.entries[tuple(cut)]
    importer.reserve_tensor(operation, entries.size)
    longest = {"constant": math.inf, "edge": math.inf, "reflect": -1, "wrap": 0}[mode]
    for length, width in zip(entries.shape, widths, strict=True):
        if max(width) > max(length + longest, 0):
            raise operation.refused(f"pads that {mode} can fill", f"{pads} on shape {tensor.shape}")
    importer.reserve_tensor(
        operation, *(length + sum(width) for length, width in zip(entries.shape, widths, strict=True))
    )
    if mode != "constant":
        return tensor.chosen(_padded(entries, widths, mode))
    filler = operation.number("value", 0.0)
    if operation.argument(2) is not None:
        filler = float(operation.numbers(2).reshape(-1)[0])
    padded = np.pad(entries, widths, constant_values=-1)
    return importer.combine(operation, "", [(tensor.chosen(padded), 1.0)], np.where(padded < 0, filler, 0.0))


def _padded(entries: NDArray[Any], widths: list[tuple[int, int]], mode: str) -> NDArray[Any]:
    padded: NDArray[Any] = np.pad(entries, widths, mode=mode)  # type: ignore[call-overload]
    return padded
