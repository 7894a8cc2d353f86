"""L2 balls: engines, certificates and output ranges against the enumeration of activation patterns."""

import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from round_truth import greatest_slack, least_norm
from shares import by_day
from small_queries import random_flow, random_network

from exporters import milp_model, milp_text
from exporters.milp.cones import Cone
from veriflow.density.radial import RadialBase, make_base
from veriflow.density.simple_laws import LogNormalLaw
from veriflow.errors import QueryError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import compose
from veriflow.queries.constraints import y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import flow_query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.runtime.threads import one_thread
from verify import Outcome, certify, output_range, verify
from verify.bab.box_domains import RegionBoxes
from verify.bab.options import SearchOptions
from verify.bab.relu_split import search_splits
from verify.bab.search import domain_at
from verify.programs.solve import solve_milp
from verify.witness.attack import climb

MARGINS = (-0.05, -1e-3, -1e-4, 1e-4, 1e-3, 0.05)


def random_query(seed, region=None):
    """A query whose threshold lies near the largest score in the ball, on one side or the other."""
    rng = np.random.default_rng(seed)
    dim, width = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    region = (region or Ball(2, float(rng.uniform(0.2, 2.0)), dim)).rounded_outward()
    dim = region.dim
    graph = compose(random_flow(rng, dim, 1, width, depth=1), random_network(rng, (dim, width, 2)))
    query = network_query(graph, region, formula_property(y[1] - y[0] < 1000))
    with one_thread():
        points = climb(query, region.draw(128, seed), 40)
    outputs = evaluate(graph, points)[graph.output]
    limit = (outputs[:, 1] - outputs[:, 0]).max().item() + MARGINS[seed % len(MARGINS)]
    formula = y[1] - y[0] < limit
    if seed % 3 == 0:
        formula &= y[0] < outputs[:, 0].max().item() + 0.1
    return replace(query, violation=formula_property(formula).violation(2))


@pytest.fixture
def no_attack(monkeypatch):
    """Programs and bounds find violations themselves."""
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)


def check_agreement(seeds):
    seen = set()
    for seed in seeds:
        query = random_query(seed)
        slack = greatest_slack(query)
        truth = Outcome.VIOLATED if slack > 0 else Outcome.HOLDS
        with one_thread():
            splits = search_splits(query, SearchOptions(time.monotonic() + 600))
        outcomes = [verify(query, name, timeout=600).outcome for name in ("bab", "milp")]
        if abs(slack) > 1e-5:
            assert set(outcomes) <= {truth, Outcome.UNKNOWN}, (seed, slack, outcomes)
            assert splits.near_misses or (splits.witness is not None) == (slack > 0), (seed, slack, splits)
        if abs(slack) > 5e-5:
            assert set(outcomes) == {truth}, (seed, slack, outcomes)
            seen.add(truth)
    assert seen == {Outcome.HOLDS, Outcome.VIOLATED}


@pytest.mark.parametrize("part", by_day(range(42), 1))
def test_engines_agree_with_enumeration(part, no_attack):
    check_agreement(range(9 * part, 9 * part + 9))


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_products_with_round_parts_are_decided_alike(seed):
    """The threshold lies below a score that points attain, or a little above all that an attack finds."""
    region = Product((Ball(2, 0.7, 2), Box(np.array([-0.2]), np.array([0.3]))))
    query = random_query(seed, region)
    outcomes = {verify(query, name, timeout=600).outcome for name in ("bab", "milp")}
    assert outcomes == {Outcome.VIOLATED if MARGINS[seed % len(MARGINS)] < 0 else Outcome.HOLDS}


@pytest.mark.parametrize("dim", [1, 2, 12])
def test_tangents_exclude_no_point_of_the_cone(dim):
    """In exact arithmetic, also those at points far outside; and they do exclude what they are made for."""
    rng = np.random.default_rng(dim)
    cone = Cone(np.arange(dim), np.arange(dim, 2 * dim), 2 * dim)
    far = np.concatenate([rng.normal(size=dim) * 10.0 ** rng.integers(-6, 3, dim), np.zeros(dim), [0.3]])
    beside = cone.violated_tangents(far)
    assert (beside @ far > 0).any()
    rows = np.vstack([cone.first_tangents(2 * dim + 1).toarray(), beside.toarray()])
    for scale in (0.0, 1e-9, 1e-3, 1.0, 1e6):
        z = [Fraction(scale * v) for v in rng.normal(size=dim)]
        norm = Fraction(float(np.linalg.norm([float(v) for v in z]))) * (1 + Fraction(1, 2**40))
        shares = [v * v / norm if norm else Fraction(0) for v in z]
        assert sum(shares) <= norm
        for row in rows:
            assert sum(Fraction(float(c)) * v for c, v in zip(row, [*z, *shares, norm], strict=True)) <= 0


@pytest.mark.parametrize("dim", [2, 9])
def test_the_greatest_linear_function_on_a_ball_is_its_radius_times_a_length(dim):
    """The program's answer is proved from above and attained in the ball; in a part of the ball, by the dual norm there."""
    rng = np.random.default_rng(dim)
    network = random_network(rng, (dim, 2))
    query = network_query(network, Ball(2, 1.5, dim), formula_property(y[0] < 0))
    weight, bias = next(iter(network.nodes)).terms[0][1][0], next(iter(network.nodes)).bias[0]
    model = milp_model(query, symbolic_bounds(query.graph, query.region), query.violation[0], -1e3)
    answer = solve_milp(model, (model.slack, -1.0), time_limit=600)
    z = answer.solution[model.inputs]
    assert np.linalg.norm(z) <= 1.5 * (1 + 1e-12)
    assert -answer.proved == pytest.approx(1.5 * np.linalg.norm(weight) + bias, abs=1e-6)
    assert weight @ z + bias == pytest.approx(-answer.proved, abs=1e-6)
    wanted = replace(query, violation=formula_property(y[0] < 1.2 * np.linalg.norm(weight) + bias).violation(2))
    model = milp_model(wanted, symbolic_bounds(query.graph, query.region), wanted.violation[0], 0.0)
    answer = solve_milp(model, (model.norm, 1.0), time_limit=600)
    assert answer.proved == pytest.approx(1.2, abs=1e-6)


def test_out_of_time_a_program_proves_less_and_nothing_false():
    query = random_query(4)
    model = milp_model(query, symbolic_bounds(query.graph, query.region), query.violation[0], -100.0)
    early, full = (solve_milp(model, (model.slack, -1.0), time_limit=limit) for limit in (1e-9, 60))
    assert full.status == "optimal"
    assert early.proved <= full.found + 1e-6
    assert early.status == "stopped" or early.found == pytest.approx(full.found, abs=1e-6)


def small_flow(seed, law=None):
    torch.manual_seed(seed)
    flow = USFlow(2, blocks=1, hidden=(3,), base=RadialBase(2, law) if law else make_base("normal", 2))
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return flow


@pytest.mark.parametrize("seed", by_day(range(6), 4))
def test_the_certificate_is_the_least_norm_of_a_violation(seed):
    flow, network = small_flow(seed), random_network(np.random.default_rng(seed), (2, 3, 2))
    query = flow_query(flow, network, Ball(2, 3.0, 2), classified_as(seed % 2, -0.3))
    certificate, truth = certify(query, gap=1e-4, timeout=600), least_norm(query)
    assert certificate.complete
    assert certificate.proved_radius <= min(truth, 3.0) * (1 + 1e-7)
    if certificate.witness is None:
        assert certificate.proved_radius == query.region.radius < truth
    else:
        assert truth * (1 - 1e-7) <= certificate.refuted_radius <= truth * (1 + 3e-4)
        assert certificate.proved_radius >= certificate.refuted_radius * (1 - 1e-4)


@pytest.mark.parametrize("seed", by_day(range(3), 1))
def test_an_output_range_is_the_exact_one(seed):
    flow, network = small_flow(seed), random_network(np.random.default_rng(seed), (2, 3, 2))
    level_set, score = flow.level_set(0.7), y[0] - y[1] / 4
    found = output_range(flow, network, level_set, score)
    assert found.complete
    ((_, radius),) = level_set.intervals
    for end, sign in ((found.high, 1), (found.low, -1)):
        query = flow_query(flow, network, Ball(2, radius, 2), formula_property(score * sign < 0))
        truth = greatest_slack(query)
        assert truth - 1e-8 <= end.proved * sign <= truth + 1e-4
        assert truth - 1e-4 <= end.attained * sign <= truth + 1e-8
        assert end.witness.norm <= query.region.radius


def test_boxes_in_a_ball_are_bounded_by_no_less_than_their_points():
    rng = np.random.default_rng(0)
    ball = Ball(2, 1.0, 3)
    lower = rng.uniform(-1, 0.5, (40, 3))
    upper = lower + rng.uniform(0, 1, (40, 3))
    rows = rng.normal(size=(40, 5, 3)) * (rng.random((40, 5, 3)) < 0.8)
    found = RegionBoxes(lower, upper, ball).support(rows)
    points = lower[:, None] + rng.random((40, 4000, 3)) * (upper - lower)[:, None]
    inside = np.linalg.norm(points, axis=-1) <= 1
    values = np.where(inside[..., None], points @ rows.swapaxes(1, 2), -np.inf).max(axis=1)
    assert (values <= found).all()
    assert (found <= np.maximum(rows * lower[:, None], rows * upper[:, None]).sum(axis=-1) + 1e-12).all()
    assert (found <= np.linalg.norm(rows, axis=-1) + 1e-12).all()


def test_bounds_on_a_box_in_a_ball_are_close_to_what_a_program_finds():
    """Two ways to the same number: the dual function, and tangents."""
    rng, ball = np.random.default_rng(1), Ball(2, 1.0, 3)
    for _ in range(8):
        lower = rng.uniform(-0.8, 0.2, 3)
        upper = lower + rng.uniform(0.2, 1, 3)
        network = random_network(rng, (3, 1))
        (weight,) = next(iter(network.nodes)).terms[0][1]
        query = network_query(network, ball, formula_property(y[0] < 0))
        box = RegionBoxes(lower[None], upper[None], ball)
        bounds = domain_at(symbolic_bounds(query.graph, box), 0)
        model = milp_model(query, bounds, query.violation[0], -1e3)
        answer = solve_milp(model, (model.slack, -1.0), time_limit=600)
        (constant,) = next(iter(network.nodes)).bias
        found = float(box.support(weight[None, None])[0, 0])
        assert -1e-7 <= found - (-answer.found - constant) <= 2e-3 * np.linalg.norm(weight)


@pytest.mark.parametrize(
    "call",
    [
        lambda: verify(random_query(0, Ball(2, 1.0, 2, 0.5)), "milp"),
        lambda: verify(random_query(0, Ball(2, 1.0, 2)), "smt"),
        lambda: output_range(*shells(), y[0]),
        lambda: milp_text(program_over(Ball(2, 1.0, 2)), "mps"),
        lambda: milp_text(program_over(Ball(2, 1.0, 2)), "lp"),
        lambda: program_over(Ball(2, 1.0, 2, 0.5)),
    ],
)
def test_what_is_not_convex_or_not_linear_is_refused(call):
    with pytest.raises(QueryError, match=r"expected .*; got"):
        call()


def shells():
    flow = small_flow(0, LogNormalLaw(2, 1.0, 0.2))
    return flow, random_network(np.random.default_rng(0), (2, 3, 2)), flow.level_set(0.5)


def program_over(region):
    query = random_query(0, region)
    return milp_model(query, symbolic_bounds(query.graph, query.region), query.violation[0], 0.0)
