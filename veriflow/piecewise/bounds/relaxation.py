"""Linear relaxations of affine maps and ReLUs, and backward substitution through them, for numpy and for torch.

A pass carries rows Λ with ``Λ · tensor + constant`` ≤ what is to be bounded, from a tensor back to the input of a graph. An
affine map is its own relaxation. A ReLU on [l, u] lies between the lines ``below · x`` and ``slope · x + offset`` (the chord),
so that a coefficient of its output becomes one of its input: times ``below`` where it is positive, times ``slope`` where it is
negative (Zhang et al., *Efficient Neural Network Robustness Certification with General Activation Functions*, NeurIPS 2018,
theorem 3.2). Over the convex hull of a few vertices v, a share of a negative coefficient may go to a convex function above
the ReLU instead of the chord; its values at the vertices are added up.

Passes differ in their numbers (float64 with margins for rounding in `crown`, float64 with gradients in `alpha_crown`, float32
in `beta_crown`, the model's in `veriflow.training.stability`), not in their steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np

from ...numerics.arrays import Array, Single
from ...numerics.products import dot, times
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, Relu


def signed_parts(rows: Array) -> tuple[Array, Array]:
    """``max(rows, 0)`` and ``min(rows, 0)``; in torch with gradient zero where a coefficient is."""
    if isinstance(rows, np.ndarray):
        return np.maximum(rows, 0), np.minimum(rows, 0)
    return rows.relu(), -(-rows).relu()


@dataclass(frozen=True, eq=False, slots=True)
class AffineRelaxation(Generic[Array]):
    """``output = Σ weight @ input + bias``.

    Attributes:
        output: name of the output.
        terms: names of inputs and weights ``[out, in]``; None for the identity.
        bias: ``[out]``.
    """

    output: str
    terms: tuple[tuple[str, Any], ...]
    bias: Array

    def backward(self, rows: Array) -> Iterator[tuple[str, Array]]:
        """Coefficients of the inputs for ``rows`` ``[..., n, out]`` over the output."""
        return ((name, rows if weight is None else times(rows, weight)) for name, weight in self.terms)

    def adjoint(self, points: Mapping[str, Array]) -> Array:
        """The output at points ``[..., in]`` of the inputs: the adjoint of `backward`."""
        output = self.bias
        for name, weight in self.terms:
            output = output + (points[name] if weight is None else times(points[name], weight.T))
        return output


@dataclass(frozen=True, eq=False, slots=True)
class UnitLines(Generic[Array]):
    """Each unit of a ReLU on [l, u] between ``below · x`` and ``slope · x + offset``; arrays ``[..., size]``.

    ``on`` are the units that are never negative, ``unstable`` those that may be on either side of zero.
    """

    on: Any
    unstable: Any
    below: Array
    slope: Array
    offset: Array


@dataclass(frozen=True, eq=False, slots=True)
class ReluRelaxation(Generic[Array]):
    """Lines around the units of a ReLU; arrays broadcast with rows ``[..., n, size]`` over its output.

    Attributes:
        below: slopes of the lines below.
        slope: slopes of the chords; None where only units that are never negative have some.
        offset: values of the chords at zero, ``[..., size]``, as `dot` takes them; None likewise.
        chords: the shares of the chords in the relaxation from above, 1 for stable units; None where there is nothing else.
        peaks: values ``[..., size, count]`` at the vertices of convex functions above the outputs, which have the other shares.
        multipliers: what is added to the coefficients of the inputs in the domains of split units (β-CROWN).
    """

    below: Array
    slope: Array | None
    offset: Array | None
    chords: Array | None = None
    peaks: Array | None = None
    multipliers: Array | None = None

    def backward(self, rows: Array) -> BackwardStep[Array]:
        """One step of backward substitution, for rows over the output."""
        part, negative = signed_parts(rows)
        chord = negative if self.chords is None else negative * self.chords
        if isinstance(part, np.ndarray):
            part *= self.below
        else:
            part = part * self.below
        part += chord if self.slope is None else chord * self.slope
        constant = None if self.offset is None else dot(chord, self.offset)
        return BackwardStep(part, constant, negative, None if self.peaks is None else negative - chord)

    def adjoint(self: ReluRelaxation[Single], rows: Single, point: Single, convex: Single | None) -> AdjointStep:
        """The adjoint of `backward` at ``rows``: from a point of the input to one of the output.

        ``convex`` are the values of the convex functions there, if there are some.
        """
        upper = point if self.slope is None else self.slope * point
        upper = upper if self.offset is None else upper + self.offset
        by_chords = None
        if self.chords is not None and convex is not None:
            by_chords = np.minimum(rows, 0) * (upper - convex)
            upper = self.chords * upper + (1 - self.chords) * convex
        output = np.where(rows > 0, self.below * point, upper)
        return AdjointStep(output, np.maximum(rows, 0) * point, by_chords)


class BackwardStep(NamedTuple, Generic[Array]):
    """What rows over the output of a ReLU become.

    Attributes:
        part: coefficients of the input.
        constant: what the chords add to the constant, ``[..., n]``.
        negative: the negative parts of the rows.
        rest: the share of these that goes to the convex functions; None where there are none.
    """

    part: Array
    constant: Array | None
    negative: Array
    rest: Array | None


class AdjointStep(NamedTuple):
    """A point of the output of a ReLU, and the derivatives of the bound by ``below`` and by ``chords``."""

    output: Single
    by_below: Single
    by_chords: Single | None


def affine_relaxations(graph: Graph, converted: Callable[[Any], Array]) -> dict[str, AffineRelaxation[Array]]:
    """The affine maps of a graph by their outputs, their constants (rounded quotients, where divided) converted."""
    nodes = [node for node in graph.nodes if isinstance(node, Affine)]
    return {
        node.output: AffineRelaxation(
            node.output,
            tuple((name, converted(weight)) for name, weight in node.rounded.terms),
            converted(node.rounded.bias),
        )
        for node in nodes
    }


class BackwardPass(ABC, Generic[Array]):
    """Backward substitution from a tensor to the input of a graph.

    Attributes:
        maps: affine maps by their outputs.
        coefficients: of the tensors that are reached and not yet passed, ``[..., n, size]``.
        constant: ``[..., n]``.
        at_vertices: values of the convex functions, ``[..., n, count]``; None where none are reached.
    """

    def __init__(
        self, maps: Mapping[str, AffineRelaxation[Array]], start: Sequence[tuple[str, Array]], constant: Array
    ) -> None:
        self.maps: Mapping[str, AffineRelaxation[Array]] = maps
        self.coefficients: dict[str, Array] = dict(start)
        self.constant: Array = constant
        self.at_vertices: Array | None = None

    @abstractmethod
    def relaxed(self, relu: Relu, rows: Array) -> ReluRelaxation[Array]:
        """The relaxation of a ReLU for rows over its output."""

    def run(self, nodes: Sequence[Affine | AffineRelaxation[Array] | Relu]) -> None:
        """Go back through all nodes that the rows depend on."""
        for node in reversed(nodes):
            rows = self.coefficients.pop(node.output, None)
            if rows is None:
                continue
            check_deadline()
            if isinstance(node, Relu):
                self.through_relu(node, rows)
            else:
                self.through_affine(self.maps[node.output], rows)

    def through_affine(self, affine: AffineRelaxation[Array], rows: Array) -> None:
        """From rows over the output of a map to rows over its inputs."""
        self.shift(rows @ affine.bias)
        for name, part in affine.backward(rows):
            self.add(name, part)

    def through_relu(self, relu: Relu, rows: Array) -> None:
        """From rows over the output of a ReLU to rows over its input."""
        relaxed = self.relaxed(relu, rows)
        step = relaxed.backward(rows)
        if step.rest is not None and relaxed.peaks is not None:
            values = step.rest @ relaxed.peaks
            self.at_vertices = values if self.at_vertices is None else self.at_vertices + values
        if relaxed.multipliers is not None:
            self.add(relu.input, relaxed.multipliers)
        self.add(relu.input, step.part)
        self.account(relu, relaxed, step)
        if step.constant is not None:
            self.shift(step.constant)

    def account(self, relu: Relu, relaxed: ReluRelaxation[Array], step: BackwardStep[Array]) -> None:
        """What a pass keeps of a step through a ReLU; nothing by default."""

    def shift(self, constant: Array) -> None:
        """Add to the constant."""
        self.constant = self.constant + constant

    def add(self, name: str, part: Array) -> None:
        """Add coefficients of a tensor."""
        self.coefficients[name] = self.coefficients[name] + part if name in self.coefficients else part
