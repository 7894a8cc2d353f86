"""β-CROWN: slopes, and multipliers of split units, for hundreds of domains at once by gradient ascent.

A domain is the part of a region in which some units have a given sign. The ascent is in float32. Its gradient is written out:
a bound is attained at a point of the region, and the adjoint of the backward pass carries this point forward through the
relaxations of the units. `veriflow.piecewise.bounds.crown` then proves bounds in float64 with the parameters that were found.

Sources: Wang et al., *Beta-CROWN*, NeurIPS 2021, section 3.2; Kingma and Ba, *Adam*, ICLR 2015, algorithm 1. Over regions with
few vertices, the weights of the chords are parameters as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...numerics.arrays import Single, Vector
from ...numerics.products import dot
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, Relu, dense
from .alpha_crown import ENOUGH, MarginBounds, margin_bounds
from .relaxation import AffineRelaxation, BackwardPass, ReluRelaxation, affine_relaxations
from .tensor_bounds import Bounds, Regions, RelaxationParameters

RATE, STEPS, VERTEX_STEPS = 0.1, 3, 6
"""The learning rate of Adam, and its steps over regions without and with vertices, where there are more parameters."""

KEPT, KEPT_SQUARES, TINY = 0.9, 0.999, 1e-8
"""β₁, β₂ and ε of Adam."""


@dataclass(frozen=True, eq=False, slots=True)
class _Units:
    """A ReLU's units in every domain, with the lines of `Bounds.unit_lines` in float32; arrays ``[batch, size]``.

    ``turned`` is −1 for units that are never negative, 1 for those that are never positive, else 0.
    """

    place: slice
    unstable: NDArray[np.bool_]
    turned: Single
    slope: Single
    offset: Single
    peaks: Single | None


class BetaAscent:
    """The ascent over domains of one region.

    Parameters are one array ``[batch, 3, units]``: slopes, multipliers and chords of all ReLU units, as in
    `RelaxationParameters`.

    Args:
        graph: whose output is bounded.
        region: of its inputs.
    """

    def __init__(self, graph: Graph, region: Regions) -> None:
        self.graph, self.region = graph, region
        self.places = graph.unit_places
        self.maps = affine_relaxations(graph, lambda array: _single(dense(array)))
        self.vertices = None if region.vertices is None else _single(region.vertices)

    def ascend(self, bounds: Bounds, rows: Vector, limits: Vector, start: Single) -> tuple[MarginBounds, Single]:
        """Proved lower bounds on ``limits − rows @ output`` in each domain, and the parameters that were found.

        Args:
            bounds: of the inputs of ReLUs ``[batch, size]``, which hold in the domains.
            rows: one for each domain, ``[batch, outputs]``.
            limits: ``[batch]``.
            start: the parameters to begin with.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            choices = self._ascended(self._units(bounds), rows, limits, start)
        found = self._parameters(choices)
        return margin_bounds(self.graph, self.region, bounds, rows[:, None], limits[:, None], found), choices

    def _ascended(self, units: dict[str, _Units], rows: Vector, limits: Vector, start: Single) -> Single:
        """Parameters after some steps; those whose steps overflow stay as they are."""
        choices = start.copy()
        # the weights of chords are free only where there are vertices
        chosen = choices if self.vertices is not None else choices[:, :2]
        given, limit = _single(-rows), _single(limits)
        enough = ENOUGH * _single(np.abs(rows).sum(-1) + np.abs(limits))
        mean = square = np.zeros((), dtype=np.float32)
        for step in range(1, 1 + (STEPS if self.vertices is None else VERTEX_STEPS)):
            values, gradient = self._values_and_gradient(units, given, choices)
            is_open = values + limit < enough
            if not is_open.any():
                break
            gradient = np.where(is_open[:, None, None], gradient[:, : chosen.shape[1]], 0)
            mean = KEPT * mean + (1 - KEPT) * gradient
            square = KEPT_SQUARES * square + (1 - KEPT_SQUARES) * gradient**2
            size = np.sqrt(square / (1 - KEPT_SQUARES**step)) + TINY * enough[:, None, None]
            change = (RATE / (1 - KEPT**step)) * mean / size
            np.add(chosen, change, out=chosen, where=np.isfinite(change))
            np.maximum(chosen, 0, out=chosen)
            np.minimum(choices[:, ::2], 1, out=choices[:, ::2])
        return choices

    def _parameters(self, choices: Single) -> RelaxationParameters:
        kinds = choices.astype(np.float64)[:, :, None, :]
        slopes, multipliers, chords = (
            {name: kinds[:, kind, :, place] for name, place in self.places.items()} for kind in range(3)
        )
        return RelaxationParameters(slopes, chords, multipliers)

    def _units(self, bounds: Bounds) -> dict[str, _Units]:
        found = {}
        for relu in self.graph.relus:
            lines = bounds.unit_lines(relu)
            peaks = None if self.vertices is None else _single(np.maximum(bounds.convex[relu.input], 0))
            turned = _single(np.where(lines.on, -1, np.where(lines.unstable, 0, 1)))
            place, slope, offset = self.places[relu.output], _single(lines.slope), _single(lines.offset)
            found[relu.output] = _Units(place, lines.unstable, turned, slope, offset, peaks)
        return found

    def _values_and_gradient(self, units: dict[str, _Units], rows: Single, choices: Single) -> tuple[Single, Single]:
        """Lower bounds on ``rows @ output`` ``[batch]``, and their derivatives by all parameters."""
        back = _ChosenPass(self.maps, (self.graph.output, rows), units, choices)
        back.run(self.graph.nodes)
        nothing = np.zeros((len(rows), self.graph.input_size), dtype=np.float32)
        least, point, shares = self._attained(back.coefficients.get(self.graph.input, nothing), back.at_vertices)
        return least + back.constant, self._gradient(back, point, shares)

    def _attained(self, last: Single, at_vertices: Single | None) -> tuple[Single, Single, Single | None]:
        """The least values over the region ``[batch]``, where they are attained, and the weights of vertices in that point."""
        if self.vertices is None:
            point = _single(self.region.farthest(-last.astype(np.float64)))
            return dot(last, point), point, None
        values = last @ self.vertices.T
        if at_vertices is not None:
            values += at_vertices
        shares = np.zeros_like(values)
        if self.region.shares is None:
            shares[np.arange(len(values)), values.argmin(axis=1)] = 1
        else:
            dim = len(self.region.shares)
            ends = np.where(
                values[:, 1 : dim + 1] <= values[:, dim + 1 :], np.arange(1, dim + 1), np.arange(dim + 1, 2 * dim + 1)
            )
            drops = np.minimum(np.take_along_axis(values, ends, 1) - values[:, :1], 0)
            ranked = np.empty_like(drops)
            np.put_along_axis(ranked, drops.argsort(axis=1), _single(self.region.shares)[None], 1)
            ranked[drops == 0] = 0
            np.put_along_axis(shares, ends, ranked, 1)
            shares[:, 0] = 1 - ranked.sum(axis=1)
        return dot(values, shares), shares @ self.vertices, shares

    def _gradient(self, back: _ChosenPass, point: Single, shares: Single | None) -> Single:
        """Derivatives of the bounds by all parameters, by the adjoint of the backward pass."""
        gradient = np.zeros_like(back.choices)
        points = {self.graph.input: point}
        for node in self.graph.nodes:
            check_deadline()
            if isinstance(node, Affine):
                points[node.output] = self.maps[node.output].adjoint(points)
            elif node.output in back.taken:
                units, before = back.units[node.output], points[node.input]
                rows, relaxed = back.taken[node.output]
                convex = None if shares is None or units.peaks is None else shares @ units.peaks.T
                step = relaxed.adjoint(rows, before, convex)
                gradient[:, 0, units.place] = step.by_below * units.unstable
                gradient[:, 1, units.place] = units.turned * before
                if step.by_chords is not None:
                    gradient[:, 2, units.place] = step.by_chords * units.unstable
                points[node.output] = step.output
            else:
                points[node.output] = np.zeros((len(point), self.graph.sizes[node.output]), dtype=np.float32)
        return gradient


class _ChosenPass(BackwardPass[Single]):
    """The backward pass of one row for each domain, with the parameters there.

    Attributes:
        taken: by output of a ReLU, the rows over it and its relaxation.
    """

    def __init__(
        self,
        maps: Mapping[str, AffineRelaxation[Single]],
        start: tuple[str, Single],
        units: dict[str, _Units],
        choices: Single,
    ) -> None:
        super().__init__(maps, [start], np.zeros(len(choices), dtype=np.float32))
        self.units, self.choices = units, choices
        self.taken: dict[str, tuple[Single, ReluRelaxation[Single]]] = {}

    def relaxed(self, relu: Relu, rows: Single) -> ReluRelaxation[Single]:
        """The lines of the units, with the parameters of the domains."""
        units = self.units[relu.output]
        slopes, multipliers, chords = self.choices[..., units.place].swapaxes(0, 1)
        below = np.where(units.unstable, slopes, units.slope)
        shares = None if units.peaks is None else np.where(units.unstable, chords, np.float32(1))
        turned = units.turned * multipliers
        relaxed = ReluRelaxation(below, units.slope, units.offset, shares, units.peaks, turned)
        self.taken[relu.output] = (rows, relaxed)
        return relaxed


def _single(array: Vector) -> Single:
    return np.ascontiguousarray(array, dtype=np.float32)
