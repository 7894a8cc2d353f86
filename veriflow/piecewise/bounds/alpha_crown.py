"""α-CROWN: the parameters of linear relaxations are chosen by gradient ascent on the margins that they prove.

The ascent is in float64 in torch, without margins for rounding. `veriflow.piecewise.bounds.crown` then proves bounds with the
`RelaxationParameters` that it ends with; these bounds hold whatever the parameters are.

Source: Xu et al., *Fast and Complete: Enabling Complete Verification with Rapid and Massively Parallel Incomplete
Verifiers*, ICLR 2021, section 3.2. Over regions with few vertices, the weights of the chords are parameters as well.
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
from ...numerics.rounding import CONSTANTS, gamma
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, Relu, dense
from .bounded_units import BoundedUnits, least_mean
from .conjunctions import Conjunctions
from .crown import backward_rows, symbolic_bounds
from .relaxation import BackwardPass, ReluRelaxation, affine_relaxations
from .tensor_bounds import Bounds, LinearBounds, Regions, RelaxationParameters

RATE, DECAY, CHORD = 0.3, 0.97, 0.3
"""The learning rate of Adam, its factor after each step, and the first weight of each chord."""

ENOUGH, GAIN, PATIENCE = 1e-3, 1e-2, 6
"""The ascent ends when every margin is `ENOUGH` of its scale, or after `PATIENCE` steps that gain less than `GAIN` each."""

MOST_CARRIED = 1 << 27
"""Where its passes would have more coefficients than this (gigabytes), there is no ascent: the lines are those of CROWN."""


@dataclass(frozen=True, eq=False)
class MarginBounds:
    """Proved lower bounds on the margins of conjunctions over a region, or a stack of regions.

    The margin of ``row · output ≥ limit`` is ``limit − row · output``. Each conjunction has one row, a convex combination of
    its constraints: where that margin is above zero, the conjunction cannot hold.

    Attributes:
        bounds: of every tensor.
        rows: of the conjunctions, ``[..., groups, outputs]``.
        limits: of the rows, ``[..., groups]``, lowered by what rounding may have changed of both.
        margins: lower bounds on ``limits − rows @ output``, ``[..., groups]``.
        parameters: with which the margins were proved.
        linear: the backward pass that proved them.
        inner: by input of a ReLU, the parameters with which its entries, rows ``[I; −I]``, were bounded; empty without an
            ascent.
    """

    bounds: Bounds
    rows: Vector
    limits: Vector
    margins: Vector
    parameters: RelaxationParameters
    linear: LinearBounds
    inner: Mapping[str, RelaxationParameters] = field(default_factory=dict)

    @property
    def excluded(self) -> NDArray[np.bool_]:
        """Whether each conjunction holds nowhere in the region, ``[..., groups]``."""
        return np.asarray(self.margins > 0)


def optimised_bounds(graph: Graph, region: Regions, violation: Conjunctions, *, steps: int = 40) -> MarginBounds:
    """Bounds over a region (or a stack of them) that are optimised to exclude conjunctions.

    A conjunction is excluded if ``Σ wᵢ (boundsᵢ − rowsᵢ · output) > 0`` all over the region for some weights w ≥ 0 (Farkas
    multipliers), which are optimised with the slopes. The ascent ends when all conjunctions are excluded, or when it gains
    little more.
    """
    sums = _WeightedSums(violation, region.lower.shape[:-1])
    if _cost(graph, region) > MOST_CARRIED:
        bounds = symbolic_bounds(graph, region)
        combined = _combined(violation, sums.weights(), bounds.magnitude(graph.output))
        return margin_bounds(graph, region, bounds, *combined, _crown_parameters(graph, bounds, combined[0]))
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
            best, found, weights = value, ascent.values(), sums.weights()
        choices = ascent.parameters() + sums.scores
        if bool((goal == ENOUGH).all()) or since == PATIENCE or not choices:
            break
        optimiser = optimiser or _Adam(choices)
        optimiser.ascend(goal.sum(), rate)
        ascent.clamp()
        rate *= DECAY
    last = found.pop(graph.output, RelaxationParameters({}, {}))
    bounds = symbolic_bounds(graph, region, found)
    combined = _combined(violation, weights, bounds.magnitude(graph.output))
    return replace(margin_bounds(graph, region, bounds, *combined, last), inner=found)


def _cost(graph: Graph, region: Regions) -> int:
    """How many coefficients the backward passes of one step have in all."""
    batch, cost, before = math.prod(region.lower.shape[:-1]), 0, graph.input_size
    for node in graph.nodes:
        before += graph.sizes[node.output]
        cost += 0 if isinstance(node, Affine) else 2 * graph.sizes[node.input] * before
    return batch * cost


def _crown_parameters(graph: Graph, bounds: Bounds, rows: Vector) -> RelaxationParameters:
    """The lines of CROWN as parameters for rows ``[..., n, outputs]``."""
    below = {relu.output: bounds.unit_lines(relu).below[..., None, :] for relu in graph.relus}
    slopes = {name: np.broadcast_to(one, (*rows.shape[:-1], one.shape[-1])) for name, one in below.items()}
    return RelaxationParameters(slopes, {name: np.ones_like(one) for name, one in slopes.items()})


def _combined(violation: Conjunctions, weights: Vector, magnitude: Vector) -> tuple[Vector, Vector]:
    """Rows and limits of the convex combinations; limits are lowered by the margin for rounding of both.

    The margin is relative to the constraints before they are combined, for terms may cancel.
    """
    sizes = magnitude @ np.abs(violation.rows).T + np.abs(violation.bounds)
    error = CONSTANTS + gamma(violation.members.shape[1])  # what is not of a group adds exact zeros
    return weights @ violation.rows, weights @ violation.bounds - error * (weights @ sizes[..., None])[..., 0]


def margin_bounds(
    graph: Graph, region: Regions, bounds: Bounds, rows: Vector, limits: Vector, parameters: RelaxationParameters
) -> MarginBounds:
    """Proved lower bounds on ``limits − rows @ output`` for rows ``[..., n, outputs]``; −∞ where numbers overflow."""
    linear = backward_rows(graph, region, bounds, graph.output, -rows, parameters)
    size = np.abs(limits) + (np.abs(rows) @ bounds.magnitude(graph.output)[..., None])[..., 0]
    margins = linear.lower + limits - CONSTANTS * size
    return MarginBounds(bounds, rows, limits, np.where(np.isnan(margins), -np.inf, margins), parameters, linear)


class _Adam:
    """Adam; `torch.optim.Adam` would import torch's compiler, which takes a second."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.means, self.squares = ([torch.zeros_like(one) for one in parameters] for _ in range(2))
        self.steps = [torch.zeros(()) for _ in parameters]

    def ascend(self, goal: Tensor, rate: float) -> None:
        """One step up the gradient of the goal."""
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
    """A convex combination of each conjunction's constraints, with weights that are softmaxes of free scores."""

    def __init__(self, violation: Conjunctions, batch: tuple[int, ...]) -> None:
        self.rows, self.bounds = torch.from_numpy(violation.rows), torch.from_numpy(violation.bounds)
        self.members, is_member = torch.from_numpy(violation.members), torch.from_numpy(violation.is_member)
        self.barred = torch.zeros(self.members.shape, dtype=torch.float64).masked_fill(~is_member, -torch.inf)
        self.barred[~is_member.any(-1)] = 0.0  # a group without constraints gets a zero row below
        self.is_some = is_member.any(-1, keepdim=True).double()
        scores = torch.zeros((*batch, *self.members.shape), dtype=torch.float64)
        self.scores = [scores.requires_grad_()] if self.members.shape[-1] > 1 else []
        self._scores = scores
        sizes = self.rows.abs().sum(-1) + self.bounds.abs()
        self.scale = torch.where(is_member, sizes[self.members], 0.0).amax(-1)

    def weights(self) -> Vector:
        """Weights of all constraints in each conjunction, ``[..., groups, n]``."""
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
    """Bounds of a graph over a region as differentiable functions of the parameters of all relaxations.

    Each ReLU has parameters of its own in the pass of each tensor that is bounded: keys are (tensor, output of the ReLU).
    """

    def __init__(self, graph: Graph, region: Regions) -> None:
        self.graph, self.region = graph, region
        self.maps = affine_relaxations(graph, lambda array: torch.from_numpy(dense(array)))
        points = region.vertices
        self.vertices = None if points is None else torch.from_numpy(np.swapaxes(points, -1, -2).copy())
        self.shares = None if region.shares is None else torch.from_numpy(region.shares)
        self.slopes: dict[_Key, Tensor] = {}
        self.chords: dict[_Key, Tensor] = {}

    def parameters(self) -> list[Tensor]:
        """All free parameters; there are none before the first run."""
        return [*self.slopes.values(), *self.chords.values()]

    def clamp(self) -> None:
        """Bring every parameter back into [0, 1]."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.clamp_(0, 1)

    def values(self) -> dict[str, RelaxationParameters]:
        """The parameters as they are now, by tensor that is bounded."""
        kinds = [
            {key: chosen.detach().numpy().copy() for key, chosen in kind.items()} for kind in (self.slopes, self.chords)
        ]
        return {
            tensor: RelaxationParameters(*({relu: v for (t, relu), v in kind.items() if t == tensor} for kind in kinds))
            for tensor, _ in self.slopes
        }

    def run(self, rows: Tensor) -> Tensor:
        """Lower bounds on ``rows @ output``, ``[..., n]``; the inputs of ReLUs are bounded anew, layer by layer."""
        units: dict[str, BoundedUnits] = {}
        for name in dict.fromkeys(relu.input for relu in self.graph.relus):
            eye = torch.eye(self.graph.sizes[name], dtype=torch.float64)
            rows_of_both = torch.cat([eye, -eye]).expand(*self.region.lower.shape[:-1], -1, -1)
            units[name] = BoundedUnits.of(self._backward(name, rows_of_both, units), self._least)
        return self._least(self._backward(self.graph.output, rows, units))

    def _least(self, values: Tensor) -> Tensor:
        """The bounds ``[..., n]`` in what `_backward` returns."""
        return values if self.vertices is None else least_mean(values, self.shares)

    def _backward(self, tensor: str, rows: Tensor, units: Mapping[str, BoundedUnits]) -> Tensor:
        """Bounds ``[..., n]``; over a region with vertices, values there, ``[..., n, count]``, of functions below the rows."""
        back = _AscentPass(self, tensor, rows, units)
        back.run(self.graph.nodes)
        last = back.coefficients[self.graph.input]
        if self.vertices is not None:
            values = last @ self.vertices
            values = values if back.at_vertices is None else values + back.at_vertices
            return values + back.constant.unsqueeze(-1)
        farthest = torch.from_numpy(self.region.farthest(-last.detach().numpy()))
        return back.constant + (last * farthest).sum(-1)

    def slopes_and_chords(self, key: _Key, units: BoundedUnits, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes below, which start as those of the chords, and the weights of the chords."""
        if key not in self.slopes:
            slope, _ = torch.broadcast_tensors(units.slope.unsqueeze(-2).detach(), rows.detach())  # type: ignore[no-untyped-call]
            self.slopes[key] = slope.clone().requires_grad_()
            self.chords[key] = torch.full_like(slope, CHORD).requires_grad_()
        return self.slopes[key], self.chords[key]


class _AscentPass(BackwardPass[Tensor]):
    """The backward pass of a tensor, with the parameters that it has of its own."""

    def __init__(self, ascent: _Ascent, tensor: str, rows: Tensor, units: Mapping[str, BoundedUnits]) -> None:
        super().__init__(ascent.maps, [(tensor, rows)], torch.zeros((), dtype=torch.float64))
        self.ascent, self.tensor, self.units = ascent, tensor, units

    def relaxed(self, relu: Relu, rows: Tensor) -> ReluRelaxation[Tensor]:
        """The lines of the units, with free slopes below."""
        units = self.units[relu.input]
        slopes, chords = self.ascent.slopes_and_chords((self.tensor, relu.output), units, rows)
        unstable, slope = units.unstable.unsqueeze(-2), units.slope.unsqueeze(-2)
        below = torch.where(unstable, slopes, slope)
        if units.peaks is None:
            return ReluRelaxation(below, slope, units.offset)
        return ReluRelaxation(below, slope, units.offset, torch.where(unstable, chords, 1.0), units.peaks)
