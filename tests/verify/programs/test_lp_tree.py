"""Branch and bound on linear programs: what it proves is checked in rationals, and where HiGHS is wrong, it is not."""

import math
import sys
import time
from fractions import Fraction

import corpus
import highspy
import numpy as np
import pytest
from shares import by_day
from small_queries import threshold_query

from exporters import highs_model, milp_model, query_from_bytes
from veriflow.piecewise.bounds.crown import symbolic_bounds
from verify import Outcome, verify
from verify.programs.lp_tree import BranchedProgram
from verify.programs.scaling import balanced
from verify.programs.solve import solve_milp

WRONGLY_INFEASIBLE = corpus.TRUTH_FILE.with_name("wrongly_infeasible.query")
"""Two moons, a flow of three blocks: HiGHS 1.15 with tolerances of 1e-9 calls its program infeasible, with 105 binaries."""


def program(seed):
    query = threshold_query(seed)
    return milp_model(query, symbolic_bounds(query.graph, query.region), query.violation[0], -10.0)


def highs_says(model, minimise):
    """The optimum, or None where HiGHS finds no solution."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.passModel(highs_model(model, minimise))
    solver.run()
    optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return solver.getInfo().objective_function_value if optimal else None


def exact_dual(tree, model, cost, multipliers):
    """Weak duality in rationals: Σ yᵢ endᵢ + Σ min over [lⱼ, uⱼ] of (c − Aᵀy)ⱼ vⱼ."""
    total, left = Fraction(0), [Fraction(float(c)) for c in cost]
    dense = model.matrix.toarray()
    for row, y in enumerate(multipliers):
        end = model.row_lower[row] if y > 0 else model.row_upper[row]
        if y == 0 or not math.isfinite(end):
            continue
        total += Fraction(float(y)) * Fraction(float(end))
        for column in np.flatnonzero(dense[row]):
            left[column] -= Fraction(float(y)) * Fraction(float(dense[row, column]))
    for c, low, high in zip(left, tree.lower, tree.upper, strict=True):
        total += min(c * Fraction(float(low)), c * Fraction(float(high)))
    return total


@pytest.mark.parametrize("seed", range(6))
def test_bounds_by_weak_duality_are_below_the_exact_ones_and_near(seed):
    scaled = balanced(program(seed)).program
    tree = BranchedProgram(scaled, (scaled.slack, -1.0))
    rng = np.random.default_rng(seed)
    for size in (1e-6, 1.0, 1e6):
        multipliers = size * rng.standard_normal(len(scaled.row_lower)) * (rng.random(len(scaled.row_lower)) < 0.5)
        for cost in (tree.cost, 0 * tree.cost):
            proved, exact = tree._below(cost, multipliers), exact_dual(tree, scaled, cost, multipliers)
            assert Fraction(proved) <= exact
            assert proved == pytest.approx(float(exact), rel=1e-6, abs=1e-6 * size)


@pytest.mark.parametrize("seed", by_day(range(12), 5))
def test_answers_are_those_of_highs_as_a_mixed_integer_solver(seed):
    model = program(seed)
    for minimise in ((model.slack, -1.0), (model.norm, 1.0)):
        answer, said = solve_milp(model, minimise, time_limit=600), highs_says(model, minimise)
        assert answer.status == ("infeasible" if said is None else "optimal")
        if said is not None:
            assert answer.found == pytest.approx(said, abs=1e-5)
            assert answer.proved <= answer.found + 1e-9
            assert answer.proved == pytest.approx(answer.found, abs=1e-5)


def test_a_search_without_time_proves_nothing_false():
    model = program(3)
    answer = solve_milp(model, (model.slack, -1.0), time_limit=-1.0)
    assert (answer.status, answer.proved, answer.found) == ("stopped", -math.inf, math.inf)


def test_a_target_ends_the_search_and_a_cutoff_leaves_parts_out():
    model = program(3)
    largest = (model.slack, -1.0)
    best = solve_milp(model, largest, time_limit=600)
    early = solve_milp(model, largest, time_limit=600, target=best.found + 1.0)
    assert early.found <= best.found + 1.0
    assert early.proved <= best.found
    none = solve_milp(model, largest, time_limit=600, cutoff=best.found - 0.1)
    assert none.solution is None
    assert best.found - 0.1 <= none.proved <= best.found


def test_a_program_that_highs_wrongly_calls_infeasible_is_not_proved(monkeypatch):
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)
    query = query_from_bytes(WRONGLY_INFEASIBLE.read_bytes())
    assert verify(query, "bab", timeout=600).outcome is Outcome.VIOLATED
    assert verify(query, "milp", timeout=5).outcome is not Outcome.HOLDS
    bounds = symbolic_bounds(query.graph, query.region)
    model = milp_model(query, bounds, query.violation[0], 0.0)
    scaled = balanced(model)
    tree = BranchedProgram(scaled.program, (model.slack, -1.0))
    tree.search(deadline=time.monotonic() + 2, target=-math.inf, cutoff=math.inf)
    assert tree.proved < 0
