"""A query as a mixed-integer linear program: big-M ReLUs from proven bounds, native regions, L2 balls by tangents."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.errors import QueryError
from veriflow.numerics.arrays import Indices, Vector
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Divisor, Graph, Relu
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.region import Part

from .cones import Cone

Triples = tuple[Indices, Indices, Vector]
"""Rows, columns and values of entries."""


@dataclass(frozen=True, eq=False)
class MilpModel:
    """``row_lower ≤ matrix · v ≤ row_upper`` and ``lower ≤ v ≤ upper``, with ``v[integral]`` whole numbers.

    Attributes:
        inputs: columns of the graph's input.
        slack: column of the violation's least slack: how far all constraints of the disjunct are met.
        norm: column that is at least the norm of the input's first part, the latent one of a query on a flow (the
            infinity norm for a box), to be minimised.
        cones: the L2 balls of inputs; rows hold only some of their tangents, so that the program is a relaxation.
    """

    matrix: sparse.csr_array
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector
    integral: NDArray[np.bool_]
    inputs: Indices
    slack: int
    norm: int
    cones: tuple[Cone, ...] = ()

    def tightened(self, solution: Vector) -> MilpModel | None:
        """The program with tangents at a solution that lies outside of a cone, or None where it lies in all of them."""
        missed = [cone.violated_tangents(solution) for cone in self.cones]
        return self._below_zero(missed) if any(rows.shape[0] for rows in missed) else None

    def with_first_tangents(self) -> MilpModel:
        """The program with the first tangents of its cones."""
        return self._below_zero([cone.first_tangents(len(self.lower)) for cone in self.cones])

    def drawn_in(self, solution: Vector) -> Vector:
        """The solution with an input that is outside of an L2 ball moved onto its sphere."""
        drawn = solution.copy()
        for cone in self.cones:
            length = float(np.linalg.norm(solution[cone.inputs]))
            drawn[cone.inputs] *= min(1.0, self.upper[cone.norm] / max(length, 1e-300))
        return drawn

    def _below_zero(self, rows: list[sparse.coo_array]) -> MilpModel:
        if not rows:
            return self
        matrix = sparse.csr_array(sparse.vstack([self.matrix, *rows]))
        more = matrix.shape[0] - len(self.row_upper)
        lower, upper = np.full(more, -np.inf), np.zeros(more)
        return replace(
            self,
            matrix=matrix,
            row_lower=np.concatenate([self.row_lower, lower]),
            row_upper=np.concatenate([self.row_upper, upper]),
        )


class _Builder:
    """Columns and rows as they come; rows are kept as (row, column, value) triples."""

    def __init__(self) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integral: list[bool] = []
        self.row_lower: list[float] = []
        self.row_upper: list[float] = []
        self.rows: list[Indices] = []
        self.columns: list[Indices] = []
        self.values: list[Vector] = []
        self.cones: list[Cone] = []

    def add_columns(self, lower: Vector, upper: Vector, integral: bool = False) -> Indices:
        start = len(self.lower)
        self.lower += lower.tolist()
        self.upper += upper.tolist()
        self.integral += [integral] * len(lower)
        return np.arange(start, start + len(lower))

    def add_rows(self, lower: Vector, upper: Vector, *terms: Triples) -> None:
        """Rows ``lower ≤ Σ value · v[column] ≤ upper``; a column of −1 stands for the number zero."""
        start = len(self.row_lower)
        for row, column, value in terms:
            kept = column >= 0
            self.rows.append(start + row[kept])
            self.columns.append(column[kept])
            self.values.append(value[kept])
        self.row_lower += lower.tolist()
        self.row_upper += upper.tolist()

    def matrix(self) -> sparse.csr_array:
        triples = (np.concatenate(self.values), (np.concatenate(self.rows), np.concatenate(self.columns)))
        return sparse.csr_array(sparse.coo_array(triples, shape=(len(self.row_lower), len(self.lower))))


def _each(columns: Indices, values: Vector | float = 1.0) -> Triples:
    """One entry in each row: a column times a value."""
    return np.arange(len(columns)), columns, np.broadcast_to(np.asarray(values, dtype=np.float64), columns.shape)


def _all(columns: Indices, values: Vector | float = 1.0) -> Triples:
    """A single row: all columns, each times a value."""
    return np.zeros(len(columns), dtype=np.int64), *_each(columns, values)[1:]


def milp_model(query: Query, bounds: Bounds, disjunct: tuple[Constraint, ...], least_slack: float) -> MilpModel:
    """The program whose solutions are the inputs of the region that meet one disjunct up to ``least_slack``.

    ``bounds`` must hold over the region (`symbolic_bounds`); where those of the input are narrower
    than the region, the program is about that part of it. Units that the bounds show to be stable need no binary. A
    strict constraint is taken as met with slack zero: telling the two apart is the exact replay's duty. An L2 ball
    is relaxed to some of its tangents, see `MilpModel.tightened`.

    Raises:
        QueryError: an L2 shell, whose inside no tangents can exclude.
    """
    builder = _Builder()
    inputs, norm = _add_region(builder, query, bounds)
    columns = _add_graph(builder, query.graph, bounds, inputs)
    outputs, size = columns[query.graph.output], bounds.magnitude(query.graph.output)
    slack = builder.add_columns(np.array([least_slack]), np.array([max(_largest_slack(disjunct, size), least_slack)]))
    for constraint in disjunct:
        places = [index for index, _ in constraint.coefficients]
        values = np.array([float(coefficient) for _, coefficient in constraint.coefficients])
        bound = np.array([float(constraint.bound)])
        builder.add_rows(bound, np.array([np.inf]), _all(outputs[places], values), _all(slack, -1.0))
    model = MilpModel(
        builder.matrix(),
        np.array(builder.row_lower),
        np.array(builder.row_upper),
        np.array(builder.lower),
        np.array(builder.upper),
        np.array(builder.integral),
        inputs,
        int(slack[0]),
        norm,
        tuple(builder.cones),
    )
    return model.with_first_tangents()


def _largest_slack(disjunct: tuple[Constraint, ...], size: Vector) -> float:
    """An upper bound on the least slack for outputs of at most this size: finite, as HiGHS needs it."""
    sums = [abs(float(row.bound)) + sum(abs(float(c)) * size[i] for i, c in row.coefficients) for row in disjunct]
    return 2.0 * min(sums, default=1.0)


def _add_region(builder: _Builder, query: Query, bounds: Bounds) -> tuple[Indices, int]:
    inputs = builder.add_columns(bounds.lower[query.graph.input], bounds.upper[query.graph.input])
    norms = [_add_part(builder, part, inputs[place]) for place, part in query.region.placed_parts]
    return inputs, norms[0]


def _add_part(builder: _Builder, region: Part, inputs: Indices) -> int:
    """Rows that keep inputs in a ball or box; the column of their norm."""
    p, r, inner, most = region.p, region.radius, region.inner, region.reach
    if p == 2 and inner:
        raise QueryError(f"expected shells of norm 1 or inf, or a filled ball of norm 2; got {region}")
    d = region.dim
    ones, zeros = np.ones(d), np.zeros(d)
    norm = builder.add_columns(np.array([inner]), np.array([r]))
    infinite = np.full(d, np.inf)
    if p == math.inf:
        below = _each(np.broadcast_to(norm, d), -1.0)
        builder.add_rows(-infinite, zeros, _each(inputs), below)
        builder.add_rows(-infinite, zeros, _each(inputs, -1.0), below)
        if inner:
            signs = builder.add_columns(np.zeros(2 * d), np.ones(2 * d), integral=True)
            # a sign that is 1 pushes its coordinate out to the inner radius; at least one is
            builder.add_rows(-r * ones, infinite, _each(inputs), _each(signs[:d], -(r + inner)))
            builder.add_rows(-r * ones, infinite, _each(inputs, -1.0), _each(signs[d:], -(r + inner)))
            builder.add_rows(np.array([1.0]), np.array([np.inf]), _all(signs))
    elif p == 2:
        shares = builder.add_columns(zeros, r * ones)
        builder.add_rows(np.array([-np.inf]), np.zeros(1), _all(shares), _all(norm, -1.0))
        builder.cones.append(Cone(inputs, shares, int(norm[0])))
    else:
        positive, negative = builder.add_columns(zeros, most * ones), builder.add_columns(zeros, most * ones)
        builder.add_rows(zeros, zeros, _each(inputs), _each(positive, -1.0), _each(negative))
        builder.add_rows(np.zeros(1), np.zeros(1), _all(positive), _all(negative), _all(norm, -1.0))
        if inner:
            # only one of the two parts may be positive, so that their sum is the norm and not just above it
            phase = builder.add_columns(zeros, ones, integral=True)
            builder.add_rows(-infinite, zeros, _each(positive), _each(phase, -most))
            builder.add_rows(-infinite, most * ones, _each(negative), _each(phase, most))
    return int(norm[0])


def _add_graph(builder: _Builder, graph: Graph, bounds: Bounds, inputs: Indices) -> dict[str, Indices]:
    """Columns of every tensor, −1 where an entry is the number zero."""
    columns = {graph.input: inputs}
    for node in graph.nodes:
        low, high = bounds.lower[node.output], bounds.upper[node.output]
        if isinstance(node, Relu):
            columns[node.output] = _add_relu(builder, columns[node.input], bounds, node)
            continue
        out = builder.add_columns(low, high)
        terms = [(row, columns[name][column], -value) for name, row, column, value in node.entries]
        if node.divisor is None:
            builder.add_rows(node.bias, node.bias, _each(out), *terms)
        else:
            below, above = _numerators(node.bias, node.divisor, bounds.magnitude(node.output))
            builder.add_rows(below, above, _each(out, node.divisor.low), *terms)
        columns[node.output] = out
    return columns


def _numerators(bias: Vector, divisor: Divisor, size: Vector) -> tuple[Vector, Vector]:
    """Ends of ``low · t − W x`` where ``s t = W x + bias`` with s from low to high: (s − low) t is what it is off by."""
    off = 1.001 * (divisor.high - divisor.low) * size
    return (
        np.where(off > 0, np.nextafter(bias - off, -np.inf), bias),
        np.where(off > 0, np.nextafter(bias + off, np.inf), bias),
    )


def _add_relu(builder: _Builder, before: Indices, bounds: Bounds, node: Relu) -> Indices:
    low, high = bounds.lower[node.input], bounds.upper[node.input]
    after = np.where(low >= 0, before, -1)
    unstable = (low < 0) & (high > 0)
    y, low, high = before[unstable], low[unstable], high[unstable]
    h = builder.add_columns(np.zeros(len(y)), high)
    active = builder.add_columns(np.zeros(len(y)), np.ones(len(y)), integral=True)
    zeros, infinite = np.zeros(len(y)), np.full(len(y), np.inf)
    builder.add_rows(zeros, infinite, _each(h), _each(y, -1.0))
    builder.add_rows(-infinite, zeros, _each(h), _each(active, -high))
    builder.add_rows(-infinite, -low, _each(h), _each(y, -1.0), _each(active, -low))
    after[unstable] = h
    return after
