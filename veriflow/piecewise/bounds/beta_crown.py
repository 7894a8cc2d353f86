"""Choosing lines and multipliers for many pieces of a region at once, by gradient ascent on what is to be excluded there.

The search is float32, with the gradient written out: the adjoint of the backward pass is a forward pass of the point at
which the bound is attained, through the lines of the units. What is found is then proved in float64 by
`veriflow.piecewise.bounds.crown`.

Sources: Wang et al., *Beta-CROWN*, NeurIPS 2021, section 3.2; Kingma and Ba, *Adam*, ICLR 2015, algorithm 1; here with convex
functions at vertices beside the upper lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...numerics.arrays import Vector
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph, Relu, dense, with_rounded_quotients
from .alpha_crown import ENOUGH, Exclusion, proved
from .tensor_bounds import Bounds, Regions, Relaxation

Single = NDArray[np.float32]

RATE, STEPS, VERTEX_STEPS = 0.1, 3, 6
"""Adam's rate and its steps: more where the region has vertices, and with them convex functions to choose as well."""

KEPT, KEPT_SQUARES, TINY = 0.9, 0.999, 1e-8
"""What Adam keeps of its means in each step, and what it divides by at least."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """A ReLU's units in every piece, as `veriflow.piecewise.bounds.crown` draws them; arrays ``[batch, size]``."""

    place: slice
    unstable: NDArray[np.bool_]
    sign: Single
    slope: Single
    fall: Single
    peaks: Single | None


class PieceAscent:
    """The ascent over pieces of one region.

    Choices are one array ``[batch, 3, units]``: slopes, multipliers and chords of all ReLU units, as in `Relaxation`.

    Args:
        graph: what is bounded.
        region: of its inputs; the pieces are parts of it.
    """

    def __init__(self, graph: Graph, region: Regions) -> None:
        self.graph, self.region = graph, region
        self.places = graph.unit_places
        self.affine = {
            node.output: ([(name, _single(dense(weight))) for name, weight in node.terms], _single(node.bias))
            for node in with_rounded_quotients(graph).nodes
            if isinstance(node, Affine)
        }
        self.vertices = None if region.vertices is None else _single(region.vertices)

    def exclude(self, bounds: Bounds, rows: Vector, limits: Vector, start: Single) -> tuple[Exclusion, Single]:
        """Whether ``rows @ output ≥ limits`` holds nowhere in each piece, and the choices that were found.

        Args:
            bounds: of the inputs of ReLUs ``[batch, size]``, which hold in the pieces.
            rows: one for each piece, ``[batch, outputs]``.
            limits: ``[batch]``.
            start: the choices to begin with.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            choices = self._ascended(self._lines(bounds), rows, limits, start)
        relaxation = self._relaxation(choices)
        return proved(self.graph, self.region, bounds, rows[:, None], limits[:, None], relaxation), choices

    def _ascended(self, lines: dict[str, _Lines], rows: Vector, limits: Vector, start: Single) -> Single:
        """Choices after some steps; those whose steps leave float32 stay as they are."""
        choices = start.copy()
        # without vertices chords are nothing to choose
        chosen = choices if self.vertices is not None else choices[:, :2]
        given, limit = _single(-rows), _single(limits)
        enough = ENOUGH * _single(np.abs(rows).sum(-1) + np.abs(limits))
        mean = square = np.zeros((), dtype=np.float32)
        for step in range(1, 1 + (STEPS if self.vertices is None else VERTEX_STEPS)):
            values, gradient = self._values_and_gradient(lines, given, choices)
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

    def _relaxation(self, choices: Single) -> Relaxation:
        kinds = choices.astype(np.float64)[:, :, None, :]
        slopes, multipliers, chords = (
            {name: kinds[:, kind, :, place] for name, place in self.places.items()} for kind in range(3)
        )
        return Relaxation(slopes, chords, multipliers)

    def _lines(self, bounds: Bounds) -> dict[str, _Lines]:
        found = {}
        for relu in self.graph.relus:
            drawn, peaks = bounds.unit_lines(relu), None
            if self.vertices is not None:
                peaks = _single(np.maximum(bounds.convex[relu.input], 0))
            sign = np.where(drawn.on, 1, np.where(drawn.unstable, 0, -1))
            place = self.places[relu.output]
            slope, fall = _single(drawn.slope), _single(drawn.offset)
            found[relu.output] = _Lines(place, drawn.unstable, _single(sign), slope, fall, peaks)
        return found

    def _values_and_gradient(self, lines: dict[str, _Lines], rows: Single, choices: Single) -> tuple[Single, Single]:
        """Lower bounds on ``rows @ output`` ``[batch]``, and their derivatives by all choices."""
        slopes, multipliers, chords = (choices[:, kind] for kind in range(3))
        coefficients, reached = {self.graph.output: rows}, {}
        constant: Single = np.zeros(len(rows), dtype=np.float32)
        at_vertices: Single = np.zeros((len(rows), 1), dtype=np.float32)
        for node in reversed(self.graph.nodes):
            if node.output not in coefficients:
                continue
            check_deadline()
            row = coefficients.pop(node.output)
            if isinstance(node, Affine):
                terms, bias = self.affine[node.output]
                constant = constant + row @ bias
                parts = [(name, row @ weight) for name, weight in terms]
            else:
                unit = lines[node.output]
                reached[node.output] = row
                chord = np.minimum(row, 0)
                above: Single = chord
                if unit.peaks is not None:
                    above = np.where(unit.unstable, chord * chords[:, unit.place], chord)
                    at_vertices = at_vertices + (chord - above) @ unit.peaks
                constant = constant + np.einsum("bu,bu->b", above, unit.fall)
                part = np.maximum(row, 0) * np.where(unit.unstable, slopes[:, unit.place], unit.slope)
                part += above * unit.slope
                part -= unit.sign * multipliers[:, unit.place]
                parts = [(node.input, part)]
            for name, part in parts:
                coefficients[name] = coefficients[name] + part if name in coefficients else part
        last = coefficients.get(self.graph.input, np.zeros((len(rows), self.graph.input_size), dtype=np.float32))
        least, point, shares = self._attained(last, at_vertices)
        return least + constant, self._gradient(lines, choices, reached, point, shares)

    def _attained(self, last: Single, at_vertices: Single) -> tuple[Single, Single, Single]:
        """The least values over the region ``[batch]``, where they are attained, and the shares of vertices in that point."""
        if self.vertices is None:
            point = _single(self.region.farthest(-last.astype(np.float64)))
            return np.einsum("bi,bi->b", last, point), point, at_vertices
        values = last @ self.vertices.T + at_vertices
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
        return np.einsum("bk,bk->b", values, shares), shares @ self.vertices, shares

    def _gradient(
        self, lines: dict[str, _Lines], choices: Single, reached: dict[str, Single], point: Single, shares: Single
    ) -> Single:
        """Derivatives of the bounds by all choices: the point goes forward through the lines that were taken."""
        gradient = np.zeros_like(choices)
        adjoint = {self.graph.input: point}
        for node in self.graph.nodes:
            check_deadline()
            if isinstance(node, Affine):
                terms, bias = self.affine[node.output]
                adjoint[node.output] = sum((adjoint[name] @ weight.T for name, weight in terms), bias)
            elif node.output in reached:
                self._through_relu(node, lines[node.output], choices, reached[node.output], gradient, adjoint, shares)
            else:
                adjoint[node.output] = np.zeros((len(point), self.graph.sizes[node.output]), dtype=np.float32)
        return gradient

    def _through_relu(
        self,
        node: Relu,
        unit: _Lines,
        choices: Single,
        row: Single,
        gradient: Single,
        adjoint: dict[str, Single],
        shares: Single,
    ) -> None:
        before = adjoint[node.input]
        gradient[:, 0, unit.place] = np.maximum(row, 0) * before * unit.unstable
        gradient[:, 1, unit.place] = -unit.sign * before
        upper = unit.slope * before + unit.fall
        if unit.peaks is not None:
            convex, share = shares @ unit.peaks.T, choices[:, 2, unit.place]
            gradient[:, 2, unit.place] = np.minimum(row, 0) * (upper - convex) * unit.unstable
            upper = np.where(unit.unstable, share * upper + (1 - share) * convex, upper)
        lower = np.where(unit.unstable, choices[:, 0, unit.place], unit.slope) * before
        adjoint[node.output] = np.where(row > 0, lower, upper)


def _single(array: Vector) -> Single:
    return np.ascontiguousarray(array, dtype=np.float32)
