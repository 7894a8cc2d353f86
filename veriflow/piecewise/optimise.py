"""Choosing the lines of symbolic bounds by gradient ascent on what they are to show.

The search is plain float64 in torch. What it finds is a `Relaxation`, for which `veriflow.piecewise.bounds` then proves
bounds; those hold whatever is found here.

Sources: Xu et al., *Fast and Complete: Enabling Complete Verification with Rapid and Massively Parallel Incomplete
Verifiers*, ICLR 2021, section 3.2; here with convex functions at vertices beside the upper lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam

from .bounds import Bounds, LinearBounds, Regions, Relaxation, backward_rows, rounding_share, symbolic_bounds
from .graph import Affine, Graph, Vector, dense, with_rounded_quotients

RATE, DECAY, CHORD = 0.3, 0.97, 0.3
"""Adam's rate over a region, its factor after each step, and the share of the chord to begin with."""

ENOUGH, GAIN, PATIENCE = 1e-3, 1e-2, 6
"""Relative margin beyond which a conjunction needs no more, and when too little is gained in how many steps."""

ROUNDED = 1e-12
"""More than rounding changes of rows and bounds when they are made floats, as a share of what meets in them."""


@dataclass(frozen=True, eq=False)
class Conjunctions:
    """Linear constraints ``rows @ output ≥ bounds`` in groups, each a conjunction that bounds are to exclude.

    Attributes:
        rows: ``[n, outputs]``.
        bounds: ``[n]``.
        groups: for each conjunction, which rows it joins; at least one.
    """

    rows: Vector
    bounds: Vector
    groups: tuple[tuple[int, ...], ...]


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
        inner: by input of a ReLU, with which its bounds, rows ``[I; −I]``, were made.
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
    ascent = _Ascent(graph, region)
    sums = _WeightedSums(violation, region.lower.shape[:-1])
    optimiser: _Adam | None = None
    best, since, rate = -np.inf, 0, RATE
    for step in range(steps):
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


def _combined(violation: Conjunctions, weights: Sequence[Vector], magnitude: Vector) -> tuple[Vector, Vector]:
    """The weighted means' rows and limits, these lowered by all that rounding changes of the means where terms cancel."""
    rows, limits = [], []
    for weight, group in zip(weights, violation.groups, strict=True):
        row, bound = violation.rows[list(group)], violation.bounds[list(group)]
        sizes = magnitude @ np.abs(row).T + np.abs(bound)
        rows.append(weight @ row)
        limits.append(weight @ bound - (ROUNDED + rounding_share(len(group))) * (weight * sizes).sum(-1))
    return np.stack(rows, -2), np.stack(limits, -1)


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
        self.groups = [list(group) for group in violation.groups]
        self.all_scores = [torch.zeros((*batch, len(group)), dtype=torch.float64) for group in self.groups]
        self.scores = [score.requires_grad_() for score in self.all_scores if score.shape[-1] > 1]
        sizes = self.rows.abs().sum(-1) + self.bounds.abs()
        self.scale = torch.stack([sizes[group].amax() for group in self.groups])

    def weights(self) -> list[Vector]:
        """Of each conjunction's constraints ``[..., size of the group]``."""
        return [mean.detach().numpy() for mean in self._means()]

    def _means(self) -> list[Tensor]:
        return [score.softmax(-1) for score in self.all_scores]

    def rows_and_limits(self) -> tuple[Tensor, Tensor]:
        """Rows ``[..., groups, outputs]`` and limits ``[..., groups]``."""
        weights = self._means()
        rows = [weight @ self.rows[group] for weight, group in zip(weights, self.groups, strict=True)]
        limits = [weight @ self.bounds[group] for weight, group in zip(weights, self.groups, strict=True)]
        return torch.stack(rows, -2), torch.stack(limits, -1)


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
        """What values at vertices say of the whole region, as in `veriflow.piecewise.bounds`."""
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
