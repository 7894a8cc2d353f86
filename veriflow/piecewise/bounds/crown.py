"""CROWN: proved bounds on every tensor of a graph over a region, by backward substitution and interval arithmetic.

A backward pass (`relaxation`) ends with a linear function of the input below each row. Its least value over the region is given
by the support function, for a ball a dual norm: Zhang et al., *Efficient Neural Network Robustness Certification with General
Activation Functions*, NeurIPS 2018, theorem 3.2.

Over a region with few vertices (an L1 ball above all) a unit with a negative coefficient may stay ``relu(g)`` with g a convex
function above its input. The pass then ends with a concave function, whose least value is at a vertex. Where convex
combinations of the vertices have limited weights (a trimmed L1 ball), it is at least the mean of the least values with as much
weight as the limits allow.

Everything is float64, with the margins of `veriflow.numerics.rounding`. A product of n-term rows Λ with W is off by γ_n |Λ||W|
at most (Higham, *Accuracy and Stability of Numerical Algorithms*, equation 3.13). The tensor that it is multiplied with has a
known magnitude, so that the effect on each row is added up and taken off its bound. Where a map divides, W holds quotients
that are off by 3u (`Affine.rounded`), which counts as three more terms. Bounds therefore hold in real arithmetic.

Regions may be stacked: with ends ``[batch, dim]``, all bounds get the same leading axis and are computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...errors import GraphError
from ...numerics.arrays import Vector
from ...numerics.products import dot
from ...numerics.rounding import ADDITION, FEW_OPERATIONS, LARGEST, UNDERFLOW_OF_COEFFICIENTS, gamma
from ..graph import Affine, Graph, Relu
from .interval import interval_step
from .relaxation import AffineRelaxation, BackwardPass, BackwardStep, ReluRelaxation
from .tensor_bounds import Bounds, LinearBounds, Regions, RelaxationParameters

BLOCK = 1 << 24
"""The most coefficients of a backward pass; the entries of wide layers are bounded some at a time."""


@lru_cache(maxsize=16)
def _maps(graph: Graph) -> tuple[dict[str, Affine], dict[str, AffineRelaxation[Vector]]]:
    """The affine maps of a graph by their outputs, and their relaxations."""
    nodes = {node.output: node for node in graph.nodes if isinstance(node, Affine)}
    return nodes, {
        name: AffineRelaxation(name, tuple(part[:2] for part in node.products), node.rounded.bias)
        for name, node in nodes.items()
    }


class _ProvedPass(BackwardPass[Vector]):
    """Backward substitution in float64 with a proved margin for rounding.

    Attributes:
        error: the margin so far: how much too high the rows' bounds may be, ``[..., n]``.
        lines: `LinearBounds.lines`.
    """

    def __init__(
        self,
        graph: Graph,
        bounds: Bounds,
        parameters: RelaxationParameters | None,
        tensor: str,
        rows: Vector,
        shape: Sequence[int],
    ) -> None:
        self.affine, maps = _maps(graph)
        super().__init__(maps, [(tensor, rows)], np.zeros(shape))
        self.bounds, self.parameters, self.relus = bounds, parameters, len(graph.relus)
        self.error = np.full(shape, UNDERFLOW_OF_COEFFICIENTS)
        self.lines: dict[str, tuple[Vector, Vector]] = {}

    def gamma(self, terms: int) -> float:
        """Relative error of a product of so many terms, with coefficients that were rounded twice at each ReLU before."""
        return gamma(terms + 2 * self.relus)

    def add(self, name: str, part: Vector) -> None:
        """Add coefficients of a tensor; the error grows by the rounding of a sum and of what is summed."""
        if name in self.coefficients:
            size = np.abs(part) + np.abs(self.coefficients[name])
            self.error = self.error + self.gamma(0) * dot(size, self.bounds.magnitude(name))
        super().add(name, part)

    def shift(self, constant: Vector) -> None:
        """Add to the constant; the error grows by the rounding of the sum."""
        self.error = self.error + ADDITION * (np.abs(self.constant) + np.abs(constant))
        super().shift(constant)

    def through_affine(self, affine: AffineRelaxation[Vector], rows: Vector) -> None:
        """The error grows by γ times the sizes of all terms."""
        node = self.affine[affine.output]
        terms = len(node.bias) + node.roundings
        self.error = self.error + self.gamma(terms) * dot(np.abs(rows), self.bounds.terms(node))
        super().through_affine(affine, rows)

    def account(self, relu: Relu, relaxed: ReluRelaxation[Vector], step: BackwardStep[Vector]) -> None:
        """The error grows by γ times what chords and convex functions add at most."""
        offset = self.bounds.unit_lines(relu).offset
        self.lines[relu.output] = (step.negative, offset)
        if step.constant is not None:
            self.error = self.error + self.gamma(offset.shape[-1]) * -step.constant
        if step.rest is not None and relaxed.peaks is not None:
            highest = np.maximum(relaxed.peaks.max(axis=-1), np.maximum(self.bounds.upper[relu.input], 0))
            self.error = self.error + self.gamma(2 * offset.shape[-1]) * dot(-step.rest, highest)

    def relaxed(self, relu: Relu, rows: Vector) -> ReluRelaxation[Vector]:
        """The lines of the units, with the parameters if there are some.

        Without them, over a region with vertices, the weights of chords are zero.
        """
        lines, chosen, convex = self.bounds.unit_lines(relu), self.parameters, self.bounds.convex.get(relu.input)
        peaks = None if convex is None else np.maximum(convex, 0)
        on, unstable = lines.on[..., None, :], lines.unstable[..., None, :]
        below, chords, multipliers = lines.below[..., None, :], None, None
        if chosen is not None:
            below = np.where(unstable, np.clip(chosen.slopes[relu.output], 0, 1), on)
        if peaks is not None:
            share = 0.0 if chosen is None else np.clip(chosen.chords[relu.output], 0, 1)
            chords = np.where(unstable, share, 1.0)
        if chosen is not None and relu.output in chosen.multipliers:
            turned = np.where(on, -1.0, np.where(unstable, 0.0, 1.0))
            multipliers = turned * np.maximum(chosen.multipliers[relu.output], 0)
        return ReluRelaxation(below, lines.slope[..., None, :], lines.offset, chords, peaks, multipliers)


def symbolic_bounds(
    graph: Graph,
    region: Regions,
    parameters: Mapping[str, RelaxationParameters] | None = None,
    within: Bounds | None = None,
) -> Bounds:
    """Bounds by backward substitution for the input of every ReLU and for the output, intervals in between.

    Each bound is the better one of the symbolic and the interval bound. Cost: one backward pass for each ReLU layer.

    Args:
        graph: whose tensors are bounded.
        region: of its inputs.
        parameters: of the rows ``[I; −I]`` of tensors for which they were optimised.
        within: bounds that hold over the region, such as those over a region around it. Only the inputs of ReLU units
            that these and interval arithmetic leave unstable get a backward pass; the output gets interval bounds.

    Raises:
        GraphError: a tensor that may be larger than `LARGEST`.
    """
    relu_inputs = {relu.input for relu in graph.relus}
    bounds = Bounds({graph.input: region.lower}, {graph.input: region.upper})
    _check_sizes(bounds, graph.input)
    for node in graph.nodes:
        name = node.output
        low, high = interval_step(node, bounds)
        convex = slopes = None
        if within is not None and name in within.lower:
            low, high = np.maximum(low, within.lower[name]), np.minimum(high, within.upper[name])
        if isinstance(node, Affine):
            if within is not None:
                if name in relu_inputs:
                    low, high, slopes = _tightened(graph, region, bounds, name, low, high)
            elif name in relu_inputs | {graph.output}:
                least, most, peaks = _entry_bounds(graph, region, bounds, name, (parameters or {}).get(name))
                # coefficients may leave the floats where tensors do not: NaN is no bound
                low, high = np.fmax(low, least), np.fmin(high, most)
                convex = peaks if name in relu_inputs else None
        bounds = bounds.extended(name, low, high, convex, slopes)
        _check_sizes(bounds, name)
    return bounds


def _entry_bounds(
    graph: Graph, region: Regions, bounds: Bounds, tensor: str, parameters: RelaxationParameters | None
) -> tuple[Vector, Vector, Vector | None]:
    """Bounds on every entry of a tensor, and values at vertices of the convex functions above, some entries at a time."""
    size = graph.sizes[tensor]
    widest, batch = max(graph.sizes.values()), math.prod(region.lower.shape[:-1])
    step = max(1, BLOCK // (2 * widest * max(batch, 1)))
    least, most, peaks = [], [], []
    for start in range(0, size, step):
        places = np.arange(start, min(start + step, size))
        rows = np.zeros((2 * len(places), size))
        rows[np.arange(len(places)), places], rows[np.arange(len(places), 2 * len(places)), places] = 1.0, -1.0
        chosen = parameters and parameters.of_rows(np.concatenate([places, size + places]))
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


def _tightened(
    graph: Graph, region: Regions, bounds: Bounds, tensor: str, low: Vector, high: Vector
) -> tuple[Vector, Vector, Vector]:
    """Bounds on a tensor, better by symbolic ones where an entry may be on either side of zero, and `Bounds.slopes`."""
    unstable = (low < 0) & (high > 0)
    count = int(unstable.sum(axis=-1).max())
    slopes = np.zeros((*low.shape, graph.input_size))
    if not count:
        return low, high, slopes
    places = np.argsort(~unstable, axis=-1, kind="stable")[..., :count]
    rows = np.zeros((*low.shape[:-1], 2 * count, low.shape[-1]))
    np.put_along_axis(rows[..., :count, :], places[..., None], 1.0, axis=-1)
    np.put_along_axis(rows[..., count:, :], places[..., None], -1.0, axis=-1)
    found = backward_rows(graph, region, bounds, tensor, rows)
    least = np.fmax(np.take_along_axis(low, places, -1), found.lower[..., :count])
    most = np.fmin(np.take_along_axis(high, places, -1), -found.lower[..., count:])
    low, high = low.copy(), high.copy()
    np.put_along_axis(low, places, least, axis=-1)
    np.put_along_axis(high, places, most, axis=-1)
    steepness = np.abs(found.coefficients)
    np.put_along_axis(slopes, places[..., None], (steepness[..., :count, :] + steepness[..., count:, :]) / 2, axis=-2)
    return low, high, slopes


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
    parameters: RelaxationParameters | None = None,
) -> LinearBounds:
    """The backward pass of `linear_lower_bounds`, for rows ``[n, size]`` or ``[..., n, size]``."""
    shape = (*np.broadcast_shapes(region.lower.shape[:-1], np.shape(rows)[:-2]), np.shape(rows)[-2])
    rows = np.broadcast_to(np.asarray(rows, dtype=np.float64), (*shape, np.shape(rows)[-1]))
    state = _ProvedPass(graph, bounds, parameters, tensor, rows, shape)
    state.run(graph.nodes)
    last = state.coefficients.get(graph.input, np.zeros((*shape, graph.input_size)))
    return _ended(region, last, state)


def _ended(region: Regions, last: Vector, state: _ProvedPass) -> LinearBounds:
    """The least values over the region of linear functions of the input, or of concave functions given at the vertices."""
    vertices = region.vertices
    ends = np.stack([region.lower, region.upper], axis=-2) if vertices is None else vertices
    rounding = state.gamma(last.shape[-1] + 2) * dot(np.abs(last), np.abs(ends).max(axis=-2))
    if vertices is None:
        reach = region.support(-last)
        state.error = state.error + (rounding + FEW_OPERATIONS * np.abs(reach))
        state.shift(-reach)
        return LinearBounds(state.constant - state.error, last, None, state.lines)
    values = last @ np.swapaxes(vertices, -1, -2)
    if state.at_vertices is not None:
        rounding = rounding + gamma(8) * np.abs(state.at_vertices).max(axis=-1)
        values = values + state.at_vertices
    values = values + (state.constant - state.error - rounding - FEW_OPERATIONS * np.abs(state.constant))[..., None]
    values = values - FEW_OPERATIONS * np.abs(values)
    return LinearBounds(_least(values, region.shares), last, values, state.lines)


def _least(values: Vector, shares: Vector | None) -> Vector:
    """Lower bounds ``[..., n]`` on concave functions with these values ``[..., n, count]`` at vertices, for limited weights."""
    if shares is None:
        return np.asarray(values.min(axis=-1))
    centre, dim = values[..., 0], len(shares)
    drops = np.minimum(np.minimum(values[..., 1 : dim + 1], values[..., dim + 1 :]) - centre[..., None], 0.0)
    total = np.sort(drops, axis=-1) @ shares
    return np.asarray(centre + total - gamma(dim + 8) * (np.abs(centre) - total))
