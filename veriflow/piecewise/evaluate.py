"""What a graph computes: in float64 with torch, batched and differentiable, and in exact rationals."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ..errors import GraphError
from .graph import Graph, Matrix, Relu, dense

_SMALL = 2**16
"""Entries of a sparse matrix up to which torch is faster with a dense one."""


def evaluate(graph: Graph, inputs: Tensor) -> dict[str, Tensor]:
    """Every named tensor of the graph at ``inputs`` ``[..., input_size]``, in float64; gradients flow to the inputs.

    Raises:
        GraphError: inputs of another length.
    """
    if inputs.shape[-1] != graph.input_size:
        raise GraphError(f"expected inputs of {graph.input_size} entries; got shape {tuple(inputs.shape)}")
    values = {graph.input: inputs.double()}
    for node in graph.nodes:
        if isinstance(node, Relu):
            values[node.output] = values[node.input].relu()
        else:
            total = torch.from_numpy(node.bias)
            for name, weight in node.terms:
                total = total + _apply(weight, values[name])
            values[node.output] = total
    return values


def _apply(weight: Matrix, x: Tensor) -> Tensor:
    rows, columns = weight.shape
    if not sparse.issparse(weight) or rows * columns <= _SMALL:
        return x @ torch.from_numpy(dense(weight)).T
    flat = x.reshape(-1, columns)
    coo = weight.tocoo()
    index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    matrix = torch.sparse_coo_tensor(index, torch.from_numpy(coo.data), (rows, columns), check_invariants=False)
    product: Tensor = torch.sparse.mm(matrix, flat.T)
    return product.T.reshape(*x.shape[:-1], rows)


def evaluate_exact(graph: Graph, point: Sequence[Fraction]) -> dict[str, list[Fraction]]:
    """Every named tensor of the graph at one rational point, without any rounding.

    All entries of a tensor share a denominator, so that the work is products of integers.

    Raises:
        GraphError: a point of another length.
    """
    if len(point) != graph.input_size:
        raise GraphError(f"expected a point of {graph.input_size} entries; got {len(point)}")
    shared = lcm(*(value.denominator for value in point)) if point else 1
    numerators = np.array([value.numerator * (shared // value.denominator) for value in point], dtype=object)
    values: dict[str, tuple[NDArray[np.object_], int]] = {graph.input: (numerators, shared)}
    for node in graph.nodes:
        if isinstance(node, Relu):
            top, bottom = values[node.input]
            values[node.output] = (np.maximum(top, 0), bottom)
            continue
        parts = [_integers(node.bias)]
        for name, weight in node.terms:
            scaled, scale = _integers(dense(weight))
            top, bottom = values[name]
            parts.append((scaled @ top, scale * bottom))
        common = lcm(*(bottom for _, bottom in parts))
        values[node.output] = (sum((top * (common // bottom) for top, bottom in parts)), common)
    return {name: [Fraction(int(v), bottom) for v in top] for name, (top, bottom) in values.items()}


def _integers(array: NDArray[np.float64]) -> tuple[NDArray[np.object_], int]:
    """Integers and a power of two with ``array == integers / power`` exactly."""
    mantissas, exponents = np.frexp(array)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = np.where(whole == 0, 0, exponents.astype(np.int64) - 53)
    lowest = min(int(shifts.min(initial=0)), 0)
    integers = whole.astype(object) * (2 ** (shifts - lowest).astype(object))
    return integers, 2**-lowest
