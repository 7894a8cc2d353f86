"""Twelve orders of magnitude, nearly parallel rows, margins down to 1e-12: the answer is right, or UNKNOWN with the gap."""

import itertools
import math
import sys
import time
from dataclasses import replace
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from differential import (
    exact_answer,
    float_answers,
    proved_by_bounds_alone,
    proved_by_programs_alone,
    splits_are_right,
    z3_answer,
)
from shares import by_day
from small_queries import float32_array, random_network

from exporters import milp_model
from veriflow.errors import GraphError
from veriflow.piecewise.bounds.crown import backward_rows, symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import Constraint, y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.testing.enumeration import violating_point
from verify import Outcome, verify
from verify.bab.box_domains import RegionBoxes, open_disjuncts
from verify.bab.options import SearchOptions
from verify.bab.relu_split import search_splits
from verify.programs.scaling import BalancedModel, balanced, slack_tolerance
from verify.programs.solve import solve_milp

UNIT = Ball(1, 1.0, 2)


def two_layers(hidden, bias, out, last=(0.0,)):
    """``out · relu(hidden · z + bias) + last``, rounded to float32."""
    single = [np.asarray(v, dtype=np.float32).astype(float) for v in (hidden, bias, out, last)]
    nodes = (
        Affine("a", (("z", single[0]),), single[1]),
        Relu("h", "a"),
        Affine("y", (("h", single[2]),), single[3]),
    )
    return Graph("z", single[0].shape[1], nodes, "y")


def asked(graph, formula, region=UNIT):
    return network_query(graph, region, formula_property(formula))


def check(query):
    """With and without attacks: the truth, or UNKNOWN with the gap. Returns how many of the answers are the truth."""
    truth = exact_answer(query)
    verdicts = [v for attack in (True, False) for v in float_answers(query, attack=attack).values()]
    for verdict in verdicts:
        assert verdict.outcome in (truth, Outcome.UNKNOWN), verdict
        assert verdict.outcome is truth or "toleran" in verdict.reason, verdict
    assert splits_are_right(query, truth)
    return sum(verdict.outcome is truth for verdict in verdicts)


def ridge(size, back):
    """relu(z_0 + z_1 + 0.1) − 2 relu(z_0 + z_1 − 0.2), computed in numbers of another size and brought back.

    It is 0.3 where z_0 + z_1 = 0.2, and less at every vertex of the ball.
    """
    return two_layers([[size, size]] * 2, [0.1 * size, -0.2 * size], [[back, -2 * back]])


@pytest.mark.parametrize("power", by_day([-50, -33, -30, 30, 33, 50], 2))
@pytest.mark.parametrize("wanted", [0.29, 0.31])
def test_numbers_of_any_size_are_as_good_as_others(power, wanted):
    """HiGHS drops coefficients below 1e-9: a violation went unseen where first or last weights were smaller."""
    query = asked(ridge(2.0**power, 2.0**-power), y[0] < wanted)
    assert exact_answer(query) is (Outcome.VIOLATED if wanted < 0.3 else Outcome.HOLDS)
    assert check(query) == 4


@pytest.mark.parametrize("power", by_day([10, 27, 33, 40], 2))
@pytest.mark.parametrize("share", [0.5, 0.999, 1.001])
def test_the_difference_of_large_numbers(power, share):
    """Two units of size 2^power, nearly parallel, whose difference is of size one."""
    size = 2.0**power
    graph = two_layers([[size, size], [size, size + max(1.0, 2.0 ** (power - 23))]], [size, size], [[-1, 1]])
    corners = [[Fraction(0), Fraction(s)] for s in (1, -1)]
    most = max(evaluate_exact(graph, point)["y"][0] for point in corners)
    check(asked(graph, y[0] < most * Fraction(share)))


@pytest.mark.parametrize("margin", by_day([1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6], 3))
@pytest.mark.parametrize("sign", [1, -1])
def test_margins_down_to_a_billionth_of_a_thousandth(margin, sign):
    """The largest value, 0.3 and a little, is at no vertex and is known exactly; the threshold is just beside it."""
    graph = ridge(1.0, 1.0)
    shift = graph.nodes[0].bias
    most = Fraction(float(shift[0])) - Fraction(float(shift[1]))
    assert exact_answer(asked(graph, y[0] <= most)) is Outcome.HOLDS
    assert exact_answer(asked(graph, y[0] < most)) is Outcome.VIOLATED
    query = asked(graph, y[0] < most + sign * Fraction(margin))
    assert exact_answer(query) is (Outcome.HOLDS if sign > 0 else Outcome.VIOLATED)
    check(query)
    assert z3_answer(query) is exact_answer(query)


@pytest.mark.parametrize("radius", [0.0, 1.0])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("power", [0, 20])
def test_a_violation_on_the_sphere_alone_or_at_the_only_point(radius, strict, power):
    """The search for the least norm of a violation must not take "not below the radius" for "none"."""
    graph, most = two_layers(2.0**power * np.eye(2), [0, 0], [[1, -1]]), Fraction(2**power) * Fraction(radius)
    query = asked(graph, y[0] <= most if strict else y[0] < most, Ball(1, radius, 2))
    assert exact_answer(query) is (Outcome.HOLDS if strict else Outcome.VIOLATED)
    assert check(query) == (0 if strict else 4)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9])
def test_a_small_unit_beside_a_large_one(far):
    """A big-M trap: one unit may be as large as ``far``; the other decides, and is small."""
    graph = two_layers([[far, 0], [0, 1]], [0, -0.5], [[1 / far, 1]])
    box = Box(np.array([-1.0, -1]), np.array([1.0, 1]))
    for bound, truth in ((1.45, Outcome.VIOLATED), (1.55, Outcome.HOLDS)):
        query = asked(graph, y[0] < bound, box)
        assert exact_answer(query) is truth
        assert check(query) == 4


@pytest.mark.parametrize("seed", by_day(range(12), 5))
def test_random_weights_over_twelve_orders_of_magnitude(seed):
    """Rows, one of them nearly parallel to another, and columns in powers of ten; thresholds at the largest vertex."""
    rng = np.random.default_rng(seed)
    hidden = float32_array(rng, 5, 2) * 10.0 ** rng.integers(-6, 7, (5, 1 if seed % 2 else 2))
    hidden[1] = hidden[0] * (1 + 1e-7)
    out = float32_array(rng, 2, 5) / (np.abs(hidden).max(axis=1) if seed % 2 else 10.0 ** rng.integers(-6, 7, 5))
    graph = two_layers(hidden, float32_array(rng, 5), out, float32_array(rng, 2))
    check(network_query(graph, UNIT, classified_as(seed % 2)))
    corners = [[Fraction(v) for v in corner] for corner in UNIT.vertices.tolist()]
    most = max(evaluate_exact(graph, corner)["y"][0] for corner in corners)
    size = max(abs(most), 1)
    checked = [check(asked(graph, y[0] < most + size * shift)) for shift in (Fraction(-1, 8), Fraction(3))]
    assert sum(checked) >= 4


@pytest.mark.parametrize("power", [0, 31, 60])
def test_a_program_in_its_own_units_has_the_solutions_of_the_program(power):
    """And HiGHS would drop nothing of it: what is that small is gone, and its rows are wider."""
    size = 2.0**power
    graph = two_layers([[size, 1 / size], [1 / size, size]], [0.25, -0.25], [[1 / size, 1]], [0.5])
    query = asked(graph, y[0] < 0.75)
    bounds = symbolic_bounds(query.graph, query.region)
    model = milp_model(query, bounds, query.violation[0], -slack_tolerance(query.violation[0], bounds, graph))
    scaled = balanced(model)
    assert scaled.program.matrix.shape == model.matrix.shape
    assert np.abs(scaled.program.matrix.data).min() > 1e-9
    assert np.abs(scaled.program.matrix.data).max() <= 1
    assert np.abs(scaled.program.lower[np.isfinite(scaled.program.lower)]).max() <= 1
    for x, z in itertools.product((-0.5, 0.0, 0.25, 0.5), repeat=2):
        lower, upper = model.lower.copy(), model.upper.copy()
        lower[model.inputs] = upper[model.inputs] = [x, z]
        fixed = type(model)(**{**vars(model), "lower": lower, "upper": upper})
        found = solve_milp(fixed, (model.slack, -1.0), time_limit=600)
        exact = evaluate_exact(graph, [Fraction(x), Fraction(z)])["y"][0] - Fraction(3, 4)
        slack = float(exact)
        if slack >= model.lower[model.slack]:
            assert found.status == "optimal"
            assert -found.found == pytest.approx(slack, rel=1e-5, abs=1e-6 * size)


def test_a_program_as_it_is_has_no_solution_for_highs_but_that_is_no_proof():
    """HiGHS drops what its units make of it; in units of its own size it has a solution."""
    query = asked(ridge(2.0**-33, 2.0**33), y[0] < 0.29)
    bounds = symbolic_bounds(query.graph, query.region)
    model = milp_model(query, bounds, query.violation[0], -1e-6)
    assert solve_milp(model, (model.slack, -1.0), time_limit=600).solution is not None
    as_it_is = BalancedModel(model, np.ones(len(model.lower)))
    with patch.object(sys.modules["verify.programs.solve"], "balanced", return_value=as_it_is):
        answer = solve_milp(model, (model.slack, -1.0), time_limit=600)
    assert (answer.status, answer.solution) == ("stopped", None)


def chain(size, layers):
    """size^layers · relu(± z), as two outputs."""
    nodes, last, weight = [], "z", size * np.array([[1.0], [-1.0]])
    for k in range(layers):
        nodes += [Affine(f"a{k}", ((last, weight),), np.zeros(2)), Relu(f"h{k}", f"a{k}")]
        last, weight = f"h{k}", size * np.eye(2)
    return Graph("z", 1, (*nodes, Affine("y", ((last, np.eye(2)),), np.zeros(2))), "y")


@pytest.mark.parametrize("region", [Ball(1, 1.0, 1), Box(np.array([-1.0]), np.array([1.0]))], ids=str)
@pytest.mark.parametrize("engine", ["bab", "milp"])
def test_numbers_beyond_the_floats_are_refused(engine, region):
    """Bounds were NaN, which is not above any threshold: a violation that the attack did not see was "excluded"."""
    query = asked(chain(float(np.float32(1e35)), 9), y[1] - y[0] < 0.3, region)
    assert query.violated_by(evaluate_exact(query.graph, [Fraction(-1)])["y"])
    with (
        patch.object(sys.modules["verify.witness.attack"], "find_violation", return_value=None),
        pytest.raises(GraphError, match="sizes up to 1e\\+150"),
    ):
        verify(query, engine, timeout=600)


def test_a_row_that_is_no_number_excludes_nothing():
    query = asked(two_layers(np.eye(2), [0, 0], [[1, -1]]), y[0] < 5)
    boxes = RegionBoxes(-np.ones((1, 2)), np.ones((1, 2)), UNIT)
    bounds = symbolic_bounds(query.graph, boxes, within=Bounds({}, {}))
    assert not (open_disjuncts(query, boxes, bounds)[0] >= 0).any()

    def without_numbers(*args):
        found = backward_rows(*args)
        return replace(found, lower=np.full_like(found.lower, np.nan))

    with patch("verify.bab.box_domains.backward_rows", without_numbers):
        assert (open_disjuncts(query, boxes, bounds)[0] >= 0).all()


@pytest.mark.parametrize("region", [Ball(2, 1.0, 6), Ball(1, 2.0, 6, limit=0.5), Ball(1, 1.0, 6)], ids=str)
def test_choices_stay_numbers_where_the_search_for_them_leaves_float32(region):
    """They became NaN, so that no piece below was ever closed and the checkpoint could not be read."""
    nodes, scales = [], iter([2.0**65, 2.0**65, 2.0**-65, 2.0**-65])
    for node in random_network(np.random.default_rng(3), (6, 8, 8, 8, 2)).nodes:
        terms = () if isinstance(node, Relu) else ((node.terms[0][0], next(scales) * node.terms[0][1]),)
        nodes.append(node if isinstance(node, Relu) else Affine(node.output, terms, node.bias))
    query = asked(Graph("x", 6, tuple(nodes), nodes[-1].output), y[1] - y[0] < 0.5, region.rounded_outward())
    with patch.multiple("verify.bab.relu_split", LEAF_UNITS=-1, LARGER_LEAVES=-1):
        found = search_splits(query, SearchOptions(time.monotonic() + 600, most_domains=100))
        assert found.open
        again = search_splits(query, SearchOptions(0.0, frontier=found.frontier()))
    assert np.isfinite(found.frontier().arrays["choices"]).all()
    assert again.open == found.open


def conjunction(steps, offset):
    """y_0 ≥ 1/3 in one constraint for each step, which add up to nothing, with y_1 = 1 in each."""
    weight = np.zeros((2, 9))
    weight[:, 0] = 1
    last = (("h", np.array([[1.0, 0], [0, 0]])),)
    nodes = (
        Affine("a", (("x", weight),), np.array([0.0, -0.25])),
        Relu("h", "a"),
        Affine("y", last, np.array([0.0, 1.0])),
    )
    third = Fraction(1, 3)
    row = tuple(Constraint(((0, Fraction(a)), (1, Fraction(offset))), a * third + offset) for a in steps)
    return Query(Graph("x", 9, nodes, "y"), Box(-np.ones(9), np.ones(9)), (row,), "", "x")


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("seed", by_day(range(6), 2))
def test_constraints_that_cancel_prove_nothing_wrong(seed, offset):
    """What is left of a weighted mean is rounding: it was taken for a margin, and HOLDS was wrong."""
    rng = np.random.default_rng(seed)
    first, second = (int(v) for v in rng.integers(10**3, 10**7, 2))
    query = conjunction((first, second, -first - second), offset)
    assert violating_point(query) is not None
    assert verify(query, "bab", timeout=10).outcome is not Outcome.HOLDS
    assert not proved_by_bounds_alone(query)
    assert not proved_by_programs_alone(query)


@pytest.mark.parametrize("small", by_day([1.2e-40, 1.236e-40, 1.26e-40], 1))
def test_products_below_all_floats_prove_nothing_wrong(small):
    """Eight small weights and eight large ones: on the way, digits are lost that the end has again."""
    weights = [float(np.float32(w)) for w in [small] * 8 + [1e38] * 7 + [1e34]]
    names = ["x", *(f"a{k}" for k in range(16))]
    chain = [
        Affine(b, ((a, np.array([[w]])),), np.zeros(1)) for a, b, w in zip(names, names[1:], weights, strict=False)
    ]
    beside = (Affine("b", (("x", np.ones((1, 1))),), np.array([-1.5])), Relu("h", "b"))
    last = Affine("y", (("a15", np.ones((1, 1))), ("h", np.array([[-1e-30]]))), np.zeros(1))
    graph = Graph("x", 1, (*chain, *beside, last), "y")
    exact, rounded = Fraction(2), 2.0
    for weight in weights:
        exact, rounded = exact * Fraction(weight), rounded * weight
    assert Fraction(rounded) < exact  # so that a threshold in between is met, but not in floats
    between = (exact - Fraction(1e-30) / 2 + Fraction(rounded)) / 2
    query = Query(graph, Box(np.ones(1), 2 * np.ones(1)), ((Constraint(((0, Fraction(1)),), between),),), "", "x")
    assert violating_point(query) is not None
    assert not proved_by_bounds_alone(query)
    assert not proved_by_programs_alone(query)


def test_graphs_without_weights_are_decided():
    """Twelve ReLUs, and a node of a constant alone."""
    bare = Graph("x", 12, (Relu("h", "x"),), "h")
    ball = Ball(math.inf, 1.0, 12)
    assert verify(asked(bare, y[0] + y[1] <= 2.5, ball), "bab", timeout=600).outcome is Outcome.HOLDS
    constant = Affine("c", (), np.ones(1))
    sums = Affine("y", (("h", np.ones((1, 12))), ("c", np.ones((1, 1)))), np.zeros(1))
    query = asked(Graph("x", 12, (Relu("h", "x"), constant, sums), "y"), y[0] <= 13.5, ball)
    assert proved_by_programs_alone(query)
