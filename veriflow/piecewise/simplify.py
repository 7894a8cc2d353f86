"""Smaller graphs that compute the same: units of known phase folded away, what nothing reads dropped, maps fused.

Only `fuse_affine` multiplies weights, and says what that may change. Otherwise every constant of the new graph is one
of the old, a zero or a one, and rows keep their divisors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..numerics.arrays import Indices, Matrix, Vector
from .build import fresh
from .graph import Affine, Graph, Node, Relu, identity

Phases = Mapping[str, NDArray[np.int8]]
"""By output of a ReLU, for each unit: 1 where its input is never below zero, −1 where never above, 0 where not known."""


def fold_stable_units(graph: Graph, phases: Phases, keep: Collection[str] = ()) -> Graph:
    """A graph that equals the given one wherever its units are in their phases, with ReLUs for the others alone.

    What reads a unit that is never negative reads the unit's input instead, and a unit that is never positive is read
    by nobody. Nodes and units that then cannot reach the output are dropped (`drop_dead_units`).

    Args:
        graph: any graph.
        phases: of the ReLUs that have some; the others stay as they are.
        keep: tensors that the new graph has too, whole and under their names; it has those of the input and the output.
    """
    return drop_dead_units(_Folding(graph, phases, {graph.output, *keep}).built(), keep)


class _Folding:
    """The new graph under construction, and where it has the entries of the old tensors.

    ``parts`` has, for each old tensor, new tensors and which of its entries these hold; entries in none are zero.
    """

    def __init__(self, graph: Graph, phases: Phases, kept: Collection[str]) -> None:
        self.graph, self.phases, self.kept = graph, phases, kept
        self.nodes: dict[str, Node] = {}
        self.folded: set[str] = set()
        self.sizes = {graph.input: graph.input_size}
        self.taken = set(graph.sizes)
        self.parts: dict[str, list[tuple[str, Indices]]] = {graph.input: [(graph.input, np.arange(graph.input_size))]}

    def built(self) -> Graph:
        for node in self.graph.nodes:
            if isinstance(node, Affine):
                parts = [(part, weight[:, places]) for name, weight in node.terms for part, places in self.parts[name]]
                self._add_affine(node, [self._narrowed(node.output, *part) for part in parts])
            else:
                self._fold(node)
        return Graph(self.graph.input, self.graph.input_size, tuple(self.nodes.values()), self.graph.output)

    def _add_affine(self, node: Affine, parts: list[tuple[str, Matrix]]) -> None:
        terms: dict[str, Matrix] = {}
        for name, weight in parts:
            # the sum of two weights would be rounded
            source = self._entries(name, np.arange(self.sizes[name])) if name in terms else name
            terms[source] = weight
        self._add(replace(node, terms=tuple(terms.items())))
        self.parts[node.output] = [(node.output, np.arange(len(node.bias)))]

    def _narrowed(self, reader: str, name: str, weight: Matrix) -> tuple[str, Matrix]:
        """A term of a map that reads many entries of another map: what it makes of them, as a shorter tensor."""
        rows, columns = weight.shape
        if rows >= columns or name not in self.folded:
            return name, weight
        short = self._add(Affine(self._unused(reader), ((name, weight),), np.zeros(rows)))
        return short, identity(rows)

    def _fold(self, node: Relu) -> None:
        size = self.graph.sizes[node.output]
        phases = self.phases.get(node.output, np.zeros(size, dtype=np.int8))
        found = []
        for name, places in self.parts[node.input]:
            for phase in (0, 1):
                chosen = np.flatnonzero(phases[places] == phase)
                if not chosen.size:
                    continue
                source = name if len(chosen) == len(places) else self._entries(name, chosen)
                if phase == 0:
                    whole = len(chosen) == size
                    source = self._add(Relu(node.output if whole else self._unused(node.output), source))
                else:
                    self.folded.add(source)
                found.append((source, places[chosen]))
        self.parts[node.output] = found
        if node.output in self.kept and node.output not in self.nodes:
            columns = identity(size)
            assembled = Affine(node.output, (), np.zeros(size))
            self._add_affine(assembled, [(name, columns[:, places]) for name, places in found])

    def _entries(self, name: str, chosen: Indices) -> str:
        """Some entries of a new tensor as a tensor of their own."""
        node = self.nodes.get(name)
        if isinstance(node, Affine):
            return self._add(node.chosen(self._unused(name), chosen))
        terms = ((name, identity(self.sizes[name])[chosen]),)
        return self._add(Affine(self._unused(name), terms, np.zeros(len(chosen))))

    def _unused(self, name: str) -> str:
        return fresh(f"{name}'", self.taken)

    def _add(self, node: Node) -> str:
        self.nodes[node.output] = node
        self.sizes[node.output] = self.sizes[node.input] if isinstance(node, Relu) else len(node.bias)
        self.taken.add(node.output)
        return node.output


def join_shifts(graph: Graph) -> Graph:
    """The graph in which a product and the constant that is added to it are one node, and copies are none.

    ONNX files often have MatMul and Add apart. No constant changes, so the graphs compute exactly the same.
    """
    readers = Counter([graph.output, *(name for node in graph.nodes for name in node.inputs)])
    source: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if isinstance(node, Relu):
            nodes[node.output] = Relu(node.output, source.get(node.input, node.input))
            continue
        terms = tuple((source.get(name, name), weight) for name, weight in node.terms)
        if not _is_shift(node):
            nodes[node.output] = replace(node, terms=terms)
            continue
        before = nodes.get(terms[0][0])
        if node.output != graph.output and not node.bias.any():
            source[node.output] = terms[0][0]
            readers[terms[0][0]] += readers[node.output] - 1
        elif isinstance(before, Affine) and readers[before.output] == 1 and _adds_exactly(before, node.bias):
            del nodes[before.output]
            nodes[node.output] = replace(before, output=node.output, bias=before.bias + node.bias)
        else:
            nodes[node.output] = replace(node, terms=terms)
    return Graph(graph.input, graph.input_size, tuple(nodes.values()), graph.output)


def _adds_exactly(node: Affine, shift: Vector) -> bool:
    """Whether the shift can become a part of the map's bias: no sum is rounded, and nothing is divided that was not."""
    return not shift.any() if node.divisor is not None else not ((node.bias != 0) & (shift != 0)).any()


def _is_shift(node: Affine) -> bool:
    """Whether the node only adds a constant to one tensor."""
    if node.divisor is not None or len(node.terms) != 1 or not sparse.issparse(weight := node.terms[0][1]):
        return False
    rows, columns = weight.shape
    return bool(rows == columns == weight.nnz and abs(weight - identity(rows)).sum() == 0)


def drop_dead_units(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """The graph without the nodes and single units that cannot reach its output or a tensor in ``keep``."""
    live = {name: np.ones(graph.sizes[name], dtype=bool) for name in (graph.output, *keep)}
    for node in reversed(graph.nodes):
        reached = live.get(node.output)
        if reached is None:
            continue
        for name, used in _columns_read(node, reached):
            live[name] = live[name] | used if name in live else used
    live[graph.input] = np.ones(graph.input_size, dtype=bool)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Relu) and node.output in live:
            live[node.output] = live[node.input]  # as long as its input, of which others may read more
        rows = live.get(node.output)
        if rows is None or not rows.any():
            continue
        if isinstance(node, Relu):
            nodes.append(node)
            continue
        kept = node.chosen(node.output, rows)
        terms: list[tuple[str, Matrix]] = []
        for name, weight in kept.terms:
            part = weight[:, live[name]] if name in live else None
            if part is not None and part.shape[1]:
                terms.append((name, part))
        nothing = (
            graph.input,
            sparse.csr_array((int(rows.sum()), graph.input_size)),
        )  # a constant, batched like others
        nodes.append(replace(kept, terms=tuple(terms) or (nothing,)))
    return Graph(graph.input, graph.input_size, tuple(nodes), graph.output)


def _columns_read(node: Node, rows: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    if isinstance(node, Relu):
        return [(node.input, rows)]
    return [(name, np.asarray(abs(weight[rows]).sum(axis=0) > 0).reshape(-1)) for name, weight in node.terms]
