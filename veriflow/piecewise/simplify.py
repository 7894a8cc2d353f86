"""Smaller graphs that compute the same: units of known phase folded away, what nothing reads dropped.

No two weights are multiplied or added, so that every constant of the new graph is one of the old, a zero or a one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from .copies import fresh
from .graph import Affine, Graph, Matrix, Node, Relu, identity

Indices = NDArray[np.intp]
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
        self.sizes = {graph.input: graph.input_size}
        self.taken = set(graph.sizes)
        self.parts: dict[str, list[tuple[str, Indices]]] = {graph.input: [(graph.input, np.arange(graph.input_size))]}

    def built(self) -> Graph:
        for node in self.graph.nodes:
            if isinstance(node, Affine):
                parts = [(part, weight[:, places]) for name, weight in node.terms for part, places in self.parts[name]]
                self._add_affine(node, parts)
            else:
                self._fold(node)
        return Graph(self.graph.input, self.graph.input_size, tuple(self.nodes.values()), self.graph.output)

    def _add_affine(self, node: Affine, parts: list[tuple[str, Matrix]]) -> None:
        terms: dict[str, Matrix] = {}
        for name, weight in parts:
            # the sum of two weights would be rounded
            source = self._entries(name, np.arange(self.sizes[name])) if name in terms else name
            terms[source] = weight
        self._add(Affine(node.output, tuple(terms.items()), node.bias))
        self.parts[node.output] = [(node.output, np.arange(len(node.bias)))]

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
            terms = tuple((source, weight[chosen]) for source, weight in node.terms)
            return self._add(Affine(self._unused(name), terms, node.bias[chosen]))
        terms = ((name, identity(self.sizes[name])[chosen]),)
        return self._add(Affine(self._unused(name), terms, np.zeros(len(chosen))))

    def _unused(self, name: str) -> str:
        return fresh(f"{name}'", self.taken)

    def _add(self, node: Node) -> str:
        self.nodes[node.output] = node
        self.sizes[node.output] = self.sizes[node.input] if isinstance(node, Relu) else len(node.bias)
        self.taken.add(node.output)
        return node.output


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
        terms: list[tuple[str, Matrix]] = []
        for name, weight in node.terms:
            part = weight[rows][:, live[name]] if name in live else None
            if part is not None and part.shape[1]:
                terms.append((name, part))
        nodes.append(Affine(node.output, tuple(terms), node.bias[rows]))
    return Graph(graph.input, graph.input_size, tuple(nodes), graph.output)


def _columns_read(node: Node, rows: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    if isinstance(node, Relu):
        return [(node.input, rows)]
    return [(name, np.asarray(abs(weight[rows]).sum(axis=0) > 0).reshape(-1)) for name, weight in node.terms]
