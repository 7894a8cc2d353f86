"""Engines at ties, on regions and limits of their own; test_trust.py has them against the truth of random queries."""

import math
import os
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from differential import exact_answer, z3_answer
from scipy.optimize import linprog
from shares import by_day
from small_queries import REGIONS, float32_array, random_network, small_query, threshold_query

from veriflow.density.radial import make_base
from veriflow.errors import DataError, QueryError, RegionError, SolverError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import Affine, Graph, Relu, dense
from veriflow.queries.constraints import y
from veriflow.queries.properties import classified_as, formula_property, output_between
from veriflow.queries.query import flow_query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify import (
    ENGINES,
    Outcome,
    RadialSearch,
    certify,
    engine,
    replay,
    verify,
    violation_probability,
    violations_in_data,
)
from verify.bab.box_domains import RegionBoxes, box_norms, split_boxes
from verify.bab.options import SearchOptions
from verify.bab.search import DomainSearch
from verify.engines import smt as smt_module
from verify.witness.attack import RepeatedAttack, climb
from verify.witness.onnx_replay import with_runs


@pytest.mark.parametrize("solver", ["smt", "smt:cvc5"])
@pytest.mark.parametrize("seed", range(4))
def test_solver_processes_agree_too(solver, seed):
    if engine_missing(solver):
        pytest.skip(f"{solver} is not installed")
    query = threshold_query(seed)
    assert verify(query, solver, timeout=600).outcome is exact_answer(query)


def engine_missing(name):
    return ENGINES[name].version is None


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("prop", [pytest.param("largest", marks=pytest.mark.nightly), "between"])  # Z3 takes long
def test_every_region_is_decided_alike(region, prop):
    query = small_query(region, prop, seed=2)
    truth = z3_answer(query)
    assert verify(query, "milp", timeout=600).outcome is truth
    assert verify(query, "bab", timeout=600).outcome is truth


def step_query(threshold, p=1, strict=False, radius=1.0):
    """y = relu(z0) − relu(−z1) over a ball: the maximum is the radius, reached at one vertex (p = 1)."""
    nodes = (
        Affine("a", (("z", np.array([[1.0, 0.0], [0.0, -1.0]])),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.array([[1.0, -1.0]])),), np.zeros(1)),
    )
    formula = y[0] <= threshold if strict else y[0] < threshold
    return network_query(Graph("z", 2, nodes, "y"), Ball(p, radius, 2), formula_property(formula))


@pytest.mark.parametrize("name", ["bab", "milp", "smt"])
@pytest.mark.parametrize(
    ("threshold", "strict", "truth"),
    [
        (1.0, False, Outcome.VIOLATED),  # reached exactly, at one vertex
        (1.0, True, Outcome.HOLDS),  # y > 1 never, but y = 1 is reached
        (1 + 1e-12, False, Outcome.HOLDS),
        (1 - 1e-12, True, Outcome.VIOLATED),
        (1.25, False, Outcome.HOLDS),
        (0.75, True, Outcome.VIOLATED),
    ],
)
def test_ties_and_vertices_are_right_or_unknown(name, threshold, strict, truth):
    outcome = verify(step_query(threshold, strict=strict), name, timeout=600).outcome
    if name == "smt":
        assert outcome is truth
    else:
        assert outcome in (truth, Outcome.UNKNOWN)
        assert outcome is truth or abs(threshold - 1) < 1e-6


def test_a_witness_replays_exactly_or_not_at_all():
    query = step_query(0.5)
    witness = replay(query, [0.6, 0.1])
    assert query.region.contains(witness.latent)
    assert query.violated_by([Fraction(v) for v in witness.outputs])
    assert witness.norm == pytest.approx(0.7)
    assert with_runs(query, witness).exported.deviation < 1e-6
    assert replay(query, [0.4, 0.0]) is None  # no violation there
    assert replay(query, [1.5, 0.0]) is None  # outside the region
    third = Fraction(1, 3)
    assert replay(step_query(1 / 3 + 1e-17), [third + Fraction(1, 10**12), Fraction(0)]) is not None


def test_an_smt_solver_past_its_time_limit_is_killed_and_a_broken_one_named(tmp_path, monkeypatch):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(smt_module, "WORKER", slow)
    verdict = verify(step_query(0.5), "smt", timeout=0.5)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "time limit" in verdict.reason
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no such logic')\n")
    monkeypatch.setattr(smt_module, "WORKER", broken)
    with pytest.raises(SolverError, match="no such logic"):
        verify(step_query(0.5), "smt")
    lying = tmp_path / "lying.py"
    lying.write_text('print(\'{"result": "sat", "model": {"z_0": "1/4", "z_1": "0"}}\')\n')
    monkeypatch.setattr(smt_module, "WORKER", lying)
    with pytest.raises(SolverError, match="does not"):
        verify(step_query(0.5), "smt")


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_attack_points_stay_in_the_region(p):
    region = Ball(p, 1.5, 4, 0.5)
    points = region.project(3 * torch.randn(500, 4, dtype=torch.float64))
    for cloud in (points, region.draw(500, 0)):
        norms = torch.linalg.vector_norm(cloud, p, dim=-1)
        assert norms.max() <= 1.5 + 1e-12
        assert norms.min() >= 0.5 - 1e-12
    assert torch.allclose(Ball(p, 100.0, 4).project(points), points)


@pytest.mark.parametrize("p", [1, math.inf])
def test_boxes_in_a_ball_have_the_support_of_the_linear_program(p):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-1, 1, (2, 40, 3))
    boxes = RegionBoxes(corners.min(0), corners.max(0), Ball(p, 0.8, 3))
    rows = rng.standard_normal((40, 2, 3))
    support = boxes.support(rows)
    for place in range(40):
        ends = list(zip(boxes.lower[place], boxes.upper[place], strict=True))
        for row, bound in zip(rows[place], support[place], strict=True):
            # z = v[:3], magnitudes v[3:] with |z| <= v, and the ball
            sides = np.block([[np.eye(3), -np.eye(3)], [-np.eye(3), -np.eye(3)]])
            ball = np.array([0, 0, 0, 1, 1, 1])[None] if p == 1 else np.hstack([np.zeros((3, 3)), np.eye(3)])
            limits = np.concatenate([np.zeros(6), np.full(len(ball), 0.8)])
            found = linprog(np.r_[-row, 0, 0, 0], np.vstack([sides, ball]), limits, bounds=[*ends, *[(0, None)] * 3])
            if not found.success:
                continue  # the box misses the ball: any bound is right
            assert bound >= -found.fun - 1e-12
            assert p == math.inf or bound <= -found.fun + 1e-9
    least, greatest = box_norms(boxes.lower, boxes.upper, p)
    norms = np.linalg.norm(rng.uniform(boxes.lower, boxes.upper, (1000, 40, 3)), ord=p, axis=-1)
    assert (least <= norms).all()
    assert (norms <= greatest).all()


@pytest.mark.parametrize(("p", "dim"), [(1, 3), (1, 20), (math.inf, 3), (math.inf, 20)])
def test_split_boxes_cover_what_the_region_has_of_them(p, dim):
    rng = np.random.default_rng(0)
    region = Ball(p, 2.0, dim)
    points = region.project(torch.from_numpy(rng.laplace(size=(3000, dim)))).numpy()
    lower, upper = np.full((1, dim), -2.0), np.full((1, dim), 2.0)
    for _ in range(3):
        lower, upper, _ = split_boxes(lower, upper, rng.uniform(0.5, 1, lower.shape), region)
        inside = (points[:, None] >= lower) & (points[:, None] <= upper)
        assert inside.all(axis=2).any(axis=1).all()
    assert 1 <= len(lower) <= 8


@pytest.mark.parametrize("wanted", [0, 1])
def test_many_dimensions_are_decided_by_splitting_relus(wanted):
    """A linear network on an L1 ball: the truth is the dual norm, on either side of it."""
    rng = np.random.default_rng(1)
    rows = float32_array(rng, 2, 24)
    graph = Graph("z", 24, (Affine("a", (("z", rows),), np.zeros(2)), Relu("h", "a"), *linear_readout()), "y")
    top = np.abs(rows[0]).max()
    query = network_query(graph, Ball(1, 1.0, 24), formula_property(y[0] < float(top) * (1.01 if wanted else 0.99)))
    truth = Outcome.HOLDS if wanted else Outcome.VIOLATED
    assert z3_answer(query) is truth
    assert verify(query, "bab").outcome is truth
    assert verify(query, "milp").outcome is truth


@pytest.mark.parametrize("p", [1, math.inf])
def test_a_shell_of_many_dimensions_is_decided_by_splitting_relus(p):
    """The output is the greatest of two coordinates' sizes: below 0.4 at many points of a shell from 0.5, never below −0.1."""
    signs = np.zeros((4, 12))
    signs[0, 0] = signs[2, 1] = 1
    signs[1, 0] = signs[3, 1] = -1
    nodes = (
        Affine("a", (("z", signs),), np.zeros(4)),
        Relu("h", "a"),
        Affine("y", (("h", np.ones((1, 4))),), np.zeros(1)),
    )
    graph, shell = Graph("z", 12, nodes, "y"), Ball(p, 1.0, 12, 0.5)
    for least, truth in ((0.4, Outcome.VIOLATED), (-0.1, Outcome.HOLDS)):
        query = network_query(graph, shell, formula_property(y[0] > least))
        verdict = verify(query, "bab")
        assert verdict.outcome is truth
        assert verdict.witness is None or shell.contains(verdict.witness.latent)


def linear_readout():
    return [Affine("y", (("h", np.eye(2)),), np.zeros(2))]


def small_flow(p=1):
    torch.manual_seed(3)
    flow = USFlow(2, blocks=2, hidden=(6,), base=make_base("gamma-mixture", 2, p))
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return flow


def small_classifier():
    return random_network(np.random.default_rng(5), (2, 6, 6, 2))


@pytest.mark.parametrize(("p", "dual"), [(1, math.inf), (2, 2), (math.inf, 1)])
def test_without_relus_the_certificate_is_the_dual_norm(p, dual):
    """y = W z + b in ten dimensions: the nearest violation of y0 ≥ y1 is at (b0 − b1) / ‖w0 − w1‖."""
    rng = np.random.default_rng(0)
    flow = USFlow(10, blocks=0, base=make_base("exponential", 10, p))
    network = random_network(rng, (10, 2))
    node = network.nodes[-1]
    row = dense(node.terms[0][1])
    nearest = (node.bias[0] - node.bias[1] + 3.0) / np.linalg.norm(row[0] - row[1], dual)
    query = flow_query(flow, network, Ball(p, 2 * nearest, 10), classified_as(0, -3.0))
    certificate = certify(query, gap=1e-3, timeout=600)
    assert certificate.complete
    assert certificate.proved_radius == pytest.approx(nearest, rel=2e-3)
    assert certificate.proved_radius <= nearest * (1 + 1e-9) <= certificate.refuted_radius * (1 + 1e-6)


@pytest.mark.parametrize(("p", "wanted"), by_day([(1, 0), (1, 1), (math.inf, 1), (math.inf, 0)], 2))
def test_the_certificate_is_the_least_norm_of_a_violation(p, wanted):
    """Against bisection on the radius with an exact solver."""
    flow, network = small_flow(p), small_classifier()
    radius = float(flow.base.law.quantile(0.999))
    query = flow_query(flow, network, Ball(p, radius, 2), classified_as(wanted, -0.3))
    certificate = certify(query, gap=1e-4, timeout=600)
    assert certificate.complete
    assert 0 <= certificate.certified_mass <= certificate.refuted_mass <= 1
    if certificate.witness is None:
        assert exact_answer(query) is Outcome.HOLDS
        assert certificate.proved_radius == query.region.radius
        return
    assert certificate.proved_radius >= certificate.refuted_radius * (1 - 1e-4)
    assert certificate.witness.norm == certificate.refuted_radius
    below = query.at(Ball(p, certificate.proved_radius * (1 - 1e-9), 2))
    assert exact_answer(below) is Outcome.HOLDS
    assert exact_answer(query.at(Ball(p, certificate.refuted_radius, 2))) is Outcome.VIOLATED
    z = torch.tensor([float(v) for v in certificate.witness.latent]).double()
    x = torch.tensor(certificate.witness.data)
    assert torch.allclose(flow.double()(z), x.double(), atol=1e-4)
    assert certificate.witness.level_mass == pytest.approx(certificate.refuted_mass, abs=1e-12)


def test_after_a_ball_that_is_too_hard_smaller_ones_are_tried(monkeypatch):
    """A search that gives up above a norm of 0.4: the proved radius comes within the gap of it."""
    module = sys.modules["verify.measures.growing_balls"]
    asked = []

    def search(query, options):
        asked.append(query.region.radius)
        return DomainSearch(domains=1, open=int(query.region.radius > 0.4))

    monkeypatch.setattr(module, "search_splits", search)
    ball = Ball(1, 1.0, 12)
    query = network_query(random_network(np.random.default_rng(0), (12, 2, 2)), ball, classified_as(0))
    nothing = RadialSearch(0.0, math.inf, None)
    state = module.grow_balls(query, ball, nothing, 0.01, SearchOptions(time.monotonic() + 600), 0.0)
    assert 0.4 * 0.99 <= state.proved <= 0.4
    assert state.boxes == len(asked) < 20


def test_a_certificate_interrupted_by_time_is_still_true():
    flow, network = small_flow(), small_classifier()
    query = flow_query(flow, network, Ball(1, float(flow.base.law.quantile(0.99)), 2), classified_as(0, -0.3))
    full, short = certify(query, gap=1e-4, timeout=600), certify(query, gap=1e-4, timeout=1e-6)
    assert short.proved_radius <= full.refuted_radius
    assert short.refuted_radius >= full.proved_radius


def test_violation_probabilities_count():
    flow, network = small_flow(), small_classifier()
    query = flow_query(flow, network, Ball(1, 5.0, 2), classified_as(0))
    under_flow = violation_probability(query, samples=20_000, confidence=0.9999)
    torch.manual_seed(9)
    rows = flow.sample((20_000,))
    in_data = violations_in_data(query, rows, confidence=0.9999)
    assert under_flow.low < in_data.high  # intervals of confidence 0.9999 overlap
    assert in_data.low < under_flow.high
    outputs = evaluate(network, rows.double())[network.output]
    assert in_data.successes == int((outputs[:, 1] >= outputs[:, 0]).sum())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: verify(step_query(1), "abacus"), SolverError),
        (lambda: verify(step_query(1), "smt:yices"), SolverError),
        (lambda: verify(step_query(1), "milp", timeout=0), SolverError),
        (lambda: verify(step_query(1, p=2), "smt"), QueryError),
        (lambda: certify(step_query(1)), QueryError),
        (lambda: violation_probability(step_query(1)), QueryError),
        (lambda: violation_probability(latent_query(), samples=-1), DataError),
        (lambda: verify(step_query(1), timeout=math.nan), SolverError),
        (lambda: certify(latent_query(), gap=math.nan), SolverError),
        (lambda: certify(latent_query(), timeout=math.nan), SolverError),
        (lambda: network_query(small_classifier(), Box(np.zeros(3), np.ones(3)), classified_as(0)), QueryError),
        (lambda: flow_query(USFlow(3), small_classifier(), Ball(1, 1, 3), classified_as(0)), QueryError),
        (lambda: certify(shells_query()), RegionError),
    ],
)
def test_what_cannot_be_asked_is_refused(call, error):
    if error is SolverError and ENGINES["smt:yices"].version is not None:
        pytest.skip("yices is installed")
    with pytest.raises(error, match=r"expected .*; (got|it is) "):
        call()


def latent_query():
    return flow_query(small_flow(), small_classifier(), Ball(1, 1.0, 2), classified_as(0))


def shells_query():
    flow = USFlow(2, base=make_base("lognormal", 2, 1))
    return flow_query(flow, small_classifier(), Ball(1, 1.0, 2), output_between(0, 0, 1))


def test_engines_say_what_they_are():
    assert list(ENGINES)[:3] == ["bab", "milp", "smt"]
    assert engine("milp").version


@pytest.mark.parametrize("engine", ["bab", "milp"])
def test_a_tie_of_an_affine_map_in_many_dimensions_is_no_violation(engine):
    graph = Graph("z", 9, (Affine("y", (("z", np.ones((1, 9))),), np.zeros(1)),), "y")
    query = network_query(graph, Ball(math.inf, 1.0, 9), output_between(0, -9, 9))
    assert verify(query, engine, timeout=2).outcome is not Outcome.VIOLATED
    beyond = network_query(graph, Ball(math.inf, 1.0, 9), output_between(0, -9, 8))
    assert verify(beyond, engine, timeout=20).outcome is Outcome.VIOLATED


def test_attacks_come_at_once_then_ever_less_often_and_from_other_points(monkeypatch):
    made = []
    monkeypatch.setattr(
        sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: made.append(options)
    )
    attack = RepeatedAttack(small_query("L1 ball", "between"), first=1, cut=16)
    for pieces in (0, 0, 1, 255, 256, 1023, 1024, 5000):
        attack.after(pieces)
    assert made == [{"cut": 16}, {"seed": 2}, {"seed": 3}, {"seed": 4}, {"seed": 5}]


def test_a_cut_attack_takes_the_first_steps_of_a_whole_one():
    query = threshold_query(0)
    start = query.region.draw(16, 0)
    once, more = (climb(query, start, cut=cut) for cut in (0, 3))
    assert (once == start).all()
    assert not (more == start).all()
    assert (climb(query, start, 3) != more).any()


def test_one_thread_is_meant_for_every_library_of_linear_algebra():
    """Also for one that is loaded later: scipy brings its own, and two of them on all cores only wait for each other."""
    code = (
        "from threadpoolctl import threadpool_info\n"
        "from veriflow.runtime.threads import one_thread\n"
        "with one_thread():\n    import scipy.linalg\n    found = threadpool_info()\n"
        "assert len({part['filepath'] for part in found if part['internal_api'] == 'openblas'}) >= 1\n"
        "assert all(part['num_threads'] == 1 for part in found), found\n"
    )
    without = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env=without)
