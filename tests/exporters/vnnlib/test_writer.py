"""The written text means the query: an independent reader re-evaluates it at exact points."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import vnnlib
from hypothesis import given
from hypothesis import strategies as st
from small_queries import PROPERTIES, REGIONS, exact, points_about, random_graph, small_query
from vnnlib_text import parsed, satisfied

from exporters import portable_form, to_vnnlib1, to_vnnlib2
from exporters.forms.numerals import decimal_text, portable_constraint
from veriflow.errors import QueryError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.constraints import Constraint, y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box


@pytest.mark.parametrize("version", [to_vnnlib1, to_vnnlib2])
@pytest.mark.parametrize("prop", PROPERTIES)
@pytest.mark.parametrize("region", REGIONS)
def test_the_text_holds_where_the_query_does(region, prop, version):
    answers = set()
    for seed in range(3):
        query = small_query(region, prop, seed)
        form = portable_form(query)
        text = version(form, query.text)
        for point in map(exact, points_about(query.region, np.random.default_rng(seed), 40)):
            outputs = evaluate_exact(query.graph, point)[query.graph.output]
            want = query.region.contains(point) and query.violated_by(outputs)
            portable = evaluate_exact(form.graph, point)[form.graph.output]
            assert satisfied(text, point, portable) == want
            answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize("region", ["L1 ball", "L1 shell", "Linf shell"])
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
def test_the_norm_output_is_the_norm(region, dim):
    ball = REGIONS[region]
    graph = random_graph(0, dim=dim)
    query = Query(
        graph,
        Ball(ball.p, ball.radius, dim, ball.inner).rounded_outward(),
        ((Constraint(((0, Fraction(1)),), Fraction(0)),),),
        "",
        "x",
    )
    form = portable_form(query)
    for point in map(exact, points_about(query.region, np.random.default_rng(0), 10)):
        *outputs, norm = evaluate_exact(form.graph, point)[form.graph.output]
        assert norm == (sum if ball.p == 1 else max)(map(abs, point))
        assert outputs == evaluate_exact(graph, point)[graph.output]


def test_one_bound_an_assertion_and_one_assertion_on_outputs():
    text = to_vnnlib1(portable_form(small_query("L1 shell", "mixed")))
    terms = [term[1] for term in parsed(text) if term[0] == "assert"]
    *bounds, outputs = terms
    assert all(len(term) == 3 and term[1].startswith("X_") for term in bounds)
    assert len(bounds) == 6
    assert outputs[0] == "or"
    assert all(row[0] == "and" for row in outputs[1:])
    assert "X_" not in str(outputs)
    assert all(isinstance(part, str) for row in outputs[1:] for comparison in row[1:] for part in comparison)


def test_numbers_have_a_point_and_no_exponent():
    query = small_query("box", "largest").at(Box(np.array([-1e-30, 0.0, 3.0]), np.array([1e-30, 2e20, 3.0])))
    for text in (to_vnnlib1(portable_form(query)), to_vnnlib2(portable_form(query))):
        numbers = [
            token for term in parsed(text) if term[0] == "assert" for token in str(term).replace("'", " ").split()
        ]
        assert not [token for token in numbers if re.match(r"-?[\d.]+[eE]", token)]
        assert "(assert (>= X_2 3.0))" in text or "(assert (>= X[0,2] 3.0))" in text


@pytest.mark.parametrize("prop", PROPERTIES)
@pytest.mark.parametrize("region", REGIONS)
def test_version_two_is_parsed_by_the_standard_parser(region, prop):
    query = small_query(region, prop)
    form = portable_form(query)
    parsed_query = vnnlib.parse_query_string(to_vnnlib2(form, query.text))
    (network,) = parsed_query.networks
    assert network.name == "N"
    assert [tuple(end.shape) for end in (*network.inputs, *network.outputs)] == [(1, 3), (1, form.graph.output_size)]
    assert len(parsed_query.assertions) == 2 * 3 + 1


def test_strict_comparisons_are_counted_and_said():
    prop = formula_property(y[0] >= 1)
    graph = random_graph(0)
    query = Query(graph, Ball(math.inf, 0.5, 3), prop.violation(3), prop.text, "x")
    form = portable_form(query)
    assert form.weakened == 1
    assert "; 1 strict comparisons are written as non-strict ones\n" in to_vnnlib1(form)
    assert portable_form(small_query("box", "largest")).weakened == 0


def test_text_stays_in_its_comment():
    text = to_vnnlib1(portable_form(small_query("box", "largest")), "two\nlines (assert false)")
    assert text.startswith("; can this be violated: two lines (assert false)\n")
    assert len([term for term in parsed(text) if term[0] == "assert"]) == 7


def test_ends_are_rounded_outward():
    graph = random_graph(0)
    prop = PROPERTIES["largest"]
    query = Query(graph, Ball(1, 0.1, 3, 0.05), prop.violation(3), prop.text, "x")
    form = portable_form(query)
    (upper, lower) = form.disjuncts[0][-2:]
    assert (upper.sign, lower.sign) == ("<=", ">=")
    assert Fraction(0.1) < upper.bound < Fraction(0.1000001)
    assert Fraction(0.0499999) < lower.bound < Fraction(0.05)
    assert (form.box.upper > 0.1).all()


def violation(*constraints):
    return (tuple(Constraint(tuple((i, Fraction(c)) for i, c in terms), Fraction(b)) for terms, b in constraints),)


def test_what_no_version_can_say_is_refused():
    graph = random_graph(0)
    rows = violation((((0, 1),), 0))
    with pytest.raises(QueryError, match=r"linear constraints; got .*_2"):
        portable_form(Query(graph, Ball(2, 1.0, 3), rows, "", "x"))
    with pytest.raises(QueryError, match="one that always holds"):
        portable_form(Query(graph, Ball(1, 1.0, 3), ((),), "", "x"))
    wild = violation((((0, Fraction(1, 2**30 + 1)), (1, 1)), 0))
    with pytest.raises(QueryError, match="coefficients scale to float32"):
        portable_form(Query(graph, Ball(1, 1.0, 3), wild, "", "x"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_are_exact(number):
    text = decimal_text(number)
    assert re.fullmatch(r"-?(0|[1-9]\d*)\.(0|\d*[1-9])", text)
    assert Fraction(text) == Fraction(number)


@given(st.integers(-(10**9), 10**9), st.integers(0, 40), st.integers(0, 20))
def test_decimals_of_tens(numerator, twos, fives):
    number = Fraction(numerator, 2**twos * 5**fives)
    assert Fraction(decimal_text(number)) == number


@pytest.mark.parametrize("number", [Fraction(1, 3), math.nan, math.inf, Fraction(7, 30)])
def test_other_numbers_are_refused(number):
    with pytest.raises(QueryError, match="expected a"):
        decimal_text(number)


fractions = st.fractions(-100, 100, max_denominator=1000)


@given(st.lists(fractions.filter(bool), min_size=1, max_size=3), fractions, st.lists(fractions, min_size=3, max_size=3))
def test_portable_constraints_mean_the_same(coefficients, bound, point):
    constraint = Constraint(tuple(enumerate(coefficients)), bound)
    try:
        scaled = portable_constraint(constraint)
    except QueryError:
        return
    factor = scaled.coefficients[0][1] / coefficients[0]
    assert factor > 0
    assert scaled.slack(point) == factor * constraint.slack(point)
    decimal_text(scaled.bound)
    assert all(Fraction(float(np.float32(float(c)))) == c for _, c in scaled.coefficients)
