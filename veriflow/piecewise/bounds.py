"""Sound bounds on every tensor of a graph over a region: interval and symbolic (backward, CROWN-style).

Symbolic bounds replace each unstable ReLU by two lines and carry the rows of interest back to the input, where the
region's support function (a dual norm, for a ball) ends the matter: Zhang et al., *Efficient Neural Network Robustness
Certification with General Activation Functions*, NeurIPS 2018, theorem 3.2.

Everything is float64. A product of an n-term row with a matrix is off by at most γ_n |Λ||W| with γ_n = n u / (1 − n u)
(Higham, *Accuracy and Stability of Numerical Algorithms*, eq. 3.13); that error acts on tensors whose magnitude is known,
so its effect is added up row by row and taken off the bound at the end. Bounds therefore hold in real arithmetic.

Regions may be stacked: with ends ``[batch, dim]``, all bounds get the same leading axis and are computed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from .graph import Affine, Graph, Matrix, Node, Relu, Vector

_UNIT = 2.0**-52  # twice the unit roundoff, so that the error sums need no care of their own
_TINY = 1e-290  # above all that underflow can lose


class Regions(Protocol):
    """A region of inputs, or a stack of them: ends ``[..., dim]`` and the support function."""

    @property
    def lower(self) -> Vector:
        """Least value of each coordinate, ``[..., dim]``."""

    @property
    def upper(self) -> Vector:
        """Greatest value of each coordinate, ``[..., dim]``."""

    def support(self, rows: Vector) -> Vector:
        """Upper bound on a·z over the region for each row a of ``rows`` ``[..., n, dim]``, shape ``[..., n]``."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """For every named tensor of a graph, a lower and an upper bound ``[..., size]`` that hold all over the region."""

    lower: Mapping[str, Vector]
    upper: Mapping[str, Vector]

    def magnitude(self, name: str) -> Vector:
        """max |t| of the tensor, entry by entry."""
        return np.maximum(np.abs(self.lower[name]), np.abs(self.upper[name]))

    def unstable(self, graph: Graph) -> Vector:
        """How many ReLU units of the graph may be on either side of zero, ``[...]``."""
        counts = [((self.lower[r.input] < 0) & (self.upper[r.input] > 0)).sum(axis=-1) for r in graph.relus]
        return np.sum(counts, axis=0) if counts else np.zeros(self.lower[graph.input].shape[:-1], dtype=int)


@dataclass(eq=False)
class _Backward:
    """Rows on their way back to the input: coefficients of tensors, a constant, and the rounding error so far."""

    bounds: Bounds
    coefficients: dict[str, Vector]
    constant: Vector
    error: Vector

    def add(self, name: str, part: Vector) -> None:
        """Add coefficients of a tensor; the error grows by the rounding of the sum."""
        if name in self.coefficients:
            part = self.coefficients[name] + part
            self.error = self.error + _UNIT * _dot(np.abs(part), self.bounds.magnitude(name))
        self.coefficients[name] = part

    def shift(self, constant: Vector, error: Vector) -> None:
        """Add to the constant; the error grows by what is given and by the rounding of the sum."""
        self.error = self.error + error + 2 * _UNIT * (np.abs(self.constant) + np.abs(constant))
        self.constant = self.constant + constant


def _gamma(terms: int) -> float:
    return (terms + 8) * _UNIT


def _dot(rows: Vector, vector: Vector) -> Vector:
    """``rows [..., n, m] · vector [..., m]``, shape ``[..., n]``."""
    return np.asarray((rows @ vector[..., None])[..., 0])


def _times(vectors: Vector, weight: Matrix) -> Vector:
    """``vectors [..., m] @ weight [m, k]`` for dense or sparse weights."""
    if not sparse.issparse(weight):
        return np.asarray(vectors @ weight)
    flat = vectors.reshape(-1, weight.shape[0])
    return np.asarray((weight.T @ flat.T).T).reshape(*vectors.shape[:-1], weight.shape[1])


def interval_bounds(graph: Graph, region: Regions) -> Bounds:
    """Bounds by interval arithmetic, layer by layer: the cheapest and the loosest."""
    lower, upper = {graph.input: region.lower}, {graph.input: region.upper}
    for node in graph.nodes:
        lower[node.output], upper[node.output] = _interval_step(node, lower, upper)
    return Bounds(lower, upper)


def _interval_step(node: Node, lower: Mapping[str, Vector], upper: Mapping[str, Vector]) -> tuple[Vector, Vector]:
    if isinstance(node, Relu):
        return np.maximum(lower[node.input], 0.0), np.maximum(upper[node.input], 0.0)
    low, high, size, terms = node.bias, node.bias, np.abs(node.bias), 1
    for name, weight in node.terms:
        middle, radius = (lower[name] + upper[name]) / 2, (upper[name] - lower[name]) / 2
        centre, spread = _times(middle, weight.T), _times(radius, abs(weight).T)
        low, high = low + centre - spread, high + centre + spread
        size = size + 2 * _times(np.maximum(np.abs(lower[name]), np.abs(upper[name])), abs(weight).T)
        terms += 2 * weight.shape[1]
    error = _gamma(terms) * size + _TINY
    return low - error, high + error


def symbolic_bounds(graph: Graph, region: Regions) -> Bounds:
    """Bounds by backward substitution for the input of every ReLU and for the output, intervals in between.

    Each bound is the better one of the symbolic and the interval bound. Cost: one backward pass for each ReLU layer.
    """
    lower, upper = {graph.input: region.lower}, {graph.input: region.upper}
    wanted = {relu.input for relu in graph.relus} | {graph.output}
    for node in graph.nodes:
        low, high = _interval_step(node, lower, upper)
        lower[node.output], upper[node.output] = low, high
        if node.output in wanted and isinstance(node, Affine):
            so_far = Bounds(lower, upper)
            rows = np.eye(len(node.bias))
            both = linear_lower_bounds(graph, region, so_far, node.output, np.vstack([rows, -rows]))
            lower[node.output] = np.maximum(low, both[..., : len(rows)])
            upper[node.output] = np.minimum(high, -both[..., len(rows) :])
    return Bounds(lower, upper)


def linear_lower_bounds(graph: Graph, region: Regions, bounds: Bounds, tensor: str, rows: Vector) -> Vector:
    """Lower bounds on ``rows @ tensor`` over the region, shape ``[..., n]`` for rows ``[n, size of tensor]``.

    ``bounds`` must hold for every tensor that ``tensor`` depends on, as those of `symbolic_bounds` do.
    """
    return backward_rows(graph, region, bounds, tensor, rows)[0]


def backward_rows(graph: Graph, region: Regions, bounds: Bounds, tensor: str, rows: Vector) -> tuple[Vector, Vector]:
    """`linear_lower_bounds` together with the coefficients of the input ``[..., n, dim]`` that it ended with."""
    batch = region.lower.shape[:-1]
    shape = (*batch, len(rows))
    rows = np.broadcast_to(np.asarray(rows, dtype=np.float64), (*batch, *np.shape(rows)))
    state = _Backward(bounds, {tensor: rows}, np.zeros(shape), np.full(shape, _TINY))
    for node in reversed(graph.nodes):
        reached = state.coefficients.pop(node.output, None)
        if reached is None:
            continue
        if isinstance(node, Affine):
            _through_affine(node, reached, state)
        else:
            _through_relu(node, reached, state)
    last = state.coefficients.get(graph.input, np.zeros((*shape, graph.input_size)))
    reach = region.support(-last)
    size = _dot(np.abs(last), bounds.magnitude(graph.input))
    state.shift(-reach, _gamma(graph.input_size + 2) * size + 4 * _UNIT * np.abs(reach))
    return state.constant - state.error, last


def _through_affine(node: Affine, rows: Vector, state: _Backward) -> None:
    size, gamma = np.abs(rows), _gamma(len(node.bias))
    state.shift(rows @ node.bias, gamma * (size @ np.abs(node.bias)))
    for name, weight in node.terms:
        effect = _times(state.bounds.magnitude(name), abs(weight).T)
        state.error = state.error + gamma * _dot(size, effect)
        state.add(name, _times(rows, weight))


def _through_relu(node: Relu, rows: Vector, state: _Backward) -> None:
    """Each unit between ``below·x`` and ``slope·x + offset`` on [l, u]; both lines hold exactly for the float slopes."""
    low, high = state.bounds.lower[node.input], state.bounds.upper[node.input]
    on = low >= 0
    unstable = ~on & (high > 0)
    below = np.where(on | (unstable & (high > -low)), 1.0, 0.0)
    width = np.where(unstable, high - low, 1.0)
    slope = np.where(unstable, np.clip(high / width, 0.0, 1.0), below)
    # the least offset for which slope·x + offset ≥ relu(x) at both ends, then rounded up
    offset = np.where(unstable, np.maximum(-slope * low, high - slope * high), 0.0)
    offset = offset + np.where(unstable, 4 * _UNIT * (np.abs(low) + np.abs(high)), 0.0)
    positive, negative = np.maximum(rows, 0), np.minimum(rows, 0)
    part = positive * below[..., None, :] + negative * slope[..., None, :]
    state.shift(_dot(negative, offset), _gamma(offset.shape[-1]) * _dot(-negative, offset))
    state.error = state.error + _UNIT * _dot(np.abs(part), state.bounds.magnitude(node.input))
    state.add(node.input, part)
