"""Graphs with further outputs: chosen coordinates of their tensors, and norms of them. No constant is changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from .graph import Affine, Graph, Matrix, Node, Relu, identity

Part = tuple[str, Sequence[int]]


def fresh_name(name: str, graph: Graph) -> str:
    """The name, with primes until the graph does not use it."""
    while name in graph.sizes:
        name += "'"
    return name


def select_outputs(graph: Graph, parts: Sequence[Part]) -> Graph:
    """The graph whose output is the listed coordinates of the named tensors, one after the other."""
    total = sum(len(columns) for _, columns in parts)
    places: dict[str, tuple[list[int], list[int]]] = {}
    start = 0
    for tensor, columns in parts:
        rows, chosen = places.setdefault(tensor, ([], []))
        rows += range(start, start + len(columns))
        chosen += columns
        start += len(columns)
    terms: list[tuple[str, Matrix]] = [
        (tensor, sparse.csr_array((np.ones(len(rows)), (rows, chosen)), shape=(total, graph.sizes[tensor])))
        for tensor, (rows, chosen) in places.items()
    ]
    name = fresh_name("outputs", graph)
    return Graph(graph.input, graph.input_size, (*graph.nodes, Affine(name, tuple(terms), np.zeros(total))), name)


def norm_nodes(graph: Graph, tensor: str, norm: float) -> list[Node]:
    """Nodes that end in the norm (1 or ∞) of a tensor: the sum, or a tournament of maxima, of ``|t| = relu(t) + relu(−t)``."""
    size = graph.sizes[tensor]
    signs, parts, last = (fresh_name(name, graph) for name in ("norm.signs", "norm.parts", "norm"))
    one = identity(size)
    both = sparse.csr_array(sparse.vstack([one, -one], format="csr"))
    nodes: list[Node] = [Affine(signs, ((tensor, both),), np.zeros(2 * size)), Relu(parts, signs)]
    if norm == 1:
        return [*nodes, Affine(last, ((parts, np.ones((1, 2 * size))),), np.zeros(1))]
    left = fresh_name("norm.magnitudes", graph)
    nodes.append(Affine(left, ((parts, sparse.csr_array(sparse.hstack([one, one], format="csr"))),), np.zeros(size)))
    while size > 1:
        left, size = _halved(nodes, left, size, graph)
    return nodes


def _halved(nodes: list[Node], left: str, size: int, graph: Graph) -> tuple[str, int]:
    """One round of the tournament: max(a, b) = b + relu(a − b) of entries i and i + half; an odd last one passes."""
    half, rest = size // 2, size - size // 2
    every = identity(size)
    ahead, gain, best = (fresh_name(f"norm.{name}.{rest}", graph) for name in ("ahead", "gain", "best"))
    nodes.append(Affine(ahead, ((left, sparse.csr_array(every[:half] - every[half : 2 * half])),), np.zeros(half)))
    nodes.append(Relu(gain, ahead))
    gains = sparse.csr_array(identity(rest)[:, :half])
    nodes.append(Affine(best, ((left, sparse.csr_array(every[half:])), (gain, gains)), np.zeros(rest)))
    return best, rest
