"""A graph as a pure chain that equals it everywhere: a tensor passes a ReLU as ``relu(t) − relu(−t)``.

The units that carry a tensor are unstable wherever it takes both signs, which costs verifiers much; `shifted_chain` has
stable ones but is right inside a box only. Nothing is multiplied out: every number of the chain is one of the graph, its
negative, 0 or ±1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriflow.errors import GraphError
from veriflow.numerics.arrays import Vector
from veriflow.piecewise.graph import Affine, Graph, Node, Relu, dense, with_rounded_quotients

from .chains import is_chain, relu_depths


def paired_chain(graph: Graph) -> Graph:
    """A graph in which every node reads the one before it, equal to ``graph`` at every input; a chain comes back as it is.

    Where the graph divides, the chain has quotients in float64.

    Raises:
        GraphError: a map that reads a tensor twice.
    """
    needed = with_rounded_quotients(graph.ending_at(graph.output))
    return needed if is_chain(needed) else _Chain(needed).built()


@dataclass(frozen=True)
class _Row:
    """A tensor of the next vector: a stored one, its negative, or a fresh affine map of stored ones."""

    name: str
    sign: float = 1.0
    fresh: Affine | None = None


class _Chain:
    """The chain under construction. Its last vector holds tensors in a row, each as itself or as two parts, t = a − b."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.depth = relu_depths(graph)
        self.nodes: list[Node] = []
        self.held: dict[str, bool] = {graph.input: False}  # tensor → whether it is in two parts

    def built(self) -> Graph:
        last = self.depth[self.graph.output]
        for depth in range(last + 1):
            self._affine_levels(depth)
            if depth < last:
                self._relu_layer(depth + 1)
        output = self.graph.output
        if not self.nodes or isinstance(self.nodes[-1], Relu) or list(self.held) != [output]:
            self._step([_Row(output)])
        return Graph(self.graph.input, self.graph.input_size, tuple(self.nodes), self._last)

    @property
    def _last(self) -> str:
        return self.nodes[-1].output if self.nodes else self.graph.input

    def _affine_levels(self, depth: int) -> None:
        waiting = [n for n in self.graph.nodes if isinstance(n, Affine) and self.depth[n.output] == depth]
        read_later = {name for n in self.graph.nodes if self.depth[n.output] > depth for name in n.inputs}
        while waiting:
            ready = {n.output: n for n in waiting if all(name in self.held for name in n.inputs)}
            waiting = [n for n in waiting if n.output not in ready]
            wanted = read_later | {self.graph.output} | {name for n in waiting for name in n.inputs}
            rows = [_Row(name) for name in self.held if name in wanted]
            self._step([*rows, *(_Row(name, fresh=node) for name, node in ready.items() if name in wanted)])

    def _relu_layer(self, depth: int) -> None:
        later = [n for n in self.graph.nodes if self.depth[n.output] >= depth]
        relus = [n for n in later if isinstance(n, Relu) and self.depth[n.output] == depth]
        needed = {name for n in later if isinstance(n, Affine) for name in n.inputs} | {self.graph.output}
        carried = [name for name in self.held if name in needed]
        both = [row for name in carried for row in (_Row(name), _Row(name, -1.0))]
        self._step([*(_Row(relu.input) for relu in relus), *both])
        self.nodes.append(Relu(f"pair.{len(self.nodes)}", self._last))
        self.held = {relu.output: False for relu in relus} | dict.fromkeys(carried, True)

    def _step(self, rows: Sequence[_Row]) -> None:
        """One affine map from the last vector to the tensors in ``rows``; without fresh ones it joins the one before."""
        columns = self._columns()
        parts = [self._part(row, columns) for row in rows]
        weight, bias = np.vstack([w for w, _ in parts]), np.concatenate([b for _, b in parts])
        before = self.nodes[-1] if self.nodes else None
        if isinstance(before, Affine) and all(row.fresh is None for row in rows):
            places = np.abs(weight).argmax(axis=1)
            signs = weight[np.arange(len(weight)), places]
            ((source, matrix),) = before.terms
            self.nodes[-1] = Affine(
                before.output, ((source, signs[:, None] * dense(matrix)[places]),), signs * before.bias[places]
            )
        else:
            self.nodes.append(Affine(f"pair.{len(self.nodes)}", ((self._last, weight),), bias))
        self.held = {row.name: False for row in rows}

    def _columns(self) -> dict[str, Vector]:
        """For every stored tensor the matrix ``[size, width]`` that reads it from the last vector."""
        sizes = {name: self.graph.sizes[name] for name in self.held}
        width = sum(sizes[name] * (2 if paired else 1) for name, paired in self.held.items())
        found, start = {}, 0
        for name, paired in self.held.items():
            matrix = np.zeros((sizes[name], width))
            for sign in (1.0, -1.0)[: 2 if paired else 1]:
                matrix[:, start : start + sizes[name]] = sign * np.eye(sizes[name])
                start += sizes[name]
            found[name] = matrix
        return found

    def _part(self, row: _Row, columns: Mapping[str, Vector]) -> tuple[Vector, Vector]:
        if row.fresh is None:
            matrix = columns[row.name]
            return row.sign * matrix, np.zeros(len(matrix))
        if len(set(row.fresh.inputs)) < len(row.fresh.inputs):
            raise GraphError(f"expected affine maps that read a tensor once; got {row.name!r}, which does not")
        size = len(row.fresh.bias)
        width = next(iter(columns.values())).shape[1]
        terms = [dense(weight) @ columns[name] for name, weight in row.fresh.terms]
        return sum(terms, np.zeros((size, width))), row.fresh.bias
