"""Mixed-integer programs in units of their own size, as the tolerances of HiGHS are absolute."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from exporters import MilpModel
from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Graph, Relu
from veriflow.queries.constraints import Constraint

SMALLEST_COEFFICIENT = 1e-9
"""HiGHS drops coefficients up to this size."""

FEASIBILITY_TOLERANCE = 1e-9
"""How far HiGHS may leave a row or a bound, in the units of `balanced`."""

MARGIN_TOLERANCE = 1e-6
"""HOLDS needs every violation to miss by more than this, relative to the scale of its slack: solutions are floats."""


@dataclass(frozen=True, eq=False)
class BalancedModel:
    """A program whose columns are multiples of ``units``, powers of two: ``v = units · program's v``."""

    program: MilpModel
    units: Vector


def balanced(model: MilpModel) -> BalancedModel:
    """The program with columns of at most about one, rows with a largest coefficient of about one, nothing tiny.

    A coefficient that HiGHS would drop is dropped here, and its row is widened by the largest term that it can make: every
    solution stays one.
    """
    reach = np.maximum(np.abs(model.lower), np.abs(model.upper))
    units = np.where(model.integral, 1.0, _power_of_two(reach))
    scaled = sparse.csr_array(model.matrix @ sparse.diags_array(units))
    rows = _power_of_two(abs(scaled).max(axis=1).toarray().reshape(-1))
    scaled = sparse.csr_array(sparse.diags_array(1 / rows) @ scaled)
    tiny = np.abs(scaled.data) <= 2 * SMALLEST_COEFFICIENT
    dropped = scaled.copy()
    dropped.data = np.where(tiny, np.abs(scaled.data), 0.0)
    dropped.eliminate_zeros()  # nothing times an infinite reach is nothing
    wider = 2 * (dropped @ (reach / units))
    scaled.data[tiny] = 0.0
    scaled.eliminate_zeros()
    program = replace(
        model,
        matrix=scaled,
        lower=model.lower / units,
        upper=model.upper / units,
        row_lower=model.row_lower / rows - wider,
        row_upper=model.row_upper / rows + wider,
    )
    return BalancedModel(program, units)


def _power_of_two(sizes: Vector) -> Vector:
    """The power of two next above each size, and 1 for what is zero or infinite."""
    proper = np.isfinite(sizes) & (sizes > 0)
    return np.asarray(np.exp2(np.where(proper, np.frexp(np.where(proper, sizes, 1.0))[1], 0)))


def slack_scale(disjunct: tuple[Constraint, ...], bounds: Bounds, output: str) -> float:
    """The largest sum of magnitudes in a disjunct's slack, 1 at least: the margin tolerance is relative to it."""
    size = bounds.magnitude(output)
    return max(
        [1.0, *(abs(float(c.bound)) + sum(abs(float(a)) * float(size[i]) for i, a in c.coefficients) for c in disjunct)]
    )


def slack_tolerance(disjunct: tuple[Constraint, ...], bounds: Bounds, graph: Graph) -> float:
    """The slack below zero that programs must prove for HOLDS: the larger of two numbers.

    The first is `MARGIN_TOLERANCE` times `slack_scale`. The second bounds what violations of the rows by up to
    `FEASIBILITY_TOLERANCE` can add to the slack.
    """
    scale, error = slack_scale(disjunct, bounds, graph.output), _errors(graph, bounds)
    carried = max([0.0, *(sum(abs(float(a)) * float(error[i]) for i, a in row.coefficients) for row in disjunct)])
    return max(MARGIN_TOLERANCE * scale, 2 * (carried + FEASIBILITY_TOLERANCE * scale))


def _largest_terms(turned: Matrix, size: Vector) -> Vector:
    """In each column of absolute weights times sizes, the largest term; at most the sum of a few where they are sparse."""
    if sparse.issparse(turned):
        return np.asarray(turned.T @ size)
    return np.asarray((turned * size[:, None]).max(axis=0, initial=0.0))


def _errors(graph: Graph, bounds: Bounds) -> Vector:
    """How far the program's outputs may be from the graph's where each row is off by the tolerance."""
    error = {graph.input: FEASIBILITY_TOLERANCE * bounds.magnitude(graph.input)}
    for node in graph.nodes:
        low, high = bounds.lower[node.output], bounds.upper[node.output]
        if isinstance(node, Relu):
            before = error[node.input]
            unstable = (bounds.lower[node.input] < 0) & (high > 0)
            added = np.where(unstable, FEASIBILITY_TOLERANCE * bounds.magnitude(node.input), 0.0)
            error[node.output] = np.where(bounds.upper[node.input] <= 0, 0.0, before + added)
            continue
        carried, largest = np.zeros(len(node.bias)), bounds.magnitude(node.output)
        for name, _, _, absolute in node.products:
            carried = carried + absolute.T @ error[name]
            largest = np.maximum(largest, _largest_terms(absolute, bounds.magnitude(name)))
        error[node.output] = np.minimum(carried + FEASIBILITY_TOLERANCE * largest, high - low)
    return np.asarray(error[graph.output])
