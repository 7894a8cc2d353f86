"""ONNX comparisons, and Where between two branches that are equal where its comparison changes: a continuous function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.graph import Affine

from .elementwise import Slopes, largest_operand, sloped
from .endings import ended
from .importer import Constant, Importer, Operation, PassingKind, Removed, Shape, Tensor, Value


def comparison(importer: Importer, operation: Operation) -> Tensor:
    """Greater, GreaterOrEqual, Less and LessOrEqual: with branches that meet, a tie may take either."""
    sides = operation.value(0), operation.value(1)
    shape = importer.broadcast_shape(operation, sides[0].shape, sides[1].shape)
    if operation.operator.startswith("Less"):
        sides = sides[::-1]
    tensor = operation.tensor(int(not isinstance(operation.value(0), Tensor)))
    return ended(Removed(PassingKind.COMPARISON, operation.name, tensor, sides=sides), shape)


def opposite(importer: Importer, operation: Operation) -> Tensor:
    """Not of a comparison."""
    del importer
    tensor = operation.tensor()
    if tensor.removed is None or tensor.removed.kind is not PassingKind.COMPARISON:
        raise operation.refused("a comparison", f"{operation.names[0]!r}")
    return replace(tensor, removed=replace(tensor.removed, sides=tensor.removed.sides[::-1]))


def is_nan(importer: Importer, operation: Operation) -> Constant:
    """IsNaN, false as inputs are numbers."""
    del importer
    return np.zeros(operation.tensor().shape, dtype=bool)


def where(importer: Importer, operation: Operation) -> Value:
    """Where: the larger or the smaller of both sides of the comparison, or a slope on each side of zero."""
    condition, on, off = (operation.value(k) for k in range(3))
    shape = importer.broadcast_shape(operation, condition.shape, on.shape, off.shape)
    if not isinstance(condition, Tensor):
        return _selected(importer, operation, np.broadcast_to(condition, shape))
    removed = condition.removed
    if (
        removed is None
        or removed.kind is not PassingKind.COMPARISON
        or any(isinstance(value, Tensor) and value.removed is not None for value in (on, off))
    ):
        raise operation.refused("a comparison as the condition and affine branches", ", ".join(operation.names))
    greater, less = _sides(condition, removed.sides)
    for sign, first, second in ((1.0, greater, less), (-1.0, less, greater)):
        if _same(on, first, shape) and _same(off, second, shape):
            names = ("the greater side", "the lesser side")
            sides = replace(operation, arguments=(first, second), names=names)
            return largest_operand(importer, sides, sign)
    for tensor, zero, upper, lower in ((greater, less, on, off), (less, greater, off, on)):
        if isinstance(tensor, Tensor) and isinstance(zero, np.ndarray) and not zero.any():
            above, below = (_slopes(importer, value, tensor, shape) for value in (upper, lower))
            if above is not None and below is not None:
                return sloped(importer, operation, tensor.broadcast(shape), above, below)
    raise operation.refused(
        "branches that meet where the condition changes, such as x > 0 with x and a multiple of x,",
        ", ".join(operation.names[1:]),
    )


def _selected(importer: Importer, operation: Operation, mask: NDArray[np.bool_]) -> Value:
    """Where by a constant condition."""
    terms: list[tuple[Tensor, float | Vector]] = []
    total = np.zeros(mask.shape)
    for place, kept in ((1, mask), (2, ~mask)):
        value = operation.value(place)
        if isinstance(value, Tensor):
            entries = np.where(kept, np.broadcast_to(value.entries, mask.shape), -1)
            terms.append((value.chosen(entries), 1.0))
        else:
            total = total + np.where(kept, operation.numbers(place, finite=False), 0.0)
    if not np.isfinite(total).all():
        raise operation.refused("finite constants", "infinity")
    return importer.combine(operation, "", terms, total) if terms else total


def _sides(condition: Tensor, sides: tuple[Value, ...]) -> Iterator[Value]:
    """Both sides of a comparison, rearranged as its result was since."""
    whole, places = np.broadcast_shapes(*(side.shape for side in sides)), condition.entries
    for side in sides:
        if isinstance(side, Tensor):
            yield side.chosen(side.broadcast(whole).entries.reshape(-1)[places])
        else:
            yield np.broadcast_to(side, whole).reshape(-1)[places]


def _same(value: Value, other: Value, shape: Shape) -> bool:
    """Whether two values are the same entries, or the same constants, of a shape."""
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return value.name == other.name and bool(
            (value.broadcast(shape).entries == other.broadcast(shape).entries).all()
        )
    if isinstance(value, Tensor) or isinstance(other, Tensor):
        return False
    return bool((np.broadcast_to(value, shape) == np.broadcast_to(other, shape)).all())


def _slopes(importer: Importer, value: Value, tensor: Tensor, shape: Shape) -> Slopes | None:
    """The factors and divisors of a value that is a multiple of the tensor, entry by entry; None where it is none."""
    if not isinstance(value, Tensor):
        return None if value.any() else (np.zeros(shape), None)
    if _same(value, tensor, shape):
        return np.ones(shape), None
    node = next((node for node in importer.nodes if node.output == value.name), None)
    if not isinstance(node, Affine) or node.bias.any() or [name for name, _ in node.terms] != [tensor.name]:
        return None
    places = value.broadcast(shape).entries
    rows = sparse.csr_array(node.terms[0][1])[places.reshape(-1)]
    columns = tensor.broadcast(shape).entries.reshape(-1)
    if (np.diff(rows.indptr) != 1).any() or (rows.indices != columns).any():
        return None
    divisor = None if node.divisor is None else node.divisor.chosen(places)
    return np.asarray(rows.data).reshape(shape), divisor
