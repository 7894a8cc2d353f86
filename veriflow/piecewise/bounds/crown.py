"""Sound bounds on every tensor of a graph over a region: interval and symbolic (backward, CROWN-style).

Symbolic bounds replace each unstable ReLU by two lines and carry the rows of interest back to the input, where the
region's support function (a dual norm, for a ball) ends the matter: Zhang et al., *Efficient Neural Network Robustness
Certification with General Activation Functions*, NeurIPS 2018, theorem 3.2.

Over a region with few vertices (an L1 ball above all) a ReLU needs no upper line. Where every unit with a coefficient
below zero is kept as the ReLU of a convex function above its input, and every other one is replaced by a line below it,
what bounds the rows from below is a concave function of the input, and takes its least value at a vertex.
Where points of the region are means of such points in which each has a small share only, as in a trimmed L1 ball, a concave
function is at least the mean of its values at the worst ones.

Everything is float64. A product of an n-term row with a matrix is off by at most γ_n |Λ||W| with γ_n = n u / (1 − n u)
(Higham, *Accuracy and Stability of Numerical Algorithms*, eq. 3.13); that error acts on tensors whose magnitude is known,
so its effect is added up row by row and taken off the bound at the end. Where a map divides, W holds quotients that are off
by up to 3u of their size (`Affine.rounded`); this changes a product by at most 3u |Λ||W|, and is counted as three more
terms. Bounds therefore hold in real arithmetic.

Regions may be stacked: with ends ``[batch, dim]``, all bounds get the same leading axis and are computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...errors import GraphError
from ...numerics.arrays import Vector
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, Relu
from .interval import interval_step
from .rounding import LARGEST, TINY, UNIT, dot, rounding_share, times
from .tensor_bounds import Bounds, LinearBounds, Regions, Relaxation

BLOCK = 1 << 24
"""Numbers that a backward pass may carry at once, so that wide layers do not fill the memory."""


@dataclass(eq=False)
class _Backward:
    """Rows on their way back to the input: coefficients of tensors, a constant, and the rounding error so far."""

    bounds: Bounds
    relaxation: Relaxation | None
    coefficients: dict[str, Vector]
    constant: Vector
    error: Vector
    relus: int
    at_vertices: Vector | None = None
    lines: dict[str, tuple[Vector, Vector]] = field(default_factory=dict)

    def add(self, name: str, part: Vector) -> None:
        """Add coefficients of a tensor; the error grows by the rounding of a sum and of what is summed."""
        if name in self.coefficients:
            size = np.abs(part) + np.abs(self.coefficients[name])
            self.error = self.error + self.gamma(0) * dot(size, self.bounds.magnitude(name))
            part = self.coefficients[name] + part
        self.coefficients[name] = part

    def gamma(self, terms: int) -> float:
        """Relative error of a product of so many terms, with coefficients that were rounded twice at each ReLU before."""
        return rounding_share(terms + 2 * self.relus)

    def shift(self, constant: Vector, error: Vector) -> None:
        """Add to the constant; the error grows by what is given and by the rounding of the sum."""
        self.error = self.error + error + 2 * UNIT * (np.abs(self.constant) + np.abs(constant))
        self.constant = self.constant + constant


def symbolic_bounds(
    graph: Graph,
    region: Regions,
    relaxations: Mapping[str, Relaxation] | None = None,
    within: Bounds | None = None,
) -> Bounds:
    """Bounds by backward substitution for the input of every ReLU and for the output, intervals in between.

    Each bound is the better one of the symbolic and the interval bound. Cost: one backward pass for each ReLU layer.

    Args:
        graph: whose tensors are bounded.
        region: of its inputs.
        relaxations: those of the rows ``[I; −I]`` of each of these tensors, where they have been chosen with care.
        within: bounds that hold over the region, such as those over a region around it. They are taken over, and only
            ReLU units that they leave unstable are looked at again; the output then gets what intervals give.

    Raises:
        GraphError: a tensor that may be larger than `LARGEST`.
    """
    lower, upper = {graph.input: region.lower}, {graph.input: region.upper}
    convex: dict[str, Vector] = {}
    slopes: dict[str, Vector] = {}
    relu_inputs = {relu.input for relu in graph.relus}
    # what it derives from a tensor's bounds, and keeps, is asked for when these are final
    so_far = Bounds(lower, upper, convex, slopes)
    _check_sizes(so_far, graph.input)
    for node in graph.nodes:
        low, high = interval_step(node, so_far)
        if within is not None and node.output in within.lower:
            low, high = np.maximum(low, within.lower[node.output]), np.minimum(high, within.upper[node.output])
        lower[node.output], upper[node.output] = low, high
        if not isinstance(node, Affine):
            continue
        if within is not None:
            if node.output in relu_inputs:
                slopes[node.output] = _tighten_unstable(graph, region, so_far, node.output)
        elif node.output in relu_inputs | {graph.output}:
            least, most, peaks = _entry_bounds(graph, region, so_far, node.output, (relaxations or {}).get(node.output))
            # coefficients may leave the floats where tensors do not: NaN is no bound
            lower[node.output], upper[node.output] = np.fmax(low, least), np.fmin(high, most)
            if peaks is not None and node.output in relu_inputs:
                convex[node.output] = peaks
        _check_sizes(so_far, node.output)
    return so_far


def _entry_bounds(
    graph: Graph, region: Regions, bounds: Bounds, tensor: str, relaxation: Relaxation | None
) -> tuple[Vector, Vector, Vector | None]:
    """Bounds on every entry of a tensor, and values at vertices of the convex functions above, some entries at a time."""
    size = bounds.lower[tensor].shape[-1]
    widest, batch = max(graph.sizes.values()), math.prod(region.lower.shape[:-1])
    step = max(1, BLOCK // (2 * widest * max(batch, 1)))
    least, most, peaks = [], [], []
    for start in range(0, size, step):
        places = np.arange(start, min(start + step, size))
        rows = np.zeros((2 * len(places), size))
        rows[np.arange(len(places)), places], rows[np.arange(len(places), 2 * len(places)), places] = 1.0, -1.0
        chosen = relaxation and relaxation.of_rows(np.concatenate([places, size + places]))
        both = backward_rows(graph, region, bounds, tensor, rows, chosen)
        least.append(both.lower[..., : len(places)])
        most.append(-both.lower[..., len(places) :])
        if both.at_vertices is not None:
            peaks.append(-both.at_vertices[..., len(places) :, :])
    joined = np.concatenate(peaks, axis=-2) if peaks else None
    return np.concatenate(least, axis=-1), np.concatenate(most, axis=-1), joined


def _check_sizes(bounds: Bounds, name: str) -> None:
    if not ((bounds.lower[name] >= -LARGEST) & (bounds.upper[name] <= LARGEST)).all():
        raise GraphError(f"expected tensors of sizes up to {LARGEST:g}; got {name!r}, which may be larger")


def _tighten_unstable(graph: Graph, region: Regions, bounds: Bounds, tensor: str) -> Vector:
    """Symbolic bounds for the entries of a tensor that may be on either side of zero, written into its bounds.

    Returns `Bounds.slopes`.
    """
    low, high = bounds.lower[tensor], bounds.upper[tensor]
    unstable = (low < 0) & (high > 0)
    count = int(unstable.sum(axis=-1).max())
    slopes = np.zeros((*low.shape, graph.input_size))
    if not count:
        return slopes
    places = np.argsort(~unstable, axis=-1, kind="stable")[..., :count]
    rows = np.zeros((*low.shape[:-1], 2 * count, low.shape[-1]))
    np.put_along_axis(rows[..., :count, :], places[..., None], 1.0, axis=-1)
    np.put_along_axis(rows[..., count:, :], places[..., None], -1.0, axis=-1)
    found = backward_rows(graph, region, bounds, tensor, rows)
    least = np.fmax(np.take_along_axis(low, places, -1), found.lower[..., :count])
    most = np.fmin(np.take_along_axis(high, places, -1), -found.lower[..., count:])
    np.put_along_axis(low, places, least, axis=-1)
    np.put_along_axis(high, places, most, axis=-1)
    steepness = np.abs(found.coefficients)
    np.put_along_axis(slopes, places[..., None], (steepness[..., :count, :] + steepness[..., count:, :]) / 2, axis=-2)
    return slopes


def linear_lower_bounds(graph: Graph, region: Regions, bounds: Bounds, tensor: str, rows: Vector) -> Vector:
    """Lower bounds on ``rows @ tensor`` over the region, shape ``[..., n]`` for rows ``[n, size of tensor]``.

    ``bounds`` must hold for every tensor that ``tensor`` depends on, as those of `symbolic_bounds` do.
    """
    return backward_rows(graph, region, bounds, tensor, rows).lower


def backward_rows(
    graph: Graph,
    region: Regions,
    bounds: Bounds,
    tensor: str,
    rows: Vector,
    relaxation: Relaxation | None = None,
) -> LinearBounds:
    """`linear_lower_bounds` with all that the pass ends with, for rows ``[n, size]`` or ``[..., n, size]``."""
    shape = (*np.broadcast_shapes(region.lower.shape[:-1], np.shape(rows)[:-2]), np.shape(rows)[-2])
    rows = np.broadcast_to(np.asarray(rows, dtype=np.float64), (*shape, np.shape(rows)[-1]))
    state = _Backward(bounds, relaxation, {tensor: rows}, np.zeros(shape), np.full(shape, TINY), len(graph.relus))
    for node in reversed(graph.nodes):
        reached = state.coefficients.pop(node.output, None)
        if reached is None:
            continue
        check_deadline()
        if isinstance(node, Affine):
            _through_affine(node, reached, state)
        else:
            _through_relu(node, reached, state)
    last = state.coefficients.get(graph.input, np.zeros((*shape, graph.input_size)))
    return _ended(region, last, state)


def _ended(region: Regions, last: Vector, state: _Backward) -> LinearBounds:
    """The least value over the region of what is left: rows of the input, a constant, values at vertices."""
    vertices = region.vertices
    ends = np.stack([region.lower, region.upper], axis=-2) if vertices is None else vertices
    rounding = state.gamma(last.shape[-1] + 2) * dot(np.abs(last), np.abs(ends).max(axis=-2))
    if vertices is None:
        reach = region.support(-last)
        state.shift(-reach, rounding + 4 * UNIT * np.abs(reach))
        return LinearBounds(state.constant - state.error, last, None, state.lines)
    values = last @ np.swapaxes(vertices, -1, -2)
    if state.at_vertices is not None:
        rounding = rounding + rounding_share(8) * np.abs(state.at_vertices).max(axis=-1)
        values = values + state.at_vertices
    values = values + (state.constant - state.error - rounding - 4 * UNIT * np.abs(state.constant))[..., None]
    values = values - 4 * UNIT * np.abs(values)
    return LinearBounds(_least(values, region.shares), last, values, state.lines)


def _least(values: Vector, shares: Vector | None) -> Vector:
    """The least value ``[..., n]`` that a concave function with these values ``[..., n, count]`` at vertices may have."""
    if shares is None:
        return np.asarray(values.min(axis=-1))
    centre, dim = values[..., 0], len(shares)
    drops = np.minimum(np.minimum(values[..., 1 : dim + 1], values[..., dim + 1 :]) - centre[..., None], 0.0)
    total = np.sort(drops, axis=-1) @ shares
    return np.asarray(centre + total - rounding_share(dim + 8) * (np.abs(centre) - total))


def _through_affine(node: Affine, rows: Vector, state: _Backward) -> None:
    error = state.gamma(len(node.bias) + node.roundings) * dot(np.abs(rows), state.bounds.terms(node))
    state.shift(rows @ node.rounded.bias, error)
    for name, weight, _, _ in node.products:
        state.add(name, times(rows, weight))


def _through_relu(node: Relu, rows: Vector, state: _Backward) -> None:
    """By the lines of each unit.

    At the vertices, the part of a coefficient below zero that the upper line does not take goes to the convex function.
    """
    lines = state.bounds.unit_lines(node)
    on, unstable, slope, offset = lines.on, lines.unstable, lines.slope, lines.offset
    convex, chosen = state.bounds.convex.get(node.input), state.relaxation
    below = lines.below[..., None, :]
    if chosen is not None:
        below = np.where(unstable[..., None, :], np.clip(chosen.slopes[node.output], 0, 1), on[..., None, :])
    negative = np.minimum(rows, 0)
    state.lines[node.output] = (negative, offset)
    if convex is None:
        chord, part = negative, np.maximum(rows, 0)
        part *= below
        part += negative * slope[..., None, :]
    else:
        above = 0.0 if chosen is None else np.clip(chosen.chords[node.output], 0, 1)
        chord = negative * np.where(unstable[..., None, :], above, 1.0)
        rest, peaks = negative - chord, np.maximum(convex, 0)
        total = rest @ peaks
        state.at_vertices = total if state.at_vertices is None else state.at_vertices + total
        highest = np.maximum(peaks.max(axis=-1), np.maximum(state.bounds.upper[node.input], 0))
        state.error = state.error + state.gamma(2 * offset.shape[-1]) * dot(-rest, highest)
        part = np.maximum(rows, 0) * below + chord * slope[..., None, :]
    if chosen is not None and node.output in chosen.multipliers:
        sign = np.where(on, 1.0, np.where(unstable, 0.0, -1.0))
        taken = sign[..., None, :] * np.maximum(chosen.multipliers[node.output], 0)
        size = np.abs(taken) + np.abs(part)
        state.error = state.error + state.gamma(0) * dot(size, state.bounds.magnitude(node.input))
        part = part - taken
    raised = dot(chord, offset)
    state.shift(raised, state.gamma(offset.shape[-1]) * -raised)
    state.add(node.input, part)
