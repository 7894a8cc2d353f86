"""A graph of affine maps and ReLUs over named vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import GraphError

Vector = NDArray[np.float64]
Matrix: TypeAlias = Any  # NDArray[np.float64] or scipy.sparse.csr_array, which ships no types

SMALL = 1 << 14
"""Matrices of at most this many entries are multiplied densely: there a sparse product costs more than it saves."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``output = Σ weight @ input + bias`` over the terms ``(input name, weight [out, in])``; weights dense or CSR.

    Numbers of another kind than float64 become float64.
    """

    output: str
    terms: tuple[tuple[str, Matrix], ...]
    bias: Vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple((name, _float64(weight)) for name, weight in self.terms))
        object.__setattr__(self, "bias", _float64(self.bias))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names that the node reads."""
        return tuple(name for name, _ in self.terms)

    @cached_property
    def products(self) -> tuple[tuple[str, Matrix, Matrix, Matrix], ...]:
        """Each term as it is multiplied again and again: its input, the weight, its transpose, and that of absolute values."""
        found = []
        for name, given in self.terms:
            weight: Matrix = dense(given) if math.prod(given.shape) <= SMALL else given
            turned: Matrix = weight.T.tocsr() if sparse.issparse(weight) else np.ascontiguousarray(weight.T)
            found.append((name, weight, turned, abs(turned)))
        return tuple(found)

    @cached_property
    def entries(self) -> tuple[tuple[str, NDArray[np.intp], NDArray[np.intp], Vector], ...]:
        """What is not zero in each term: its input, then rows, columns and values."""
        found = []
        for name, weight in self.terms:
            coo = sparse.coo_array(weight)
            kept = coo.data != 0
            found.append((name, coo.row[kept].astype(np.intp), coo.col[kept].astype(np.intp), coo.data[kept]))
        return tuple(found)


def _float64(array: Matrix) -> Matrix:
    return array.astype(np.float64, copy=False)


@dataclass(frozen=True)
class Relu:
    """``output = max(input, 0)``, elementwise."""

    output: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names that the node reads."""
        return (self.input,)


Node = Affine | Relu


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which every input is defined before it is read; one input vector, one output vector.

    Constants are float64 arrays. A graph's meaning is real arithmetic on exactly these constants.

    Attributes:
        input: name of the input vector, of ``input_size`` entries.
        nodes: the affine maps and ReLUs.
        output: name of the output vector.
        sizes: length of every named vector, the input included.

    Raises:
        GraphError: a name read before it is defined or defined twice, sizes that do not fit, a constant not finite.
    """

    input: str
    input_size: int
    nodes: tuple[Node, ...]
    output: str
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        sizes = {self.input: self.input_size}
        for node in self.nodes:
            if node.output in sizes:
                raise GraphError(f"expected every tensor to be defined once; got {node.output!r} twice")
            for name in node.inputs:
                if name not in sizes:
                    raise GraphError(f"expected {name!r} to be defined before {node.output!r} reads it; it is not")
            sizes[node.output] = sizes[node.input] if isinstance(node, Relu) else _affine_size(node, sizes)
        if self.output not in sizes:
            raise GraphError(f"expected an output among the tensors of the graph; got {self.output!r}")
        object.__setattr__(self, "sizes", sizes)

    @property
    def output_size(self) -> int:
        """Length of the output vector."""
        return self.sizes[self.output]

    @property
    def relus(self) -> tuple[Relu, ...]:
        """The ReLU nodes, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Relu))

    @property
    def relu_count(self) -> int:
        """Number of ReLU units, that is of scalars that pass a ReLU."""
        return sum(self.sizes[node.output] for node in self.relus)

    @property
    def unit_places(self) -> dict[str, slice]:
        """Where each ReLU's units stand among all of them, by its output."""
        ends = np.cumsum([0, *(self.sizes[node.output] for node in self.relus)]).tolist()
        return {node.output: slice(a, b) for node, a, b in zip(self.relus, ends[:-1], ends[1:], strict=True)}

    def ending_at(self, output: str) -> Graph:
        """The same graph with another of its tensors as the output, without the nodes that it does not need."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        return Graph(self.input, self.input_size, tuple(reversed(kept)), output)

    def starting_at(self, tensor: str) -> Graph:
        """The part of the graph that computes the output from one of its tensors.

        Raises:
            GraphError: an output that depends on more than that tensor.
        """
        known, kept = {tensor}, []
        for node in self.ending_at(self.output).nodes:
            if known.issuperset(node.inputs) and node.output != tensor:
                known.add(node.output)
                kept.append(node)
        return Graph(tensor, self.sizes[tensor], tuple(kept), self.output)


def _affine_size(node: Affine, sizes: Mapping[str, int]) -> int:
    rows = len(node.bias)
    if not np.isfinite(node.bias).all():
        raise GraphError(f"expected finite constants; got NaN or infinity in the bias of {node.output!r}")
    for name, weight in node.terms:
        if weight.shape != (rows, sizes[name]):
            raise GraphError(
                f"expected a weight of shape {(rows, sizes[name])} from {name!r} to {node.output!r}; got {weight.shape}"
            )
        if not np.isfinite(weight.data if sparse.issparse(weight) else weight).all():
            raise GraphError(f"expected finite constants; got NaN or infinity in a weight of {node.output!r}")
    return rows


def dense(weight: Matrix) -> Vector:
    """The matrix as a dense float64 array."""
    return weight.toarray() if sparse.issparse(weight) else np.asarray(weight)


def identity(size: int) -> sparse.csr_array:
    """The identity matrix, sparse."""
    return sparse.csr_array(sparse.eye_array(size, format="csr"))


def compose(first: Graph, second: Graph, tensor: str | None = None) -> Graph:
    """``second ∘ first``: the second graph reads a tensor of the first one, its output by default. No constant changes.

    Tensors of the second graph whose names the first one uses get a prime.

    Raises:
        GraphError: the tensor of the first graph is not as long as the input of the second.
    """
    tensor = first.output if tensor is None else tensor
    if first.sizes[tensor] != second.input_size:
        raise GraphError(
            f"expected a second graph that takes {first.sizes[tensor]} inputs, as the first gives; "
            f"got one that takes {second.input_size}"
        )
    names, taken = {second.input: tensor}, set(first.sizes)
    for node in second.nodes:
        name = node.output
        while name in taken:
            name += "'"
        names[node.output] = name
        taken.add(name)
    renamed = tuple(
        Relu(names[node.output], names[node.input])
        if isinstance(node, Relu)
        else Affine(names[node.output], tuple((names[name], weight) for name, weight in node.terms), node.bias)
        for node in second.nodes
    )
    return Graph(first.input, first.input_size, first.nodes + renamed, names[second.output])
