"""A graph with float32 constants for tools that read no others, and a proved bound on what that changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from veriflow.errors import GraphError
from veriflow.numerics.arrays import Matrix, Vector
from veriflow.numerics.rounding import ROUNDOFF, UNDERFLOW, growth
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Affine, Graph, Node, Relu, with_rounded_quotients

from .numerals import are_float32


def is_float32(graph: Graph) -> bool:
    """Whether nothing is divided and all constants are float32 numbers."""
    return with_rounded_quotients(graph) is graph and all(
        are_float32(array).all()
        for node in graph.nodes
        if isinstance(node, Affine)
        for array in (node.bias, *(w.data if sparse.issparse(w) else w for _, w in node.terms))
    )


def in_float32(graph: Graph, bounds: Bounds) -> tuple[Graph, Vector]:
    """The graph with every constant, or quotient, rounded to float32, and how far its outputs are off by that at most.

    A map ``W x + b`` that becomes ``V x' + c`` is off by at most ``|V| |x' − x| + |V − W| |x| + |c − b|``; a ReLU enlarges no
    difference.

    Args:
        graph: any graph.
        bounds: that hold for its tensors over a region; the deviation ``[outputs]`` holds there.

    Raises:
        GraphError: a constant beyond float32.
    """
    nodes: list[Node] = []
    off = {graph.input: np.zeros(graph.input_size)}
    for node in graph.nodes:
        if isinstance(node, Relu):
            nodes.append(node)
            off[node.output] = off[node.input]
            continue
        exact = node.rounded
        near = replace(
            exact, terms=tuple((name, _single(w, node)) for name, w in exact.terms), bias=_single(exact.bias, node)
        )
        change = np.abs(near.bias - exact.bias) + node.roundings * 2 * ROUNDOFF * bounds.terms(node)
        for (name, after), (_, before) in zip(near.terms, exact.terms, strict=True):
            change = change + abs(after - before) @ bounds.magnitude(name) + abs(after) @ off[name]
        nodes.append(near)
        terms = 2 + sum(2 * weight.shape[1] for _, weight in near.terms)
        off[node.output] = (1 + growth(terms)) * change + UNDERFLOW * (change > 0)
    return Graph(graph.input, graph.input_size, tuple(nodes), graph.output), off[graph.output]


def _single(array: Matrix, node: Affine) -> Matrix:
    with np.errstate(over="ignore"):
        found = array.astype(np.float32).astype(np.float64)
    if not np.isfinite(found.data if sparse.issparse(found) else found).all():
        raise GraphError(f"expected constants in the range of float32; got larger ones in {node.output!r}")
    return found
