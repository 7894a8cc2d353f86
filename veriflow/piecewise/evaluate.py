"""What a graph computes: in float64 with torch, batched and differentiable, and in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ..errors import GraphError
from ..numerics.arrays import Matrix
from ..runtime.deadline import check_deadline
from .graph import Affine, Divisor, Graph, Relu

Integers: TypeAlias = NDArray[np.object_]

BLOCK = 1 << 18
"""Entries of a weight that are made integers at a time."""

_Enclosure: TypeAlias = tuple[dict[str, list[Fraction]], dict[str, list[Fraction]]]
_POINTS_KEPT = 8
_ENCLOSED: WeakKeyDictionary[Graph, dict[tuple[Fraction, ...], _Enclosure]] = WeakKeyDictionary()
"""What was found at the last points of each graph; its dictionaries are never changed, as other threads may read them."""


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
            total = torch.from_numpy(node.rounded.bias)
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

    Where the graph divides by roots, values are the lower ends of `enclose_exact`: what is to be proved needs both.

    Raises:
        GraphError: a point of another length.
    """
    return enclose_exact(graph, point)[0]


def enclose_exact(graph: Graph, point: Sequence[Fraction]) -> _Enclosure:
    """The least and the greatest value that every entry of every tensor may have at one rational point.

    Both are the same where no root is divided by. All entries of a tensor share a denominator, so that the work is
    products of integers; behind a root, ends are rounded outward to `_KEPT` bits, so that denominators stay small.

    A point that is asked for again soon, as a witness is, is not evaluated again.

    Raises:
        GraphError: a point of another length.
    """
    if len(point) != graph.input_size:
        raise GraphError(f"expected a point of {graph.input_size} entries; got {len(point)}")
    check_deadline()
    known, key = _ENCLOSED.get(graph, {}), tuple(point)
    found = known.get(key)
    if found is None:
        found = _enclosed(graph, key)
        _ENCLOSED[graph] = dict([*known.items(), (key, found)][-_POINTS_KEPT:])
    low, high = found
    copied = _copied(low)
    return copied, copied if high is low else _copied(high)


def _copied(values: Mapping[str, list[Fraction]]) -> dict[str, list[Fraction]]:
    return {name: list(tensor) for name, tensor in values.items()}


def _enclosed(graph: Graph, point: tuple[Fraction, ...]) -> _Enclosure:
    values = {graph.input: _Ends.of(point)}
    for node in graph.nodes:
        if isinstance(node, Relu):
            values[node.output] = values[node.input].relu()
        else:
            values[node.output] = _affine(node, values)
    low = {name: ends.fractions(ends.low) for name, ends in values.items()}
    if all(ends.high is ends.low for ends in values.values()):
        return low, low
    return low, {name: ends.fractions(ends.high) for name, ends in values.items()}


_KEPT = 256


@dataclass(frozen=True, eq=False)
class _Ends:
    """Least and greatest values as integers over one denominator; one array for both where they are the same."""

    low: Integers
    high: Integers
    bottom: int

    @classmethod
    def of(cls, point: Sequence[Fraction]) -> _Ends:
        shared = lcm(*(value.denominator for value in point)) if point else 1
        top = np.array([value.numerator * (shared // value.denominator) for value in point], dtype=object)
        return cls(top, top, shared)

    def fractions(self, top: Integers) -> list[Fraction]:
        return [Fraction(int(v), self.bottom) for v in top]

    def relu(self) -> _Ends:
        low = np.maximum(self.low, 0)
        return _Ends(low, low if self.high is self.low else np.maximum(self.high, 0), self.bottom)

    def times(self, weight: Matrix) -> _Ends:
        """The product, some rows at a time: its integers are large."""
        step = max(1, BLOCK // max(weight.shape[1], 1))
        if weight.shape[0] <= step:
            check_deadline()
            return self._times(weight)
        parts = [self.times(weight[start : start + step]) for start in range(0, weight.shape[0], step)]
        common = max(part.bottom for part in parts)  # each is a power of two times the same number
        low = np.concatenate([part.low * (common // part.bottom) for part in parts])
        if self.high is self.low:
            return _Ends(low, low, common)
        return _Ends(low, np.concatenate([part.high * (common // part.bottom) for part in parts]), common)

    def _times(self, weight: Matrix) -> _Ends:
        scaled, scale = _integers(weight.data if sparse.issparse(weight) else weight)
        if self.high is self.low:
            low = high = _product(scaled, weight, self.low)
        else:
            positive, negative = np.maximum(scaled, 0), np.minimum(scaled, 0)
            low = _product(positive, weight, self.low) + _product(negative, weight, self.high)
            high = _product(positive, weight, self.high) + _product(negative, weight, self.low)
        return _Ends(low, high, scale * self.bottom)

    def over(self, divisor: Divisor) -> _Ends:
        (least, scale), (most, other) = _integers(divisor.low), _integers(divisor.high)
        common = max(scale, other)  # both are powers of two
        least, most = least * (common // scale), most * (common // other)
        if divisor.is_exact:
            shared = lcm(*map(int, least))
            factors = common * (shared // least)
            low = self.low * factors
            return _Ends(low, low if self.high is self.low else self.high * factors, self.bottom * shared)
        sizes = [abs(int(v)).bit_length() for v in (*self.low, *self.high) if v]
        bits = _KEPT + max(0, self.bottom.bit_length() - min(sizes, default=0)) + max(int(v).bit_length() for v in most)
        low, high = self.low * common << bits, self.high * common << bits
        low = low // (self.bottom * np.where(low < 0, least, most))
        high = -(-high // (self.bottom * np.where(high < 0, most, least)))
        return _Ends(low, high, 1 << bits)


def _affine(node: Affine, values: Mapping[str, _Ends]) -> _Ends:
    bias, scale = _integers(node.bias)
    parts = [_Ends(bias, bias, scale), *(values[name].times(weight) for name, weight in node.terms)]
    common = lcm(*(part.bottom for part in parts))
    low = high = sum(part.low * (common // part.bottom) for part in parts)
    if any(part.high is not part.low for part in parts):
        high = sum(part.high * (common // part.bottom) for part in parts)
    total = _Ends(low, high, common)
    return total if node.divisor is None else total.over(node.divisor)


def _product(scaled: Integers, weight: Matrix, top: Integers) -> Integers:
    return _row_sums(scaled * top[weight.indices], weight) if sparse.issparse(weight) else scaled @ top


def _row_sums(products: Integers, weight: Matrix) -> Integers:
    """The sum over each row of a CSR matrix, given one number for each stored entry."""
    filled = np.flatnonzero(np.diff(weight.indptr))
    sums = np.zeros(weight.shape[0], dtype=object)
    if filled.size:
        sums[filled] = np.add.reduceat(products, weight.indptr[filled])
    return sums


def _integers(array: NDArray[np.float64]) -> tuple[Integers, int]:
    """Integers and a power of two with ``array == integers / power`` exactly."""
    mantissas, exponents = np.frexp(array)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = np.where(whole == 0, 0, exponents.astype(np.int64) - 53)
    lowest = min(int(shifts.min(initial=0)), 0)
    integers = whole.astype(object) * (2 ** (shifts - lowest).astype(object))
    return integers, 2**-lowest


def nearest_floats(values: Iterable[Fraction]) -> tuple[float, ...]:
    """Each number rounded once to float64; infinite where it is beyond the largest one."""
    return tuple(_nearest_float(value) for value in values)


def _nearest_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
