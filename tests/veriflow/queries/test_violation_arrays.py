"""A violation as arrays: what they say is what the constraints say, and they are made once for a violation."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from veriflow.piecewise.graph import Graph
from veriflow.queries.constraints import Constraint, Expression, total
from veriflow.queries.query import Query
from veriflow.queries.violation_arrays import ViolationArrays
from veriflow.regions.ball import Ball

OUTPUTS = 3
small = st.integers(-3, 3).map(Fraction)
expressions = st.builds(
    lambda coefficients, constant: Expression({i: c for i, c in coefficients.items() if c}, constant),
    st.dictionaries(st.integers(0, OUTPUTS - 1), small),
    small,
)
constraints = st.builds(lambda e, strict: e.at_least(Fraction(0), strict=strict), expressions, st.booleans())
points = st.lists(small, min_size=OUTPUTS, max_size=OUTPUTS)


@given(st.lists(st.lists(constraints, max_size=4).map(tuple), min_size=1, max_size=4).map(tuple), points)
def test_a_disjunct_holds_where_its_rows_reach_their_bounds(violation, point):
    arrays = ViolationArrays(violation, OUTPUTS)
    found = arrays.conjunctions
    reached = found.rows @ np.array([float(v) for v in point]) - found.bounds - arrays.missed >= 0
    assert [all(reached[list(group)]) for group in found.groups] == [
        all(constraint.holds(point) for constraint in row) for row in violation
    ]
    assert len(found.bounds) == max(1, len({constraint for row in violation for constraint in row}))


@given(st.lists(expressions, max_size=4), points)
def test_the_value_of_a_sum_is_the_sum_of_the_values(parts, point):
    whole = total(parts)
    assert whole.least(point, point) == sum(part.least(point, point) for part in parts)
    assert all(whole.coefficients.values())
    assert list(whole.coefficients) == sorted(whole.coefficients)


@given(constraints, points, st.lists(st.integers(0, 1), min_size=OUTPUTS, max_size=OUTPUTS))
def test_outputs_under_other_numbers_have_the_same_slack(constraint, values, numbers):
    moved = constraint.renumbered(numbers)
    assert moved.slack(values) == constraint.slack([values[number] for number in numbers])
    assert moved.strict == constraint.strict


def test_arrays_are_shared_by_queries_of_one_violation_and_by_no_others():
    graph = Graph("x", OUTPUTS, (), "x")
    row = (Constraint(((0, Fraction(1)),), Fraction(2)),)
    query = Query(graph, Ball(1, 1.0, OUTPUTS), (row,), "x[0] < 2", "x")
    assert query.at(Ball(1, 0.5, OUTPUTS)).arrays is query.arrays
    other = replace(query, violation=((Constraint(((1, Fraction(1)),), Fraction(3)),),))
    assert other.arrays.conjunctions.bounds.tolist() == [3.0]
    assert other.arrays.conjunctions.rows.tolist() == [[0.0, 1.0, 0.0]]
    wider = replace(query, graph=Graph("x", 4, (), "x"), region=Ball(1, 1.0, 4), output_names=())
    assert wider.arrays.conjunctions.rows.shape == (1, 4)
