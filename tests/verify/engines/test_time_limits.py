"""A deadline that has passed ends every engine at once, with a true reason; long disjunctions are bounded in one pass."""

import itertools
import math
import sys
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import linalg
from small_queries import random_graph, random_network

import verify.bab.box_domains
from veriflow import Ball, Box, USFlow
from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.beta_crown import BetaAscent
from veriflow.piecewise.bounds.crown import backward_rows, linear_lower_bounds, symbolic_bounds
from veriflow.piecewise.bounds.interior_point import InteriorPoint
from veriflow.piecewise.bounds.sdp import SemidefiniteRelaxation, semidefinite_relaxation
from veriflow.piecewise.evaluate import _Ends, evaluate, evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import Constraint, Joined, y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import flow_query, network_query
from veriflow.queries.relations import fair
from veriflow.runtime.deadline import OutOfTime, check_deadline, until
from verify import Outcome, certify, output_range, verify_all, violation_bounds
from verify import verify as decide
from verify.bab.box_domains import nearest_first
from verify.bab.relu_domains import ReluTree
from verify.witness.attack import climb, disjunct_slacks
from verify.witness.onnx_replay import with_runs
from verify.witness.verdict import LATE

NO_TIME = 1e-9
BANDS = Joined("or", tuple((y[0] >= 90 + k) & (y[0] <= 90 + k + Fraction(1, 2)) for k in range(300)))
"""Of an output that is never so large."""


def bands_query(dim: int):
    """Whether one of 300 bands is ever met; none is."""
    net = random_network(np.random.default_rng(dim), (dim, 6, 6, 2))
    return network_query(net, Box(-np.ones(dim), np.ones(dim)), formula_property(~BANDS))


def hard_query(dim: int):
    """One that bounds leave open at first."""
    net = random_network(np.random.default_rng(1), (dim, 8, 8, 3))
    return network_query(net, Ball(1, 2.0, dim), formula_property(y[0] - y[1] < 5))


def latent_query():
    torch.manual_seed(0)
    flow = USFlow(2, blocks=1, hidden=(4,))
    return flow, random_network(np.random.default_rng(2), (2, 4, 2))


@pytest.mark.parametrize("dim", [3, 12])
@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
def test_no_time_is_enough_for_nothing(engine, dim):
    for query in (hard_query(dim), bands_query(dim)):
        verdict = decide(query, engine, timeout=NO_TIME)
        assert verdict.outcome is Outcome.UNKNOWN
        assert verdict.reason.startswith(LATE)
        assert verdict.witness is None


@pytest.mark.parametrize("names", [["auto"], ["bab", "milp", "smt"]])
def test_several_queries_share_the_time(names):
    """The second one is not done where the first one has used it up."""
    joint = verify_all([hard_query(3)] * 40, names, timeout=NO_TIME)
    assert joint.verdict.outcome is Outcome.UNKNOWN
    assert joint.is_late
    assert joint.verdict.reason.startswith("40 of 40 regions stay open")
    assert len(joint.each) == 40


def test_regions_that_were_not_looked_at_are_no_proof():
    easy = replace(bands_query(3), violation=bands_query(3).violation[:1])
    assert decide(easy).outcome is Outcome.HOLDS
    joint = verify_all([replace(easy, violation=()), hard_query(3)], timeout=NO_TIME)
    assert joint.verdict.outcome is Outcome.UNKNOWN


def test_loops_look_at_the_deadline():
    graph, region = random_graph(0), Ball(1, 0.5, 3)
    query = network_query(graph, region, formula_property(y[0] < 0))
    bounds = symbolic_bounds(graph, region)
    for work in (
        lambda: symbolic_bounds(graph, region),
        lambda: backward_rows(graph, region, bounds, graph.output, np.eye(3)),
        lambda: optimised_bounds(graph, region, query.arrays.conjunctions),
        lambda: evaluate_exact(graph, [Fraction(0)] * 3),
        lambda: climb(query, region.draw(4, 0)),
    ):
        work()
        with until(0.0), pytest.raises(OutOfTime):
            work()


def relaxation_of(query):
    root = optimised_bounds(query.graph, query.region, query.arrays.conjunctions)
    signs = np.zeros(query.graph.relu_count, dtype=np.int8)
    return root, semidefinite_relaxation(
        query.graph, query.region, root.bounds, signs, root.rows[0], float(root.limits[0])
    )


def test_steps_of_programs_and_ascents_look_at_the_deadline(monkeypatch):
    query = hard_query(3)
    root, relaxation = relaxation_of(query)
    ascent, choices = BetaAscent(query.graph, query.region), np.zeros((1, 3, query.graph.relu_count), np.float32)
    bounds = ReluTree(query.graph, query.region, root.bounds, root.rows, root.limits).bounds_of(choices[:, 0])
    method, values = InteriorPoint(relaxation), np.zeros(len(relaxation.equal) + 1)
    monkeypatch.setattr("veriflow.piecewise.bounds.beta_crown.margin_bounds", lambda *_: None)  # which looks itself
    for work in (
        lambda: relaxation_of(query),
        lambda: method.maximise(lambda now: now.steps == 1),
        lambda: method.products(np.eye(relaxation.shape[0])),
        lambda: method.values(np.eye(relaxation.shape[0])),
        lambda: relaxation.proved(values),
        lambda: relaxation.matrix(values),
        lambda: ascent.ascend(bounds, root.rows, root.limits, choices),
    ):
        work()
        with until(0.0), pytest.raises(OutOfTime):
            work()


def test_a_program_looks_at_the_clock_between_any_two_of_its_heavy_pieces(monkeypatch):
    """Each piece grows with the cube of the entries or of the sums, and none can be stopped once it has done."""
    _, relaxation = relaxation_of(hard_query(3))
    looks, now, done = itertools.count(1), [0], []

    def look():
        now[0] = next(looks)
        return float(now[0])

    def noted(work):
        def wrapped(*arguments, **options):
            try:
                return work(*arguments, **options)
            finally:
                done.append((now[0], work.__name__))

        return wrapped

    for owner, name in (
        (linalg, "cholesky"),
        (linalg, "eigvalsh"),
        (InteriorPoint, "products"),
        (InteriorPoint, "values"),
        (InteriorPoint, "summed"),
        (SemidefiniteRelaxation, "change"),
    ):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name)))
    monkeypatch.setattr("veriflow.runtime.deadline.time", SimpleNamespace(monotonic=look))
    found = InteriorPoint(relaxation).maximise(lambda now: now.steps == 3)
    relaxation.proved(found.values)
    assert found.steps == 3
    assert {name for _, name in done} == {"cholesky", "eigvalsh", "products", "values", "summed", "change"}
    alike = [pair for pair in itertools.pairwise(done) if pair[0][0] == pair[1][0]]
    assert alike == []


def exact_passes(monkeypatch):
    """A list that grows by each graph that is evaluated in rationals."""
    passes, ends = [], _Ends.of
    monkeypatch.setattr(_Ends, "of", lambda point: passes.append(len(point)) or ends(point))
    return passes


def test_a_point_is_evaluated_in_rationals_once(monkeypatch):
    graph, passes = random_graph(0), exact_passes(monkeypatch)
    point = [Fraction(1, 3)] * 3
    first = evaluate_exact(graph, point)
    assert evaluate_exact(graph, list(point)) == first
    assert evaluate_exact(random_graph(1), point) != first
    assert evaluate_exact(graph, [Fraction(1, 2)] * 3) != first
    assert passes == [3, 3, 3]


def test_without_time_an_output_range_replays_one_point(monkeypatch):
    flow, net = latent_query()
    runs, passes = [], exact_passes(monkeypatch)

    def counted(query, witness):
        runs.append(witness)
        return with_runs(query, witness)

    monkeypatch.setattr(sys.modules["verify.measures.output_range"], "with_runs", counted)
    found = output_range(flow, net, flow.level_set(0.5), y[0], timeout=NO_TIME)
    assert found.low.attained == found.high.attained
    assert found.low.witness == found.high.witness
    assert (len(runs), len(passes)) == (1, 1)


def test_an_inner_deadline_never_comes_after_an_outer_one():
    with until(0.0), until(math.inf), pytest.raises(OutOfTime):
        check_deadline()
    check_deadline()


def test_what_is_known_without_time_is_true():
    flow, net = latent_query()
    query = flow_query(flow, net, Ball(flow.base.p, 1.0, 2), formula_property(y[0] - y[1] < 3))
    short, full = certify(query, timeout=NO_TIME), certify(query, timeout=60)
    assert not short.complete
    assert short.proved_radius <= full.refuted_radius
    assert short.refuted_radius >= full.proved_radius
    few, many = violation_bounds(query, timeout=NO_TIME), violation_bounds(query, timeout=60)
    assert few.low <= many.high and many.low <= few.high
    assert "time limit" in few.reason
    level_set = flow.level_set(0.5)
    quick, whole = (output_range(flow, net, level_set, y[0], timeout=limit) for limit in (NO_TIME, 60))
    assert not quick.complete
    assert quick.low.proved <= whole.low.attained <= quick.low.attained
    assert quick.high.attained <= whole.high.attained <= quick.high.proved


@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
@pytest.mark.parametrize("dim", [3, 12])
def test_a_long_disjunction_is_settled_by_one_pass(engine, dim, monkeypatch):
    passes = []

    def counted(*arguments):
        passes.append(len(arguments[-1]))
        return backward_rows(*arguments)

    monkeypatch.setattr(verify.bab.box_domains, "backward_rows", counted)
    verdict = decide(bands_query(dim), engine)
    assert verdict.outcome is Outcome.HOLDS
    assert passes == [600]


@pytest.mark.parametrize("region", [Box(-np.ones(2), np.ones(2)), Ball(1, 1.0, 2)], ids=str)
@pytest.mark.parametrize("start", [1.0001, 0.99])
def test_bands_next_to_a_maximum_are_decided_together(region, start):
    """y = 1 − |x0 + x1| is 1 all along a line, where no box that bounds are made for closes hundreds of bands above."""
    net = Graph(
        "x",
        2,
        (
            Affine("a", (("x", np.array([[1.0, 1.0], [-1.0, -1.0]])),), np.zeros(2)),
            Relu("h", "a"),
            Affine("y", (("h", np.array([[-1.0, -1.0]])),), np.ones(1)),
        ),
        "y",
    )
    bands = tuple((y[0] >= start + k / 1000) & (y[0] <= start + k / 1000 + 0.0005) for k in range(500))
    query = network_query(net, region, formula_property(~Joined("or", bands)))
    verdict = decide(query)
    assert verdict.outcome is (Outcome.HOLDS if start > 1 else Outcome.VIOLATED)


def test_the_disjuncts_that_are_left_are_the_possible_ones_nearest_first():
    net = random_network(np.random.default_rng(4), (3, 6, 6, 2))
    region = Box(-np.ones(3), np.ones(3))
    most = -linear_lower_bounds(net, region, symbolic_bounds(net, region), net.output, -np.eye(2))
    levels = [most[0] + gap for gap in (-0.1, 0.5, -0.3, 1e-3, -0.2)]
    query = network_query(net, region, formula_property(~Joined("or", tuple(y[0] >= level for level in levels))))
    _, places = nearest_first(query)
    assert places.tolist() == [2, 4, 0]


def test_slacks_of_disjuncts_are_those_of_their_constraints():
    rng = np.random.default_rng(5)
    rows = tuple(
        tuple(Constraint(((i, Fraction(int(rng.integers(1, 4)))),), Fraction(int(rng.integers(-3, 4)))) for i in places)
        for places in ((0,), (0, 1), (1, 1, 0), (1,))
    )
    query = replace(hard_query(3), violation=rows)
    outputs = evaluate(query.graph, query.region.draw(16, 0))[query.graph.output]
    found = disjunct_slacks(query, outputs)
    for values, slacks in zip(outputs.tolist(), found.tolist(), strict=True):
        exact = [min(c.slack([Fraction(v) for v in values]) for c in row) for row in rows]
        assert slacks == pytest.approx([float(v) for v in exact], abs=1e-9)


def test_thousands_of_values_of_a_feature_are_refused():
    with pytest.raises(ValueError, match=r"at most 256 values.*within=\[low, high\]; got 3000"):
        fair("0", list(range(3000)))
