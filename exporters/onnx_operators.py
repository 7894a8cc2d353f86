"""ONNX operators as affine maps and ReLUs. Knows nothing of the file format: nodes come as names, arrays and numbers.

Shapes are static; an operator that moves entries about (Reshape, Flatten, Transpose, Identity, broadcasting) is a
choice of entries of a flat vector, and an affine map only where it changes their order or number. Constants keep every
bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.errors import GraphError
from veriflow.piecewise.graph import Affine, Graph, Matrix, Node, Relu, identity

Shape = tuple[int, ...]
Constant = NDArray[Any]  # float64, or int64 for shapes

MOST_ENTRIES = 2**27
"""Entries of a tensor or a weight matrix beyond which a file is refused, one gigabyte of float64."""


@dataclass(frozen=True)
class Tensor:
    """A value that depends on the input: the name of a vector of the graph, and the shape it stands for."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Operation:
    """One node of an ONNX file: operator, a name for messages, names read and written, attributes."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object]

    def refused(self, expected: str, got: object) -> GraphError:
        """The error that says what the node should have been."""
        return GraphError(f"expected {expected} in {self.operator} node {self.name!r}; got {got}")


@dataclass
class Importer:
    """Builds a graph operation by operation; ``values`` maps every name so far to a constant or a tensor."""

    input: Tensor
    values: dict[str, Constant | Tensor]
    nodes: list[Node] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        """Take one more operation, whose inputs are known.

        Raises:
            GraphError: an operator that is not affine or a ReLU, sizes that do not fit, or a use that is not supported.
        """
        translate = _OPERATORS.get(operation.operator)
        if translate is None:
            known = ", ".join(sorted(_OPERATORS))
            raise GraphError(f"expected operators among {known}; got {operation.operator} in node {operation.name!r}")
        arguments = [self.values[name] for name in operation.inputs if name]
        self.values[operation.outputs[0]] = translate(self, operation, arguments)

    def graph(self, output: str) -> Graph:
        """The graph that ends in the named value.

        Raises:
            GraphError: an output that does not depend on the input.
        """
        value = self.values[output]
        if not isinstance(value, Tensor):
            raise GraphError(f"expected an output that depends on the input; got the constant {output!r}")
        size = math.prod(self.input.shape)
        return Graph(self.input.name, size, tuple(self.nodes), value.name).ending_at(value.name)

    def affine(
        self, operation: Operation, terms: Sequence[tuple[Tensor, Matrix]], bias: Constant, shape: Shape
    ) -> Tensor:
        """Append ``Σ weight @ tensor + bias`` under the name of the operation's output."""
        return self.named_affine(operation.outputs[0], terms, bias, shape)

    def named_affine(self, name: str, terms: Sequence[tuple[Tensor, Matrix]], bias: Constant, shape: Shape) -> Tensor:
        """Append ``Σ weight @ tensor + bias`` under a name; terms of one tensor, which are ±1 choices, are added."""
        merged: dict[str, Matrix] = {}
        for tensor, weight in terms:
            merged[tensor.name] = merged[tensor.name] + weight if tensor.name in merged else weight
        self.nodes.append(Affine(name, tuple(merged.items()), bias.reshape(-1).astype(np.float64)))
        return Tensor(name, shape)


Translation = Callable[[Importer, Operation, list[Constant | Tensor]], Constant | Tensor]


def _entries(operation: Operation, *shapes: Shape) -> int:
    """Product of all sizes, refused where it is too large to build."""
    total = math.prod(math.prod(shape) for shape in shapes)
    if not 0 < total <= MOST_ENTRIES:
        raise operation.refused(f"1 to {MOST_ENTRIES} entries", total)
    return total


def _choice(entries: NDArray[np.int64], size: int) -> sparse.csr_array:
    """The matrix that picks the given entries of a vector of ``size``."""
    count = entries.size
    return sparse.csr_array((np.ones(count), entries.reshape(-1), np.arange(count + 1)), shape=(count, size))


def _broadcast(operation: Operation, left: Shape, right: Shape) -> Shape:
    try:
        shape = np.broadcast_shapes(left, right)
    except ValueError:
        raise operation.refused("shapes that broadcast", f"{left} and {right}") from None
    _entries(operation, shape)
    return shape


def _spread(tensor: Tensor, shape: Shape) -> sparse.csr_array:
    """The matrix that broadcasts the tensor to ``shape``."""
    size = math.prod(tensor.shape)
    return _choice(np.broadcast_to(np.arange(size).reshape(tensor.shape), shape), size)


def _numbers(operation: Operation, value: Constant | Tensor) -> NDArray[np.float64]:
    if isinstance(value, Tensor):
        raise operation.refused("a constant", f"{value.name!r}, which depends on the input")
    if value.dtype != np.float64:
        raise operation.refused("constants of type FLOAT or DOUBLE", value.dtype)
    return value


def _sum(sign: float) -> Translation:
    """Add (sign 1) and Sub (sign −1)."""

    def translate(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
        left, right = arguments
        shape = _broadcast(operation, left.shape, right.shape)
        terms, bias = [], np.zeros(shape)
        for value, factor in ((left, 1.0), (right, sign)):
            if isinstance(value, Tensor):
                terms.append((value, factor * _spread(value, shape)))
            else:
                bias = np.broadcast_to(factor * _numbers(operation, value), shape)
        if not terms:
            raise operation.refused("an operand that depends on the input", "two constants")
        return importer.affine(operation, terms, bias, shape)

    return translate


def _scaled(importer: Importer, operation: Operation, tensor: Tensor, factors: NDArray[np.float64]) -> Tensor:
    shape = _broadcast(operation, tensor.shape, factors.shape)
    weight = sparse.csr_array(sparse.diags_array(np.broadcast_to(factors, shape).reshape(-1)) @ _spread(tensor, shape))
    return importer.affine(operation, [(tensor, weight)], np.zeros(shape), shape)


def _mul(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
    left, right = arguments
    if isinstance(left, Tensor):
        return _scaled(importer, operation, left, _numbers(operation, right))
    if isinstance(right, Tensor):
        return _scaled(importer, operation, right, _numbers(operation, left))
    raise operation.refused("an operand that depends on the input", "two constants")


def _div(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
    """Division as the product with the float32 nearest to 1/c: exact for powers of two, else off by one float32 rounding.

    An onnxruntime that divides in float32 rounds its quotient as much.
    """
    left, right = arguments
    divisors = _numbers(operation, right)
    if not isinstance(left, Tensor):
        raise operation.refused("a dividend that depends on the input", "a constant")
    with np.errstate(over="ignore", divide="ignore"):  # infinity is refused with the other constants
        return _scaled(importer, operation, left, (1 / divisors).astype(np.float32).astype(np.float64))


def _relu(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
    (value,) = arguments
    if not isinstance(value, Tensor):
        raise operation.refused("an operand that depends on the input", "a constant")
    importer.nodes.append(Relu(operation.outputs[0], value.name))
    return Tensor(operation.outputs[0], value.shape)


def _identity(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Constant | Tensor:
    del importer, operation
    return arguments[0]


def _constant(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Constant:
    del importer, arguments
    value = next(iter(operation.attributes.values()))
    if not isinstance(value, np.ndarray):
        raise operation.refused("a tensor of numbers", type(value).__name__)
    return value


def _reshaped(operation: Operation, value: Constant | Tensor, shape: Shape) -> Constant | Tensor:
    if math.prod(shape) != math.prod(value.shape):
        raise operation.refused(f"a shape of {math.prod(value.shape)} entries", shape)
    return Tensor(value.name, shape) if isinstance(value, Tensor) else value.reshape(shape)


def _reshape(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Constant | Tensor:
    del importer
    value, wanted = arguments
    if isinstance(wanted, Tensor):
        raise operation.refused("a constant shape", f"{wanted.name!r}, which depends on the input")
    sizes = [int(size) for size in wanted.reshape(-1)]
    if not operation.attributes.get("allowzero"):
        if any(size == 0 and i >= len(value.shape) for i, size in enumerate(sizes)):
            raise operation.refused(f"zeros only for the {len(value.shape)} axes there are", sizes)
        sizes = [value.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    if sizes.count(-1) > 1 or min(sizes, default=1) < -1:
        raise operation.refused("at most one size of -1, none below it", sizes)
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(value.shape) // max(known, 1)
    return _reshaped(operation, value, tuple(sizes))


def _flatten(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Constant | Tensor:
    del importer
    value, axis = arguments[0], operation.attributes.get("axis", 1)
    if not isinstance(axis, int) or not -len(value.shape) <= axis <= len(value.shape):
        raise operation.refused(f"an axis of a tensor of rank {len(value.shape)}", axis)
    axis = axis + len(value.shape) if axis < 0 else axis
    return _reshaped(operation, value, (math.prod(value.shape[:axis]), math.prod(value.shape[axis:])))


def _transpose(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Constant | Tensor:
    (value,) = arguments
    axes = operation.attributes.get("perm", list(range(len(value.shape)))[::-1])
    if not isinstance(axes, list) or sorted(axes) != list(range(len(value.shape))):
        raise operation.refused(f"a permutation of {len(value.shape)} axes", axes)
    if not isinstance(value, Tensor):
        return np.transpose(value, axes)
    size = math.prod(value.shape)
    order = np.transpose(np.arange(size).reshape(value.shape), axes)
    if (order.reshape(-1) == np.arange(size)).all():
        return Tensor(value.name, order.shape)
    return importer.affine(operation, [(value, _choice(order, size))], np.zeros(size), order.shape)


def _product(operation: Operation, left: Constant | Tensor, right: Constant | Tensor) -> tuple[Tensor, Matrix, Shape]:
    """``left @ right`` where one is a constant matrix: the other one, its weight as a flat map, the shape."""
    moving, still = (left, right) if isinstance(left, Tensor) else (right, left)
    weight = _numbers(operation, still)
    if not isinstance(moving, Tensor):
        raise operation.refused("an operand that depends on the input", "two constants")
    if weight.ndim != 2 or not moving.shape:
        raise operation.refused("a matrix and a vector or matrix", f"shapes {left.shape} and {right.shape}")
    if left.shape[-1] != right.shape[-2:][0]:
        raise operation.refused("factors whose inner sizes agree", f"shapes {left.shape} and {right.shape}")
    if moving is left:
        before, after, shape = math.prod(left.shape[:-1]), 1, (*left.shape[:-1], weight.shape[1])
        weight = weight.T
    else:
        before, after = math.prod(right.shape[:-2]), math.prod(right.shape[-2:][1:])
        shape = (*right.shape[:-2], weight.shape[0], *right.shape[-2:][1:])
    _entries(operation, weight.shape, (before, after))
    if before == after == 1:
        return moving, np.ascontiguousarray(weight), shape
    return moving, sparse.csr_array(sparse.kron(identity(before), sparse.kron(weight, identity(after)))), shape


def _matmul(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
    moving, weight, shape = _product(operation, *arguments)
    return importer.affine(operation, [(moving, weight)], np.zeros(math.prod(shape)), shape)


def _gemm(importer: Importer, operation: Operation, arguments: list[Constant | Tensor]) -> Tensor:
    """``alpha · A @ B + beta · C``; factors other than 1 become maps of their own, so that no product is rounded."""
    left, right = (
        _turned(operation, value, flag) for value, flag in zip(arguments[:2], ("transA", "transB"), strict=True)
    )
    moving, weight, shape = _product(operation, left, right)
    bias = _numbers(operation, arguments[2]) if len(arguments) > 2 else np.zeros(shape)
    if _broadcast(operation, bias.shape, shape) != shape:
        raise operation.refused(f"a bias that broadcasts to {shape}", bias.shape)
    size, bias = math.prod(shape), np.broadcast_to(bias, shape)
    factors = [operation.attributes.get(name, 1.0) for name in ("alpha", "beta")]
    if factors == [1.0, 1.0]:
        return importer.affine(operation, [(moving, weight)], bias, shape)
    name = operation.outputs[0]
    nothing = sparse.csr_array((size, math.prod(moving.shape)))
    parts = (
        importer.named_affine(f"{name}/product", [(moving, weight)], np.zeros(size), shape),
        importer.named_affine(f"{name}/bias", [(moving, nothing)], bias, shape),
    )
    terms = [(part, float(factor) * identity(size)) for part, factor in zip(parts, factors, strict=True)]  # type: ignore[arg-type]
    return importer.affine(operation, terms, np.zeros(size), shape)


def _turned(operation: Operation, value: Constant | Tensor, flag: str) -> Constant | Tensor:
    if len(value.shape) != 2:
        raise operation.refused("matrices", f"a tensor of shape {value.shape}")
    if not operation.attributes.get(flag):
        return value
    if isinstance(value, Tensor):
        if 1 not in value.shape:
            raise operation.refused(f"{flag} on a constant or a vector", f"a tensor of shape {value.shape}")
        return Tensor(value.name, value.shape[::-1])
    return value.T


_OPERATORS: Mapping[str, Translation] = {
    "Add": _sum(1.0),
    "Constant": _constant,
    "Div": _div,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sub": _sum(-1.0),
    "Transpose": _transpose,
}
