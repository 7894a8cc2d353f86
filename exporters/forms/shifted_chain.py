"""A graph as a pure chain, affine → ReLU → affine → …, for verifiers that read no skip connection.

A tensor that later nodes still need passes a ReLU as ``relu(t + S)`` with S ≥ −min t over a box, so that the unit is
active all over the box, and S is taken off again afterwards. Nothing is multiplied out: every row of the chain is a row
of the graph, a unit row, or a unit row with ±S as its bias. Inside the box the chain therefore equals the graph in real
arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from veriflow.errors import GraphError
from veriflow.numerics.arrays import Vector
from veriflow.piecewise.bounds.crown import linear_lower_bounds, symbolic_bounds
from veriflow.piecewise.graph import Affine, Graph, Node, Relu, dense, with_rounded_quotients
from veriflow.regions.box import Box

from .chains import is_chain, relu_depths

_LARGEST_SHIFT = 2.0**100

_LEAST_SHIFT = 2.0**-20

_NOTHING: Mapping[str, Affine] = MappingProxyType({})


def shifted_chain(graph: Graph, box: Box) -> Graph:
    """A graph in which every node reads the one before it, equal to ``graph`` at every input in ``box``.

    Its ReLU units are those of the graph and, for every tensor carried past a ReLU, units that are always active in the
    box. A graph that is a chain already comes back as it is. Where the graph divides, the chain has quotients in float64.

    Raises:
        GraphError: a tensor to be carried that has no bound above −2¹⁰⁰ over the box, a map that reads a tensor twice.
    """
    needed = with_rounded_quotients(graph.ending_at(graph.output))
    return needed if is_chain(needed) else _Chain(needed, box).built()


class _Chain:
    """The chain under construction. Its last vector is the tensors in ``held`` in a row, each plus a shift."""

    def __init__(self, graph: Graph, box: Box) -> None:
        self.graph = graph
        self.box = box
        self.bounds = symbolic_bounds(graph, box)
        self.depth = relu_depths(graph)
        self.nodes: list[Node] = []
        self.held: dict[str, Vector] = {graph.input: np.zeros(graph.input_size)}

    def built(self) -> Graph:
        output, last = self.graph.output, self.depth[self.graph.output]
        for depth in range(last + 1):
            self._affine_levels(depth)
            if depth < last:
                self._relu_layer(depth + 1)
        if not self.nodes or isinstance(self.nodes[-1], Relu) or self.held[output].any():
            self._step([(output, np.zeros(self.graph.output_size))])
        return Graph(self.graph.input, self.graph.input_size, tuple(self.nodes), self._last)

    def _affine_levels(self, depth: int) -> None:
        """Compute the affine nodes that follow ReLU layer ``depth``, as many at a time as have their inputs ready."""
        waiting = [n for n in self.graph.nodes if isinstance(n, Affine) and self.depth[n.output] == depth]
        read_later = {name for n in self.graph.nodes if self.depth[n.output] > depth for name in n.inputs}
        while waiting:
            ready = {n.output: n for n in waiting if all(name in self.held for name in n.inputs)}
            read = {name for node in ready.values() for name in node.inputs}
            if any(self.held[name].any() for name in read):
                self._step([(name, shift * (name not in read)) for name, shift in self.held.items()])
            waiting = [n for n in waiting if n.output not in ready]
            wanted = read_later | {self.graph.output} | {name for n in waiting for name in n.inputs}
            after = {**self.held, **{name: np.zeros(len(node.bias)) for name, node in ready.items()}}
            self._step([(name, shift) for name, shift in after.items() if name in wanted], ready)

    def _relu_layer(self, depth: int) -> None:
        """Apply the ReLUs of one depth, and carry past them whatever an affine node or the output still needs."""
        later = [n for n in self.graph.nodes if self.depth[n.output] >= depth]
        relus = [n for n in later if isinstance(n, Relu) and self.depth[n.output] == depth]
        needed = {name for n in later if isinstance(n, Affine) for name in n.inputs} | {self.graph.output}
        carried = [
            (name, shift if shift.any() else self._shift(name)) for name, shift in self.held.items() if name in needed
        ]
        self._step([(relu.input, np.zeros(self.graph.sizes[relu.input])) for relu in relus] + carried)
        self.nodes.append(Relu(f"chain.{len(self.nodes)}", self._last))
        self.held = {relu.output: np.zeros(self.graph.sizes[relu.output]) for relu in relus} | dict(carried)

    def _shift(self, name: str) -> Vector:
        """Powers of two, at least twice −min of the tensor, so that tools with looser bounds see active units too."""
        rows = np.eye(self.graph.sizes[name])
        lower = np.maximum(self.bounds.lower[name], linear_lower_bounds(self.graph, self.box, self.bounds, name, rows))
        if not (lower > -_LARGEST_SHIFT).all():
            raise GraphError(f"expected bounds above -2^100 on a tensor to be carried; got {lower.min()} for {name!r}")
        powers = np.exp2(np.frexp(-lower)[1] + 1.0)
        return np.where(lower >= 0, 0.0, np.maximum(powers, _LEAST_SHIFT))

    @property
    def _last(self) -> str:
        return self.nodes[-1].output if self.nodes else self.graph.input

    def _step(self, rows: Sequence[tuple[str, Vector]], fresh: Mapping[str, Affine] = _NOTHING) -> None:
        """One affine map to the tensors in ``rows``, each plus its shift; the ``fresh`` ones are computed."""
        starts = dict(zip(self.held, np.cumsum([0, *map(len, self.held.values())]), strict=False))
        width = sum(map(len, self.held.values()))
        weight = np.zeros((sum(len(shift) for _, shift in rows), width))
        bias, top = np.zeros(len(weight)), 0
        for name, shift in rows:
            part = slice(top, top + len(shift))
            if name in fresh:
                if len(set(fresh[name].inputs)) < len(fresh[name].inputs):
                    raise GraphError(f"expected affine maps that read a tensor once; got {name!r}, which does not")
                for source, matrix in fresh[name].terms:
                    weight[part, starts[source] : starts[source] + self.graph.sizes[source]] = dense(matrix)
                bias[part] = fresh[name].bias
            else:
                weight[part, starts[name] : starts[name] + len(shift)] = np.eye(len(shift))
                bias[part] = shift - self.held[name]
            top += len(shift)
        node = Affine(f"chain.{len(self.nodes)}", ((self._last, weight),), bias)
        before = self.nodes[-1] if self.nodes else None
        if isinstance(before, Affine) and not fresh:
            first = before.bias[weight.argmax(axis=1)]
            if not ((first != 0) & (bias != 0)).any():  # a choice of rows, and every sum of biases has a zero: exact
                self.nodes.pop()
                ((source, matrix),) = before.terms
                node = Affine(before.output, ((source, dense(matrix)[weight.argmax(axis=1)]),), first + bias)
        self.nodes.append(node)
        self.held = dict(rows)
