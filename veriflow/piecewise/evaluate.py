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
from torch.autograd.function import FunctionCtx

from ..errors import GraphError
from .graph import Graph, Matrix, Relu


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
            for name, weight, turned, _ in node.products:
                total = total + _apply(weight, turned, values[name])
            values[node.output] = total
    return values


def _apply(weight: Matrix, turned: Matrix, x: Tensor) -> Tensor:
    if not sparse.issparse(weight):
        return x @ torch.from_numpy(turned)
    product: Tensor = _SparseProduct.apply(  # type: ignore[no-untyped-call]
        x.reshape(-1, weight.shape[1]), weight
    )
    return product.reshape(*x.shape[:-1], weight.shape[0])


class _SparseProduct(torch.autograd.Function):
    """``x @ weight.T`` for scipy's CSR: several times as fast as torch's COO, and nothing is converted."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Matrix) -> Tensor:
        ctx.weight = weight  # type: ignore[attr-defined]
        return torch.from_numpy(weight @ np.ascontiguousarray(x.detach().numpy().T)).T

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        transposed = ctx.weight.T  # type: ignore[attr-defined]
        return torch.from_numpy(transposed @ np.ascontiguousarray(gradients[0].numpy().T)).T, None


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
            top, bottom = values[name]
            scaled, scale = _integers(weight.data if sparse.issparse(weight) else weight)
            product = _row_sums(scaled * top[weight.indices], weight) if sparse.issparse(weight) else scaled @ top
            parts.append((product, scale * bottom))
        common = lcm(*(bottom for _, bottom in parts))
        values[node.output] = (sum((top * (common // bottom) for top, bottom in parts)), common)
    return {name: [Fraction(int(v), bottom) for v in top] for name, (top, bottom) in values.items()}


def _row_sums(products: NDArray[np.object_], weight: Matrix) -> NDArray[np.object_]:
    """The sum over each row of a CSR matrix, given one number for each stored entry."""
    filled = np.flatnonzero(np.diff(weight.indptr))
    sums = np.zeros(weight.shape[0], dtype=object)
    if filled.size:
        sums[filled] = np.add.reduceat(products, weight.indptr[filled])
    return sums


def _integers(array: NDArray[np.float64]) -> tuple[NDArray[np.object_], int]:
    """Integers and a power of two with ``array == integers / power`` exactly."""
    mantissas, exponents = np.frexp(array)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = np.where(whole == 0, 0, exponents.astype(np.int64) - 53)
    lowest = min(int(shifts.min(initial=0)), 0)
    integers = whole.astype(object) * (2 ** (shifts - lowest).astype(object))
    return integers, 2**-lowest
