"""Smaller graphs that compute the same: affine maps fused, units that nothing reads dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
from scipy import sparse

from .graph import Affine, Graph, Matrix, Node, Relu, Vector, dense, identity


def fuse_affine(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """A graph in which affine maps read only the input, ReLU outputs and the tensors in ``keep``.

    Products of weights are taken in float64, so a fused graph equals the given one up to rounding. Use it before the
    constants are rounded for good, or where the consumer has a tolerance.
    """
    expressions: dict[str, tuple[dict[str, Vector], Vector]] = {}
    nodes: list[Node] = []
    read = {node.input for node in graph.relus} | {graph.output, *keep}
    for node in graph.nodes:
        if isinstance(node, Relu):
            nodes.append(node)
            continue
        terms: dict[str, Vector] = {}
        bias = node.bias.copy()
        for name, weight in node.terms:
            if name in expressions and name not in keep:
                inner, inner_bias = expressions[name]
                bias += weight @ inner_bias
                for source, matrix in inner.items():
                    _add(terms, source, weight @ matrix)
            else:
                _add(terms, name, dense(weight))
        expressions[node.output] = (terms, bias)
        if node.output in read:
            nodes.append(Affine(node.output, tuple(terms.items()), bias))
    return Graph(graph.input, graph.input_size, tuple(nodes), graph.output)


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
            nodes[node.output] = Affine(node.output, terms, node.bias)
            continue
        before = nodes.get(terms[0][0])
        if node.output != graph.output and not node.bias.any():
            source[node.output] = terms[0][0]
            readers[terms[0][0]] += readers[node.output] - 1
        elif isinstance(before, Affine) and readers[before.output] == 1 and not (before.bias * node.bias).any():
            del nodes[before.output]
            nodes[node.output] = Affine(node.output, before.terms, before.bias + node.bias)
        else:
            nodes[node.output] = Affine(node.output, terms, node.bias)
    return Graph(graph.input, graph.input_size, tuple(nodes.values()), graph.output)


def _is_shift(node: Affine) -> bool:
    """Whether the node only adds a constant to one tensor."""
    if len(node.terms) != 1 or not sparse.issparse(weight := node.terms[0][1]):
        return False
    rows, columns = weight.shape
    return bool(rows == columns == weight.nnz and abs(weight - identity(rows)).sum() == 0)


def _add(terms: dict[str, Vector], name: str, weight: Vector) -> None:
    terms[name] = terms[name] + weight if name in terms else weight


def drop_dead_units(graph: Graph) -> Graph:
    """The graph without the nodes and single units that cannot reach its output. No constant changes."""
    live: dict[str, np.ndarray] = {graph.output: np.ones(graph.output_size, dtype=bool)}
    for node in reversed(graph.nodes):
        reached = live.get(node.output)
        if reached is None:
            continue
        for name, used in _columns_read(node, reached):
            live[name] = live[name] | used if name in live else used
    live[graph.input] = np.ones(graph.input_size, dtype=bool)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.output not in live:
            continue
        if isinstance(node, Relu):
            nodes.append(node)
            continue
        rows = live[node.output]
        terms: list[tuple[str, Matrix]] = []
        for name, weight in node.terms:
            part = weight[rows][:, live[name]] if name in live else None
            if part is not None and part.shape[1]:
                terms.append((name, part))
        nodes.append(Affine(node.output, tuple(terms), node.bias[rows]))
    return Graph(graph.input, graph.input_size, tuple(nodes), graph.output).ending_at(graph.output)


def _columns_read(node: Node, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if isinstance(node, Relu):
        return [(node.input, rows)]
    return [(name, np.asarray(abs(weight[rows]).sum(axis=0) > 0).reshape(-1)) for name, weight in node.terms]
