"""Formulas and scripts: the same answer from Z3 on the text, from Z3 through pySMT, and the truth at points."""

import math
import re
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import z3
from pysmt.shortcuts import And, Equals, Real, Solver, get_free_variables, is_sat
from shares import by_day
from small_queries import (
    PROPERTIES,
    REGIONS,
    exact,
    points_about,
    random_flow,
    random_network,
    small_query,
)

from exporters import input_symbols, query_formula, to_smtlib
from veriflow.errors import QueryError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu, compose, identity
from veriflow.queries.constraints import y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball


def answer_of_text(text):
    solver = z3.SolverFor("QF_LRA")
    solver.from_string(text)
    return str(solver.check())


def with_bounds(query):
    return symbolic_bounds(query.graph, query.region)


@pytest.mark.parametrize(("region", "prop"), by_day(product(REGIONS, PROPERTIES), 11))
def test_at_a_point_the_formula_is_the_query(region, prop):
    query = small_query(region, prop, seed=1)
    formulas = [query_formula(query), query_formula(query, with_bounds(query))]
    for point in map(exact, points_about(query.region, np.random.default_rng(0), 4)):
        outputs = evaluate_exact(query.graph, point)[query.graph.output]
        want = query.region.contains(point) and query.violated_by(outputs)
        here = And(Equals(symbol, Real(v)) for symbol, v in zip(input_symbols(query), point, strict=True))
        assert [is_sat(And(formula, here), "z3", "QF_LRA") for formula in formulas] == [want, want]


def tiny_query(region, margin):
    """|z_0 + z_1| as two ReLUs of a skipped input: the largest value over the region is known."""
    signs = np.array([[1.0, 1.0], [-1.0, -1.0]])
    total = Affine("y", (("h", np.ones((1, 2))), ("z", np.zeros((1, 2)))), np.zeros(1))
    graph = Graph("z", 2, (Affine("a", (("z", signs),), np.zeros(2)), Relu("h", "a"), total), "y")
    prop = formula_property(y[0] < margin)
    return Query(graph, region, prop.violation(1), prop.text, "z")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("region", "most"),
    [
        (Ball(1, 0.5, 2), Fraction(1, 2)),
        (Ball(math.inf, 0.5, 2), Fraction(1)),
        (Ball(1, 0.5, 2, 0.25), Fraction(1, 2)),
        (Ball(math.inf, 0.5, 2, 0.5), Fraction(1)),
    ],
)
def test_the_largest_value_is_reached_and_not_passed(region, most, strict):
    for gap, reachable in ((Fraction(0), not strict), (Fraction(1, 10**9), False), (Fraction(-1, 10**9), True)):
        query = tiny_query(region, most + gap)
        if strict:
            prop = formula_property(y[0] <= most + gap)
            query = Query(query.graph, region, prop.violation(1), prop.text, "z")
        want = "sat" if reachable else "unsat"
        assert answer_of_text(to_smtlib(query)) == want
        assert answer_of_text(to_smtlib(query, with_bounds(query))) == want


@pytest.mark.parametrize("p", [1, math.inf])
def test_a_shell_is_hollow(p):
    """The violation is the box |z_i| ≤ 1/8, whose greatest norm is 1/4 in L1 and 1/8 in L∞."""
    edge = 0.25 if p == 1 else 0.125
    graph = Graph("z", 2, (Affine("y", (("z", identity(2)),), np.zeros(2)),), "y")
    near = formula_property(~((y[0] <= 0.125) & (y[0] >= -0.125) & (y[1] <= 0.125) & (y[1] >= -0.125)))
    for inner, want in ((0.0, "sat"), (edge, "sat"), (edge + 2.0**-20, "unsat")):
        query = Query(graph, Ball(p, 1.0, 2, inner), near.violation(2), "", "z")
        assert answer_of_text(to_smtlib(query)) == want


@pytest.mark.parametrize("region", REGIONS)
def test_text_formula_and_sampling_agree(region):
    answers = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        graph = compose(random_flow(rng, 3, 1, 2, depth=1), random_network(rng, (3, 3, 3)))
        center = evaluate_exact(graph, exact(REGIONS[region].upper))[graph.output]
        prop = classified_as(int(np.argmax([float(v) for v in center])), -0.05)
        query = Query(graph, REGIONS[region].rounded_outward(), prop.violation(3), prop.text, "x")
        answer = answer_of_text(to_smtlib(query, with_bounds(query)))
        assert answer == answer_of_text(to_smtlib(query))
        with Solver(name="z3", logic="QF_LRA") as solver:
            solver.add_assertion(query_formula(query, with_bounds(query)))
            found = solver.solve()
            if found:
                point = [solver.get_py_value(symbol) for symbol in input_symbols(query)]
        assert found == (answer == "sat")
        if found:
            witness = [Fraction(int(v.numerator), int(v.denominator)) for v in point]
            assert query.region.contains(witness)
            assert query.violated_by(evaluate_exact(graph, witness)[graph.output])
        for sample in map(exact, points_about(query.region, rng, 20)):
            if query.region.contains(sample) and query.violated_by(evaluate_exact(graph, sample)[graph.output]):
                assert found
        answers.add(answer)
    assert answers <= {"sat", "unsat"}


def test_bounds_remove_stable_units_and_their_symbols():
    query = small_query("Linf ball", "largest").at(Ball(math.inf, 2.0**-20, 3))
    bounds = with_bounds(query)
    assert bounds.unstable(query.graph) == 0
    text = to_smtlib(query, bounds)
    assert "or" not in re.sub(r";.*", "", text).split("(assert ")[-2]
    assert len(get_free_variables(query_formula(query, bounds))) < len(get_free_variables(query_formula(query)))


def test_a_script_is_deterministic_and_complete():
    query = small_query("L1 shell", "mixed")
    text = to_smtlib(query, with_bounds(query))
    assert text == to_smtlib(query, with_bounds(query))
    lines = [line for line in text.splitlines() if not line.startswith(";")]
    assert lines[0] == "(set-logic QF_LRA)"
    assert lines[-1] == "(check-sat)"
    declared = re.findall(r"declare-fun (\S+) \(\) Real", text)
    assert declared[:3] == ["z_0", "z_1", "z_2"]
    assert len(set(declared)) == len(declared)
    assert not re.search(r"\d[eE][-+]?\d", text)


def test_comments_hold_one_line():
    query = small_query("box", "largest")
    loud = Query(query.graph, query.region, query.violation, "two\n(assert false)", "x")
    assert to_smtlib(loud).startswith("; can this be violated: two (assert false)\n; region: ")
    assert answer_of_text(to_smtlib(tiny_query(Ball(1, 0.5, 2), 0))) == "sat"


def test_l2_balls_are_refused():
    query = small_query("box", "largest")
    with pytest.raises(QueryError, match=r"linear constraints; got .*_2"):
        query_formula(query.at(Ball(2, 1.0, 3)))


def test_bounds_that_overflow_are_left_out():
    query = small_query("box", "largest")
    sizes = query.graph.sizes
    bounds = Bounds(
        {n: np.full(s, -1e308) for n, s in sizes.items()}, {n: np.full(s, np.inf) for n, s in sizes.items()}
    )
    assert answer_of_text(to_smtlib(query, bounds)) == answer_of_text(to_smtlib(query, with_bounds(query)))


def test_a_query_on_digits_is_written():
    rng = np.random.default_rng(0)
    graph = compose(random_flow(rng, 64, 2, 32), random_network(rng, (64, 32, 32, 10)))
    prop = classified_as(0)
    query = Query(graph, Ball(1, 1.0, 64), prop.violation(10), prop.text, "x")
    text = to_smtlib(query, with_bounds(query))
    assert text.count("(assert") > 500
