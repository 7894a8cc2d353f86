"""Affine maps behind each other joined into one where that adds no work."""

from __future__ import annotations

import numpy as np

from veriflow.numerics.arrays import Vector
from veriflow.numerics.rounding import gamma, growth
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Affine, Graph, Node, Relu, dense


def fuse_affine(graph: Graph, bounds: Bounds) -> tuple[Graph, dict[str, Vector]]:
    """A graph whose affine maps read only the input and outputs of ReLUs, and how far its tensors may be from the given ones.

    Products of weights are taken in float64. Where a map W of n inputs reads t = M v + m, the product is off by at most
    γ_n |W| |M| (Higham, *Accuracy and Stability of Numerical Algorithms*, eq. 3.13), quotients in W by as much as three more
    terms, and what t itself is off by passes through |W|; a ReLU enlarges no difference.

    Args:
        graph: any graph.
        bounds: that hold for its tensors over a region.

    Returns:
        The graph, whose tensors have the names of the given one's, and for each of them the most that an entry differs
        by anywhere in the region ``[size]``, in real arithmetic.
    """
    fusing = _Fusing(graph, bounds)
    return fusing.built(), fusing.deviations


class _Fusing:
    """Every affine tensor as a map of the input and outputs of ReLUs."""

    def __init__(self, graph: Graph, bounds: Bounds) -> None:
        self.graph, self.bounds = graph, bounds
        self.maps: dict[str, tuple[dict[str, Vector], Vector]] = {}
        self.deviations: dict[str, Vector] = {graph.input: np.zeros(graph.input_size)}

    def built(self) -> Graph:
        read = {node.input for node in self.graph.relus} | {self.graph.output}
        nodes: list[Node] = []
        for node in self.graph.nodes:
            if isinstance(node, Relu):
                self.deviations[node.output] = self.deviations[node.input]
                nodes.append(node)
                continue
            terms, bias = self._fused(node)
            self.maps[node.output] = (terms, bias)
            if node.output in read:
                nodes.append(Affine(node.output, tuple(terms.items()), bias))
        names = {node.output for node in nodes} | {self.graph.input}
        self.deviations = {name: value for name, value in self.deviations.items() if name in names}
        return Graph(self.graph.input, self.graph.input_size, tuple(nodes), self.graph.output)

    def _fused(self, node: Affine) -> tuple[dict[str, Vector], Vector]:
        terms: dict[str, Vector] = {}
        bias, count = node.rounded.bias, len(node.terms) + 1 + node.roundings
        size, passed = np.abs(bias), np.zeros(len(bias))
        for name, weight in node.rounded.terms:
            inner, inner_bias = self.maps.get(name, ({name: None}, np.zeros(self.graph.sizes[name])))
            for source, matrix in inner.items():
                part = dense(weight if matrix is None else weight @ matrix)
                terms[source] = terms[source] + part if source in terms else part
            bias = bias + weight @ inner_bias
            size = size + abs(weight) @ self._size(name)
            passed = passed + abs(weight) @ self.deviations[name]
            count += weight.shape[1]
        computed = len(terms) < len(node.terms) or any(name in self.maps for name in node.inputs)
        if computed or node.divisor is not None:
            passed = passed + 2 * gamma(2 * count) * size
        self.deviations[node.output] = (1 + growth(count)) * passed
        return terms, bias

    def _size(self, name: str) -> Vector:
        """Σ |M| |v| + |m|, the numbers that meet in a tensor as it is computed now."""
        if name not in self.maps:
            return self._most(name)
        terms, bias = self.maps[name]
        return sum((np.abs(matrix) @ self._most(source) for source, matrix in terms.items()), np.abs(bias))

    def _most(self, name: str) -> Vector:
        return self.bounds.magnitude(name) + self.deviations[name]
