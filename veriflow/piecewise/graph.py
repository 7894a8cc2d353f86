"""A graph of affine maps and ReLUs over named vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import GraphError
from ..numerics.arrays import Matrix, Vector

Rows: TypeAlias = NDArray[np.intp] | NDArray[np.bool_]

_LEAST_NORMAL = float(np.finfo(np.float64).tiny)

SMALL = 1 << 14
"""Matrices of at most this many entries are multiplied densely: there a sparse product costs more than it saves."""


DIVIDED = 3
"""By how many units of roundoff (2⁻⁵³), of its own size, a rounded quotient may be off: as much as so many more terms."""


@dataclass(frozen=True, eq=False)
class Divisor:
    """Positive numbers ``[rows]``, each a float64 or a root between two neighbouring ones: ``low ≤ number ≤ high``."""

    low: Vector
    high: Vector

    @classmethod
    def of(cls, numbers: Vector) -> Divisor:
        """Positive numbers that are known."""
        return cls(numbers, numbers)

    @classmethod
    def roots(cls, squares: Sequence[Fraction]) -> Divisor:
        """The square roots of positive numbers."""
        ends = np.array([_root(square) for square in squares])
        return cls(ends[:, 0], ends[:, 1])

    @property
    def is_exact(self) -> bool:
        """Whether all numbers are known."""
        return bool((self.low == self.high).all())

    def chosen(self, rows: Rows) -> Divisor:
        """Those of some rows."""
        return Divisor(self.low[rows], self.high[rows])


def _root(square: Fraction) -> tuple[float, float]:
    """The floats next to a root: the lower one by cutting off digits of a whole root, equal if it is the root."""
    top, bottom = square.numerator, square.denominator
    shift = 56 + max(0, bottom.bit_length() - top.bit_length() + 1) // 2
    root = math.isqrt((top << 2 * shift) // bottom)
    spare = root.bit_length() - 53
    low = math.ldexp(root >> spare, spare - shift)
    return low, low if Fraction(low) ** 2 == square else math.nextafter(low, math.inf)


@dataclass(frozen=True, eq=False)
class Affine:
    """``output = (Σ weight @ input + bias) / divisor``, over the terms ``(input name, weight [out, in])``; dense or CSR.

    There is mostly no divisor. Numbers of another kind than float64 become float64. Other arrays are shared, not copied: a
    graph answers rightly only as long as nobody changes them.

    Raises:
        GraphError: divisors that are not positive, or that make a quotient leave the normal floats.
    """

    output: str
    terms: tuple[tuple[str, Matrix], ...]
    bias: Vector
    divisor: Divisor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple((name, _float64(weight)) for name, weight in self.terms))
        object.__setattr__(self, "bias", _float64(self.bias))
        if self.divisor is not None:
            _check_divisor(self, self.divisor)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names that the node reads."""
        return tuple(name for name, _ in self.terms)

    def chosen(self, output: str, rows: Rows) -> Affine:
        """Some rows of the map, as a map to another tensor."""
        divisor = None if self.divisor is None else self.divisor.chosen(rows)
        return Affine(output, tuple((name, weight[rows]) for name, weight in self.terms), self.bias[rows], divisor)

    @cached_property
    def rounded(self) -> Affine:
        """The map without its divisor, each constant a quotient in float64, itself where there is no divisor.

        A quotient w / s is off by at most `DIVIDED` units of roundoff u: ``low ≤ s ≤ (1 + 2u) low``, so that w / low is
        off by 2u, and its rounding adds u. (The product 2u² of both is far below the room that all margins have.)
        """
        if self.divisor is None:
            return self
        low = self.divisor.low
        return Affine(self.output, tuple((name, _divided(weight, low)) for name, weight in self.terms), self.bias / low)

    @property
    def roundings(self) -> int:
        """By how many units of roundoff the constants of `rounded` may be off."""
        return 0 if self.divisor is None else DIVIDED

    @cached_property
    def products(self) -> tuple[tuple[str, Matrix, Matrix, Matrix], ...]:
        """Each term of `rounded` as it is multiplied again and again: its input, weight, transpose, and that of absolutes."""
        found = []
        for name, given in self.rounded.terms:
            weight: Matrix = dense(given) if math.prod(given.shape) <= SMALL else given
            turned: Matrix = weight.T.tocsr() if sparse.issparse(weight) else np.ascontiguousarray(weight.T)
            found.append((name, weight, turned, abs(turned)))
        return tuple(found)

    @cached_property
    def entries(self) -> tuple[tuple[str, NDArray[np.intp], NDArray[np.intp], Vector], ...]:
        """What is not zero in each term, undivided: its input, then rows, columns and values."""
        found = []
        for name, weight in self.terms:
            coo = sparse.coo_array(weight)
            kept = coo.data != 0
            found.append((name, coo.row[kept].astype(np.intp), coo.col[kept].astype(np.intp), coo.data[kept]))
        return tuple(found)


def _float64(array: Matrix) -> Matrix:
    return array.astype(np.float64, copy=False)


def _divided(weight: Matrix, divisors: Vector) -> Matrix:
    if not sparse.issparse(weight):
        return weight / divisors[:, None]
    found = weight.copy()
    found.data = weight.data / np.repeat(divisors, np.diff(weight.indptr))
    return found


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


MOST_WIDTHS = 8
"""Most widths of layers that a graph shows of itself."""


class Source(Protocol):
    """A file that a graph was read from."""

    @property
    def name(self) -> str:
        """What to call it in reports."""

    def outputs_of(self, logits: Sequence[Fraction]) -> Sequence[float]:
        """What the file gives where exact arithmetic gives these outputs of the graph."""

    def as_pair(self) -> Source:
        """The same file for a graph that gives 0 and the one logit of a sigmoid, instead of the logit alone."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which every input is defined before it is read; one input vector, one output vector.

    Constants are float64 arrays, and divisors. A graph's meaning is real arithmetic on exactly these numbers.

    Attributes:
        input: name of the input vector, of ``input_size`` entries.
        nodes: the affine maps and ReLUs.
        output: name of the output vector.
        source: the file that all of the graph was read from, if it was; graphs that are made of it have none.
        sizes: length of every named vector, the input included.

    Raises:
        GraphError: a name read before it is defined or defined twice, sizes that do not fit, a constant not finite.
    """

    input: str
    input_size: int
    nodes: tuple[Node, ...]
    output: str
    source: Source | None = None
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

    def __repr__(self) -> str:
        widths = [self.input_size, *(self.sizes[relu.output] for relu in self.relus), self.output_size]
        shown = [str(width) for width in widths]
        if len(shown) > MOST_WIDTHS:
            shown[MOST_WIDTHS - 2 : -1] = ["…"]
        count = self.relu_count
        return f"Graph({' → '.join(shown)}, {count} ReLU{'' if count == 1 else 's'})"

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
    def is_exact(self) -> bool:
        """Whether all constants are known numbers: no divisor is a root that lies between two floats."""
        return all(isinstance(node, Relu) or node.divisor is None or node.divisor.is_exact for node in self.nodes)

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


def _check_divisor(node: Affine, divisor: Divisor) -> None:
    low, high = divisor.low, divisor.high
    if low.shape != node.bias.shape or high.shape != node.bias.shape:
        raise GraphError(f"expected {len(node.bias)} divisors of {node.output!r}; got {len(low)}")
    if not ((low > 0) & (low <= high) & (high <= np.nextafter(low, np.inf)) & np.isfinite(high)).all():
        raise GraphError(
            f"expected divisors that are positive floats or between neighbours; got others in {node.output!r}"
        )
    with np.errstate(over="ignore"):
        before, after = (np.concatenate([m.bias, *(_numbers(w) for _, w in m.terms)]) for m in (node, node.rounded))
    if not ((before == 0) | ((np.abs(after) >= _LEAST_NORMAL) & np.isfinite(after))).all():
        raise GraphError(f"expected quotients from 1e-307 to 1e308; got others in {node.output!r}")


def _numbers(weight: Matrix) -> Vector:
    return np.asarray(weight.data if sparse.issparse(weight) else np.ravel(weight))


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
        else replace(node, output=names[node.output], terms=tuple((names[name], weight) for name, weight in node.terms))
        for node in second.nodes
    )
    return Graph(first.input, first.input_size, first.nodes + renamed, names[second.output])


def with_rounded_quotients(graph: Graph) -> Graph:
    """The graph with the maps' `Affine.rounded`, itself where nothing is divided."""
    if all(isinstance(node, Relu) or node.divisor is None for node in graph.nodes):
        return graph
    nodes = tuple(node if isinstance(node, Relu) else node.rounded for node in graph.nodes)
    return Graph(graph.input, graph.input_size, nodes, graph.output)


def with_maps_before_relus(graph: Graph) -> Graph:
    """The graph with a copy wherever a ReLU reads the input or another ReLU, as bounds on units are those of maps' outputs."""
    maps, taken = {node.output for node in graph.nodes if isinstance(node, Affine)}, set(graph.sizes)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Relu) and node.input not in maps:
            copy = f"{node.output}/input"
            while copy in taken:
                copy += "'"
            taken.add(copy)
            size = graph.sizes[node.input]
            nodes.append(Affine(copy, ((node.input, identity(size)),), np.zeros(size)))
            nodes.append(Relu(node.output, copy))
        else:
            nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else Graph(graph.input, graph.input_size, tuple(nodes), graph.output)
