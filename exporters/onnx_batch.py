"""A batch of fixed size in an ONNX file: the network of its first row, where rows do not mix and are all treated alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from veriflow.piecewise import drop_dead_units, evaluate, join_shifts
from veriflow.piecewise.copies import fresh, select_outputs
from veriflow.piecewise.graph import Affine, Graph, Matrix, Node, compose, identity


def first_row(graph: Graph, rows: int, outputs: list[slice]) -> Graph | None:
    """The graph of the first of several rows that make up its input, and each of the slices of its output.

    Nothing is computed anew: what the first row's outputs do not need is left out, internal shapes do not matter. None
    where they need other rows, or where other rows' outputs are other functions (at random points).
    """
    first = [range(place.start, place.start + (place.stop - place.start) // rows) for place in outputs]
    copy = fresh("rows", graph.sizes)
    whole = Affine(copy, ((graph.input, identity(graph.input_size)),), np.zeros(graph.input_size))
    reader = Graph(graph.input, graph.input_size, (whole,), copy)
    chosen = select_outputs(graph, [(graph.output, list(place)) for place in first])
    needed = drop_dead_units(compose(reader, chosen))
    width = graph.input_size // rows
    if any(_reads_beyond(node, graph.input, width) for node in needed.nodes):
        return None
    nodes = tuple(_narrowed(node, graph.input, width) for node in needed.nodes)
    row = join_shifts(Graph(graph.input, width, nodes, needed.output))
    return row if _alike(graph, row, rows, outputs) else None


def _reads_beyond(node: Node, name: str, width: int) -> bool:
    """Whether a map has weights for entries of a tensor from ``width`` on."""
    if not isinstance(node, Affine):
        return node.input == name
    return any(read == name and sparse.csr_array(weight)[:, width:].count_nonzero() for read, weight in node.terms)


def _narrowed(node: Node, name: str, width: int) -> Node:
    """The node with columns for the first entries of that tensor alone, and matrices without zeros dense."""
    if not isinstance(node, Affine):
        return node
    narrow = ((read, weight[:, :width] if read == name else weight) for read, weight in node.terms)
    return replace(node, terms=tuple((read, _dense_if_full(weight)) for read, weight in narrow))


def _dense_if_full(weight: Matrix) -> Matrix:
    return weight.toarray() if sparse.issparse(weight) and weight.nnz == np.prod(weight.shape) else weight


def _alike(graph: Graph, row: Graph, rows: int, outputs: list[slice]) -> bool:
    """Whether every row's outputs are those of the first row's graph, at random points."""
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((8, rows, row.input_size)))
    together = evaluate(graph, points.reshape(8, -1))[graph.output].numpy()
    each = evaluate(row, points)[row.output].numpy()
    start = 0
    for place in outputs:
        size = (place.stop - place.start) // rows
        if not np.allclose(
            together[:, place].reshape(8, rows, size), each[..., start : start + size], rtol=1e-9, atol=1e-9
        ):
            return False
        start += size
    return True
