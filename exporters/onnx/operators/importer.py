"""A graph that grows operation by operation. Knows nothing of the ONNX format: nodes come as names, arrays and numbers.

A tensor of the file is an array of indices into one of the graph's vectors. Operators that only rearrange entries
(Reshape, Transpose, Slice, Gather, Expand, edge padding, …) are one numpy call on these indices and add nothing to the
graph. Weights are given for the tensor's entries, and their columns are moved to where the indices point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.errors import GraphError
from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.graph import Affine, Divisor, Graph, Node, Relu
from veriflow.wording import shortened

Shape = tuple[int, ...]
Constant = NDArray[Any]
Entries = NDArray[np.int64]

MOST_ENTRIES = 2**27
"""Entries of all weights and tensors of a network together, beyond which a file is refused: one gigabyte of float64."""

MOST_FOLDED, MOST_FOLDS = 2**23, 4
"""Entries of constants that are computed: so many, and so many times those that the file holds."""

LARGEST_TENSOR = 2**24
"""Entries of one tensor that depends on the input."""


MOST_AXES = 64
"""Axes of a tensor, as many as numpy takes."""


class EndingKind(StrEnum):
    """The last operation of a network that is no affine map and no ReLU, named as in ONNX."""

    SIGMOID = "Sigmoid"
    SOFTMAX = "Softmax"
    LOG_SOFTMAX = "LogSoftmax"
    ARGMAX = "ArgMax"


class PassingKind(StrEnum):
    """An intermediate value that is not piecewise affine; a later operation must make it piecewise affine or an ending."""

    COMPARISON = "comparison"
    TOTAL = "sum of probabilities"


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value that depends on the input: entries of one of the graph's vectors.

    Attributes:
        name: of the vector.
        entries: positions in it, in the shape of the tensor.
        removed: the Sigmoid, Softmax, LogSoftmax, ArgMax or comparison whose result this is, if it is one of these; the
            entries are then positions in that flat result.
    """

    name: str
    entries: Entries
    removed: Removed | None = None

    @property
    def shape(self) -> Shape:
        """The tensor's shape."""
        return self.entries.shape

    def chosen(self, entries: Entries) -> Tensor:
        """Other entries of the same vector."""
        return replace(self, entries=entries)

    def broadcast(self, shape: Shape) -> Tensor:
        """The tensor repeated along axes, as numpy broadcasts."""
        return self.chosen(np.broadcast_to(self.entries, shape))


@dataclass(frozen=True, eq=False)
class Removed:
    """An operation that is not piecewise affine: it ends the network, or a later operation undoes it.

    Attributes:
        kind: what it is.
        node: the node's name, for messages.
        logits: its input.
        axis: along which it runs, None for Sigmoid.
        prefers_last: whether ArgMax takes the last of several largest entries.
        labels: for ArgMax, what the file has in place of the numbers 0, 1, …; empty where it has those.
        source: for a Sigmoid, the one that it is one minus of; for a sum, what is added up.
        sides: for a comparison, what is greater and what is less where it is true.
    """

    kind: EndingKind | PassingKind
    node: str
    logits: Tensor
    axis: int | None = None
    prefers_last: bool = False
    labels: tuple[int | str, ...] = ()
    source: Removed | None = None
    sides: tuple[Value, ...] = ()


Value = Constant | Tensor


@dataclass(frozen=True, eq=False)
class Operation:
    """One node of an ONNX file.

    Attributes:
        operator: its type, such as "Conv".
        name: the node's name, for messages.
        opset: version of the operators.
        arguments: what it reads, None where an optional input is left out.
        names: of what it reads, as in the file.
        output: name of its first output.
        outputs: how many outputs it has.
        attributes: numbers, text, lists and arrays by name.
    """

    operator: str
    name: str
    opset: int
    arguments: tuple[Value | None, ...]
    names: tuple[str, ...]
    output: str
    outputs: int
    attributes: Mapping[str, Any]

    def refused(self, expected: str, got: object) -> GraphError:
        """The error that says what the node should have been."""
        return GraphError(f"expected {expected} in {self.operator} node {self.name!r}; got {shortened(str(got))}")

    def argument(self, position: int) -> Value | None:
        """What the node reads there, None where that is left out."""
        return self.arguments[position] if position < len(self.arguments) else None

    def value(self, position: int) -> Value:
        """What the node reads there."""
        value = self.argument(position)
        if value is None:
            raise self.refused(f"at least {position + 1} inputs", len(self.arguments))
        return value

    def values(self) -> list[Value]:
        """All that the node reads, at least one thing."""
        return [self.value(k) for k in range(max(1, len(self.arguments)))]

    def tensor(self, position: int = 0) -> Tensor:
        """What the node reads there, which must depend on the input."""
        value = self.value(position)
        if not isinstance(value, Tensor):
            raise self.refused("an operand that depends on the input", f"the constant {self.names[position]!r}")
        return value

    def constant(self, position: int, what: str = "a constant") -> Constant:
        """What the node reads there, which must not depend on the input."""
        value = self.value(position)
        if isinstance(value, Tensor):
            raise self.refused(what, f"{self.names[position]!r}, which depends on the input")
        return value

    def numbers(self, position: int, *, finite: bool = True) -> Vector:
        """A constant of floats, as float64."""
        value = self.constant(position)
        if value.dtype.kind != "f":
            raise self.refused("constants of a float type", f"{value.dtype} in {self.names[position]!r}")
        if np.isnan(value).any() or (finite and not np.isfinite(value).all()):
            raise self.refused("finite constants", f"NaN or infinity in {self.names[position]!r}")
        return value.astype(np.float64)

    def integers(self, attribute: str, position: int | None = None) -> list[int] | None:
        """Integers that are an attribute or, in later opsets, the constant read at a position; None where neither is."""
        if attribute in self.attributes:
            return [int(v) for v in np.atleast_1d(self.attributes[attribute])]
        if position is None or self.argument(position) is None:
            return None
        value = self.constant(position, f"constant {attribute}")
        if value.dtype.kind not in "iu":
            raise self.refused(f"integer {attribute}", value.dtype)
        return [int(v) for v in value.reshape(-1)]

    def number(self, attribute: str, default: float) -> float:
        """A float attribute, which is a float32 number, as is its default."""
        return float(np.float32(self.attributes.get(attribute, default)))

    def flag(self, attribute: str, default: int = 0) -> bool:
        """An attribute that is 0 or 1."""
        value = self.attributes.get(attribute, default)
        if value not in (0, 1):
            raise self.refused(f"{attribute} 0 or 1", value)
        return bool(value)

    def axis(self, axis: int, rank: int) -> int:
        """An axis of a tensor of that rank, counted from the front."""
        if rank > MOST_AXES:
            raise self.refused(f"a tensor of at most {MOST_AXES} axes", rank)
        if not -rank <= axis < rank:
            raise self.refused(f"an axis of a tensor of rank {rank}", axis)
        return axis % rank

    def axes(self, axes: Iterable[int], rank: int) -> list[int]:
        """Different axes of a tensor of that rank, counted from the front and sorted."""
        found = sorted(self.axis(axis, rank) for axis in axes)
        if len(set(found)) < len(found):
            raise self.refused("different axes", list(axes))
        return found


@dataclass
class Importer:
    """The graph so far, from one input vector. Every method takes the operation that is translated.

    Messages name the operation, and what is added to the graph is named after its output.

    Attributes:
        sizes: length of every vector, at first of the input alone.
        taken: names that new vectors may not have.
        room: how many more entries may be built.
        folded_room: how many more entries of constants may be computed.
    """

    sizes: dict[str, int]
    taken: set[str]
    nodes: list[Node] = field(default_factory=list)
    room: int = MOST_ENTRIES
    folded_room: int = MOST_FOLDED

    def reserve(self, operation: Operation, *counts: int) -> None:
        """Account for entries about to be built, the product of the counts.

        Raises:
            GraphError: none, or more than there is room for.
        """
        count = math.prod(counts)
        if count < 1:
            raise operation.refused("at least one entry", "none")
        if count > self.room:
            raise operation.refused(f"{MOST_ENTRIES} entries at most in the network up to here", f"{count} more")
        self.room -= count

    def reserve_folded(self, operation: Operation, count: int) -> None:
        """Account for entries of constants about to be computed.

        Raises:
            GraphError: more than there is room for.
        """
        if count > self.folded_room:
            raise operation.refused("constants that are not much larger than those of the file", f"{count} entries")
        self.folded_room -= count

    def reserve_tensor(self, operation: Operation, *counts: int) -> None:
        """`reserve` for the entries of one tensor.

        Raises:
            GraphError: none, or more than a tensor or the network may have.
        """
        if math.prod(counts) > LARGEST_TENSOR:
            raise operation.refused(f"tensors of at most {LARGEST_TENSOR} entries", math.prod(counts))
        self.reserve(operation, *counts)

    def broadcast_shape(self, operation: Operation, *shapes: Shape) -> Shape:
        """The shape that the given ones broadcast to, with `reserve_tensor` for its entries."""
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            got = " and ".join(map(str, shapes))
            raise operation.refused("shapes that broadcast", got) from None
        self.reserve_tensor(operation, *shape)
        return shape

    def combine(
        self,
        operation: Operation,
        part: str,
        terms: Sequence[tuple[Tensor, float | Vector]],
        bias: float | Vector,
        divisor: Divisor | None = None,
    ) -> Tensor:
        """Append ``(Σ factor · tensor + bias) / divisor``, entry by entry; an entry −1 of a tensor stands for zero.

        The tensors have one shape; factors, bias and divisor broadcast to it. Factors of tensors of one vector must be ±1.
        """
        shape = terms[0][0].shape
        merged: dict[str, Matrix] = {}
        for tensor, factor in terms:
            factors = np.broadcast_to(np.asarray(factor, dtype=np.float64), shape).reshape(-1)
            weight = _choice(tensor.entries.reshape(-1), self.sizes[tensor.name], factors)
            merged[tensor.name] = merged[tensor.name] + weight if tensor.name in merged else weight
        return self._append(operation, part, tuple(merged.items()), np.broadcast_to(bias, shape), divisor)

    def affine(
        self,
        operation: Operation,
        part: str,
        tensor: Tensor,
        weight: Matrix,
        bias: float | Vector,
        shape: Shape,
        divisor: Divisor | None = None,
    ) -> Tensor:
        """Append ``(weight @ tensor + bias) / divisor`` of the given shape.

        The weight has a column for each entry of the tensor; bias and divisor broadcast to the shape.
        """
        name, weight = self._through(operation, tensor, weight)
        return self._append(operation, part, ((name, weight),), np.broadcast_to(bias, shape), divisor)

    def relu(self, operation: Operation, tensor: Tensor, part: str = "") -> Tensor:
        """Append ``max(tensor, 0)``: of the tensor's whole vector where all of that is used, and else of the tensor alone."""
        used = np.bincount(tensor.entries.reshape(-1), minlength=self.sizes[tensor.name])
        if not used.all():
            tensor = self.as_vector(operation, tensor)
        name = self._name(operation, part)
        self.nodes.append(Relu(name, tensor.name))
        self.sizes[name] = self.sizes[tensor.name]
        return Tensor(name, tensor.entries)

    def as_vector(self, operation: Operation, tensor: Tensor, part: str = "choice") -> Tensor:
        """The tensor as a vector of its own, entries in order."""
        return tensor if self._is_whole(tensor) else self.combine(operation, part, [(tensor, 1.0)], 0.0)

    def graph(self, operation: Operation, start: str, outputs: Sequence[Tensor]) -> Graph:
        """The graph whose output is all the given tensors, one after the other."""
        if len(outputs) == 1:
            last = self.as_vector(operation, outputs[0], "")
        else:
            total, top, terms = sum(t.entries.size for t in outputs), 0, []
            for tensor in outputs:
                entries = np.full(total, -1)
                entries[top : top + tensor.entries.size] = tensor.entries.reshape(-1)
                terms.append((tensor.chosen(entries), 1.0))
                top += tensor.entries.size
            last = self.combine(operation, "", terms, 0.0)
        return Graph(start, self.sizes[start], tuple(self.nodes), last.name).ending_at(last.name)

    def _append(
        self,
        operation: Operation,
        part: str,
        terms: tuple[tuple[str, Matrix], ...],
        bias: Vector,
        divisor: Divisor | None = None,
    ) -> Tensor:
        name = self._name(operation, part)
        flat = np.array(bias, dtype=np.float64).reshape(-1)
        if divisor is not None:
            ends = (np.array(np.broadcast_to(side, bias.shape)).reshape(-1) for side in (divisor.low, divisor.high))
            divisor = Divisor(*ends)
        node = Affine(name, terms, flat, divisor)
        if divisor is not None and divisor.is_exact and (np.frexp(divisor.low)[0] == 0.5).all():
            node = node.rounded  # quotients by powers of two are exact
        self.nodes.append(node)
        self.sizes[name] = flat.size
        return Tensor(name, np.arange(flat.size).reshape(bias.shape))

    def _name(self, operation: Operation, part: str) -> str:
        """The operation's output, or a part of it under a name that nothing else has."""
        output = operation.output
        if not part and output not in self.sizes:
            return output
        name = f"{output}/{part or 'last'}"
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name

    def _is_whole(self, tensor: Tensor) -> bool:
        size = self.sizes[tensor.name]
        return tensor.entries.size == size and bool((tensor.entries.reshape(-1) == np.arange(size)).all())

    def _through(self, operation: Operation, tensor: Tensor, weight: Matrix) -> tuple[str, Matrix]:
        """The weight with columns for the tensor's vector. Columns are never added up, as the sum could round."""
        if self._is_whole(tensor):
            return tensor.name, weight
        size, entries = self.sizes[tensor.name], tensor.entries.reshape(-1)
        distinct = bool(np.bincount(entries, minlength=size).max() <= 1)
        if distinct and sparse.issparse(weight):
            indices = entries[weight.indices]
            moved = sparse.csr_array((weight.data, indices, weight.indptr), shape=(weight.shape[0], size))
            moved.sort_indices()
            return tensor.name, moved
        if distinct and entries.size == size:
            wide = np.empty_like(weight)
            wide[:, entries] = weight
            return tensor.name, wide
        return self.as_vector(operation, tensor).name, weight


def _choice(entries: Entries, size: int, factors: Vector) -> sparse.csr_array:
    """The matrix that picks the given entries of a vector of ``size`` and scales them; −1 picks nothing."""
    present = entries >= 0
    starts = np.concatenate([[0], np.cumsum(present)])
    return sparse.csr_array((factors[present], entries[present], starts), shape=(entries.size, size))
