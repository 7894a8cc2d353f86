"""Choosing the lines of symbolic bounds by gradient ascent on what they are to show.

The search is plain float64 in torch. What it finds is a `Relaxation`, for which `veriflow.piecewise.bounds.crown` then proves
bounds; those hold whatever is found here.

Sources: Xu et al., *Fast and Complete: Enabling Complete Verification with Rapid and Massively Parallel Incomplete
Verifiers*, ICLR 2021, section 3.2; here with convex functions at vertices beside the upper lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam

from ...numerics.arrays import Vector
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, dense, with_rounded_quotients
from .conjunctions import Conjunctions
from .crown import backward_rows, symbolic_bounds
from .rounding import rounding_share
from .tensor_bounds import Bounds, LinearBounds, Regions, Relaxation

RATE, DECAY, CHORD = 0.3, 0.97, 0.3
"""Adam's rate over a region, its factor after each step, and the share of the chord to begin with."""

ENOUGH, GAIN, PATIENCE = 1e-3, 1e-2, 6
"""Relative margin beyond which a conjunction needs no more, and when too little is gained in how many steps."""

MOST_CARRIED = 1 << 27
"""Where the ascent would carry more numbers, some gigabytes, the lines of plain bounds are taken."""

ROUNDED = 1e-12
"""More than rounding changes of rows and bounds when they are made floats, as a share of what meets in them."""


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What optimised bounds say of conjunctions over a region, or a stack of regions.

    Attributes:
        bounds: of every tensor.
        rows: the weighted mean of each conjunction's rows for which bounds were made, ``[..., groups, outputs]``.
        limits: the same mean of its bounds, ``[..., groups]``, lowered by what rounding changes of both.
        margins: proved lower bounds on ``limits − rows @ output``; above zero, the conjunction holds nowhere.
        relaxation: with which they were proved.
        ended: all that the last pass gave.
        inner: by input of a ReLU, with which its bounds, rows ``[I; −I]``, were made; none where plain lines were taken.
    """

    bounds: Bounds
    rows: Vector
    limits: Vector
    margins: Vector
    relaxation: Relaxation
    ended: LinearBounds
    inner: Mapping[str, Relaxation] = field(default_factory=dict)

    @property
    def excluded(self) -> NDArray[np.bool_]:
        """For each conjunction, whether it holds nowhere in the region, ``[..., groups]``."""
        return np.asarray(self.margins > 0)


def exclude(graph: Graph, region: Regions, violation: Conjunctions, *, steps: int = 40) -> Exclusion:
    """Bounds over a region (or a stack of them), chosen to exclude conjunctions.

    A conjunction is excluded where ``Σ wᵢ (boundsᵢ − rowsᵢ · output)`` is above zero all over the region, for some weights
    w ≥ 0, which are chosen with the rest. The ascent ends when all are excluded, or when it gains little more.
    """
    sums = _WeightedSums(violation, region.lower.shape[:-1])
    if _cost(graph, region) > MOST_CARRIED:
        bounds = symbolic_bounds(graph, region)
        combined = _combined(violation, sums.weights(), bounds.magnitude(graph.output))
        return proved(graph, region, bounds, *combined, _plain(graph, bounds, combined[0]))
    ascent = _Ascent(graph, region)
    optimiser: _Adam | None = None
    best, since, rate = -np.inf, 0, RATE
    for step in range(steps):
        check_deadline()
        rows, limits = sums.rows_and_limits()
        goal = ((ascent.run(-rows) + limits) / sums.scale).clamp_max(ENOUGH)
        value = float(goal.detach().sum())
        since = 0 if value > best + GAIN * abs(best) else since + 1
        if value > best or not step:  # NaN is above nothing
            best, found, weights = value, ascent.relaxations(), sums.weights()
        choices = ascent.parameters() + sums.scores
        if bool((goal == ENOUGH).all()) or since == PATIENCE or not choices:
            break
        optimiser = optimiser or _Adam(choices)
        optimiser.ascend(goal.sum(), rate)
        ascent.clamp()
        rate *= DECAY
    last = found.pop(graph.output, Relaxation({}, {}))
    bounds = symbolic_bounds(graph, region, found)
    combined = _combined(violation, weights, bounds.magnitude(graph.output))
    return replace(proved(graph, region, bounds, *combined, last), inner=found)


def _cost(graph: Graph, region: Regions) -> int:
    """How many numbers the ascent carries back from the inputs of all ReLUs at once."""
    batch, cost, before = math.prod(region.lower.shape[:-1]), 0, graph.input_size
    for node in graph.nodes:
        before += graph.sizes[node.output]
        cost += 0 if isinstance(node, Affine) else 2 * graph.sizes[node.input] * before
    return batch * cost


def _plain(graph: Graph, bounds: Bounds, rows: Vector) -> Relaxation:
    """The lines that bounds give, as choices for rows ``[..., n, outputs]``."""
    below = {relu.output: bounds.unit_lines(relu).below[..., None, :] for relu in graph.relus}
    slopes = {name: np.broadcast_to(one, (*rows.shape[:-1], one.shape[-1])) for name, one in below.items()}
    return Relaxation(slopes, {name: np.ones_like(one) for name, one in slopes.items()})


def _combined(violation: Conjunctions, weights: Vector, magnitude: Vector) -> tuple[Vector, Vector]:
    """The weighted means' rows and limits, these lowered by all that rounding changes of the means where terms cancel."""
    sizes = magnitude @ np.abs(violation.rows).T + np.abs(violation.bounds)
    error = ROUNDED + rounding_share(violation.members.shape[1])  # what is not of a group adds exact zeros
    return weights @ violation.rows, weights @ violation.bounds - error * (weights @ sizes[..., None])[..., 0]


def proved(
    graph: Graph, region: Regions, bounds: Bounds, rows: Vector, limits: Vector, relaxation: Relaxation
) -> Exclusion:
    """What a relaxation shows of ``rows @ output ≥ limits``, with rounding errors accounted for; rows ``[..., n, outputs]``.

    Where numbers leave the floats, it shows nothing.
    """
    ended = backward_rows(graph, region, bounds, graph.output, -rows, relaxation)
    size = np.abs(limits) + (np.abs(rows) @ bounds.magnitude(graph.output)[..., None])[..., 0]
    margins = ended.lower + limits - ROUNDED * size
    return Exclusion(bounds, rows, limits, np.where(np.isnan(margins), -np.inf, margins), relaxation, ended)


class _Adam:
    """Adam on some tensors; `torch.optim.Adam` takes a second to load what it needs for compiling."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.means, self.squares = ([torch.zeros_like(one) for one in parameters] for _ in range(2))
        self.steps = [torch.zeros(()) for _ in parameters]

    def ascend(self, goal: Tensor, rate: float) -> None:
        """One step towards a greater goal."""
        slopes = torch.autograd.grad(goal, self.parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            adam(
                self.parameters,
                list(slopes),
                self.means,
                self.squares,
                [],
                self.steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=0,
                eps=1e-8,
                maximize=True,
            )


class _WeightedSums:
    """One row for each conjunction: a weighted mean of its constraints."""

    def __init__(self, violation: Conjunctions, batch: tuple[int, ...]) -> None:
        self.rows, self.bounds = torch.from_numpy(violation.rows), torch.from_numpy(violation.bounds)
        self.members, is_member = torch.from_numpy(violation.members), torch.from_numpy(violation.is_member)
        self.barred = torch.zeros(self.members.shape, dtype=torch.float64).masked_fill(~is_member, -torch.inf)
        self.barred[~is_member.any(-1)] = 0.0  # a group of none has no mean: its row is made zero below
        self.is_some = is_member.any(-1, keepdim=True).double()
        scores = torch.zeros((*batch, *self.members.shape), dtype=torch.float64)
        self.scores = [scores.requires_grad_()] if self.members.shape[-1] > 1 else []
        self._scores = scores
        sizes = self.rows.abs().sum(-1) + self.bounds.abs()
        self.scale = torch.where(is_member, sizes[self.members], 0.0).amax(-1)

    def weights(self) -> Vector:
        """Of all constraints in each conjunction's mean, ``[..., groups, n]``."""
        return np.asarray(self._weights().detach().numpy())

    def _weights(self) -> Tensor:
        means = (self._scores + self.barred).softmax(-1) * self.is_some
        nothing = torch.zeros((*means.shape[:-1], len(self.rows)), dtype=torch.float64)
        return nothing.scatter_add(-1, self.members.expand(means.shape), means)

    def rows_and_limits(self) -> tuple[Tensor, Tensor]:
        """Rows ``[..., groups, outputs]`` and limits ``[..., groups]``."""
        weights = self._weights()
        return weights @ self.rows, weights @ self.bounds


_Key = tuple[str, str]


class _Ascent:
    """Bounds of a graph over a region as differentiable functions of the choices made for them.

    Choices are kept by the tensor that is bounded and the output of the ReLU that they are for.
    """

    def __init__(self, graph: Graph, region: Regions) -> None:
        self.graph, self.region = graph, region
        self.affine = {
            node.output: ([(name, torch.from_numpy(dense(w))) for name, w in node.terms], torch.from_numpy(node.bias))
            for node in with_rounded_quotients(graph).nodes
            if isinstance(node, Affine)
        }
        points = region.vertices
        self.vertices = None if points is None else torch.from_numpy(np.swapaxes(points, -1, -2).copy())
        self.shares = None if region.shares is None else torch.from_numpy(region.shares)
        self.slopes: dict[_Key, Tensor] = {}
        self.chords: dict[_Key, Tensor] = {}

    def parameters(self) -> list[Tensor]:
        """What may be chosen, known after the first run."""
        return [*self.slopes.values(), *self.chords.values()]

    def clamp(self) -> None:
        """Bring every choice back to where it may lie."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.clamp_(0, 1)

    def relaxations(self) -> dict[str, Relaxation]:
        """The choices as they are, by tensor that is bounded."""
        kinds = [
            {key: chosen.detach().numpy().copy() for key, chosen in kind.items()} for kind in (self.slopes, self.chords)
        ]
        return {
            tensor: Relaxation(*({relu: v for (t, relu), v in kind.items() if t == tensor} for kind in kinds))
            for tensor, _ in self.slopes
        }

    def run(self, rows: Tensor) -> Tensor:
        """Lower bounds on ``rows`` of the output, ``[..., n]``, with all bounds on the way made anew."""
        lower: dict[str, Tensor] = {}
        upper: dict[str, Tensor] = {}
        convex: dict[str, Tensor] = {}
        for name in dict.fromkeys(relu.input for relu in self.graph.relus):
            size = self.graph.sizes[name]
            eye = torch.eye(size, dtype=torch.float64)
            ends = self._backward(name, torch.cat([eye, -eye]), lower, upper, convex)
            if self.vertices is not None:
                convex[name] = -ends[..., size:, :]
                ends = self._least(ends)
            lower[name], upper[name] = ends[..., :size], -ends[..., size:]
        ends = self._backward(self.graph.output, rows, lower, upper, convex)
        return ends if self.vertices is None else self._least(ends)

    def _least(self, values: Tensor) -> Tensor:
        """What values at vertices say of the whole region, as in `veriflow.piecewise.bounds.crown`."""
        if self.shares is None:
            return values.amin(-1)
        dim = len(self.shares)
        centre, ends = values[..., 0], torch.minimum(values[..., 1 : dim + 1], values[..., dim + 1 :])
        least: Tensor = centre + (ends - centre.unsqueeze(-1)).clamp_max(0).sort(dim=-1).values @ self.shares
        return least

    def _backward(
        self,
        tensor: str,
        rows: Tensor,
        lower: Mapping[str, Tensor],
        upper: Mapping[str, Tensor],
        convex: Mapping[str, Tensor],
    ) -> Tensor:
        """Bounds ``[..., n]``; with vertices, the values ``[..., n, count]`` whose least one is the bound."""
        coefficients = {tensor: rows}
        constant = at_vertices = torch.zeros((), dtype=torch.float64)
        for node in reversed(self.graph.nodes):
            reached = coefficients.pop(node.output, None)
            if reached is None:
                continue
            check_deadline()
            if isinstance(node, Affine):
                terms, bias = self.affine[node.output]
                constant = constant + reached @ bias
                parts = [(name, reached @ weight) for name, weight in terms]
            else:
                key = (tensor, node.output)
                low, high = lower[node.input].unsqueeze(-2), upper[node.input].unsqueeze(-2)
                on, unstable = (low >= 0).double(), (low < 0) & (high > 0)
                slope = torch.where(unstable, high / torch.where(unstable, high - low, 1.0), on)
                self._begin(key, slope, reached)
                positive, chord = reached.clamp_min(0), reached.clamp_max(0)
                if self.vertices is not None:
                    kept = chord * torch.where(unstable, self.chords[key], 1.0)
                    at_vertices = at_vertices + (chord - kept) @ convex[node.input].clamp_min(0)
                    chord = kept
                constant = constant - (chord * torch.where(unstable, slope * low, 0.0)).sum(-1)
                part = positive * torch.where(unstable, self.slopes[key], slope) + chord * slope
                parts = [(node.input, part)]
            for name, part in parts:
                coefficients[name] = coefficients[name] + part if name in coefficients else part
        last = coefficients[self.graph.input]
        if self.vertices is not None:
            return last @ self.vertices + at_vertices + constant.unsqueeze(-1)
        farthest = torch.from_numpy(self.region.farthest(-last.detach().numpy()))
        return constant + (last * farthest).sum(-1)

    def _begin(self, key: _Key, slope: Tensor, rows: Tensor) -> None:
        """Slopes below, which start as those above, and shares of the chord."""
        if key not in self.slopes:
            slope, _ = torch.broadcast_tensors(slope.detach(), rows.detach())  # type: ignore[no-untyped-call]
            self.slopes[key] = slope.clone().requires_grad_()
            self.chords[key] = torch.full_like(slope, CHORD).requires_grad_()
