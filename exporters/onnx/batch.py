"""A batch of fixed size in an ONNX file: the network of its first row, where rows do not mix and are all treated alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.numerics.arrays import Matrix
from veriflow.piecewise.build import fresh, select_outputs
from veriflow.piecewise.graph import Affine, Graph, Node, compose, identity
from veriflow.piecewise.simplify import drop_dead_units, join_shifts

_MOST_WORK = 2**28
"""Rows times entries of all weights, beyond which a batch stays whole."""


def first_row(graph: Graph, rows: int, inputs: Sequence[slice], outputs: Sequence[slice]) -> Graph | None:
    """The graph of the first of several rows that make up each of the slices of its input and of its output.

    Nothing is computed anew: what the first row's outputs do not need is left out, internal shapes do not matter. None
    where outputs need more than their own row, or where some row's graph is not the first one's, constant by constant.
    """
    entries = sum(len(values) for node in graph.nodes if isinstance(node, Affine) for _, _, _, values in node.entries)
    if rows * entries > _MOST_WORK:
        return None
    first = _row(graph, rows, inputs, outputs, 0)
    if first is None or any(not _equal(first, _row(graph, rows, inputs, outputs, place)) for place in range(1, rows)):
        return None
    return join_shifts(first)


def _row(graph: Graph, rows: int, inputs: Sequence[slice], outputs: Sequence[slice], place: int) -> Graph | None:
    """The graph of one row alone, None where it needs others."""
    own, chosen_outputs = (
        np.concatenate([np.arange(s.start, s.stop).reshape(rows, -1)[place] for s in slices])
        for slices in (inputs, outputs)
    )
    chosen = select_outputs(graph, [(graph.output, chosen_outputs.tolist())])
    whole = Affine(fresh("rows", graph.sizes), ((graph.input, identity(graph.input_size)),), np.zeros(graph.input_size))
    needed = drop_dead_units(compose(Graph(graph.input, graph.input_size, (whole,), whole.output), chosen))
    if any(_reads_others(node, graph.input, own) for node in needed.nodes):
        return None
    nodes = tuple(_narrowed(node, graph.input, own) for node in needed.nodes)
    return Graph(graph.input, own.size, nodes, needed.output)


def _reads_others(node: Node, name: str, own: NDArray[np.int64]) -> bool:
    """Whether a map has weights for other entries of a tensor than its own ones."""
    if not isinstance(node, Affine):
        return node.input == name
    columns = (sparse.coo_array(weight) for read, weight in node.terms if read == name)
    return any(not np.isin(matrix.col[matrix.data != 0], own).all() for matrix in columns)


def _narrowed(node: Node, name: str, own: NDArray[np.int64]) -> Node:
    """The node with columns for some entries of that tensor alone, and matrices without zeros dense."""
    if not isinstance(node, Affine):
        return node
    narrow = ((read, weight[:, own] if read == name else weight) for read, weight in node.terms)
    return replace(node, terms=tuple((read, _dense_if_full(weight)) for read, weight in narrow))


def _dense_if_full(weight: Matrix) -> Matrix:
    return weight.toarray() if sparse.issparse(weight) and weight.nnz == np.prod(weight.shape) else weight


def _equal(first: Graph, other: Graph | None) -> bool:
    """Whether two graphs are the same, names and constants."""
    if other is None or first.sizes != other.sizes or first.output != other.output:
        return False
    return all(_equal_nodes(one, two) for one, two in zip(first.nodes, other.nodes, strict=True))


def _equal_nodes(one: Node, two: Node) -> bool:
    if not isinstance(one, Affine) or not isinstance(two, Affine):
        return one == two
    if one.inputs != two.inputs or not np.array_equal(one.bias, two.bias):
        return False
    if (one.divisor is None) != (two.divisor is None):
        return False
    if one.divisor is not None and two.divisor is not None:
        sides = (one.divisor.low, two.divisor.low), (one.divisor.high, two.divisor.high)
        if not all(np.array_equal(left, right) for left, right in sides):
            return False
    return all(
        all(np.array_equal(left, right) for left, right in zip(a[1:], b[1:], strict=True))
        for a, b in zip(one.entries, two.entries, strict=True)
    )
