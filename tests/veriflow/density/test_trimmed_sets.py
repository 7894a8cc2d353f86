"""Trimmed balls: their support, bounds over them, their mass, and the trimmed level sets of flows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from cli_runs import document, refused, run
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from small_queries import exact, float32_array, random_flow, random_network

from exporters import query_from_bytes, query_to_bytes
from veriflow.density.ball_mass import Mass, ball_mass, within_share
from veriflow.density.radial import BASES, RadialBase, exponential, gamma_mixture, make_base
from veriflow.density.simple_laws import GammaLaw, LogNormalLaw
from veriflow.density.trimmed_sets import trimmed_level_set
from veriflow.errors import QueryError, RegionError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu, compose
from veriflow.queries.constraints import y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import flow_query, network_query
from veriflow.regions.ball import Ball
from veriflow.testing.enumeration import feasible_point
from verify import Outcome, certify, trimmed_for_proof, verify

DIMS = (1, 2, 10, 64, 1000)

trimmed_balls = st.builds(
    lambda p, radius, part, dim: Ball(p, radius, dim, limit=part * radius),
    st.sampled_from([1, 2]),
    st.floats(0.1, 10),
    st.floats(0.02, 0.98),
    st.integers(1, 12),
)


@given(trimmed_balls, st.integers(0, 1000))
def test_the_support_is_the_optimum(ball: Ball, seed: int) -> None:
    """That of a linear program for p = 1; for p = 2 no less than at any point, and reached at one."""
    row = np.random.default_rng(seed).standard_normal(ball.dim)
    row[seed % ball.dim] *= seed % 3
    found, point = ball.support(row[None])[0], ball.farthest(row[None])[0]
    assert np.linalg.norm(point, ball.p) <= ball.radius * (1 + 1e-12)
    assert np.abs(point).max() <= ball.limit * (1 + 1e-12)
    assert found == pytest.approx(row @ point, rel=1e-12, abs=1e-12)
    if ball.p == 1:
        halves = np.concatenate([row, -row])
        best = linprog(-halves, np.ones((1, 2 * ball.dim)), [ball.radius], bounds=[(0, ball.limit)] * (2 * ball.dim))
        assert found == pytest.approx(-best.fun, rel=1e-9, abs=1e-9)
    assert (ball.draw(100, seed).numpy() @ row <= found * (1 + 1e-12)).all()


@given(trimmed_balls, st.integers(0, 1000))
def test_the_projection_is_the_nearest_point(ball: Ball, seed: int) -> None:
    """Every other point of a convex set is seen from the nearest one at no acute angle."""
    far = (
        3 * ball.radius * torch.randn(10, ball.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    )
    near = ball.project(far)
    assert torch.linalg.vector_norm(near, ball.p, dim=-1).max() <= ball.radius * (1 + 1e-12)
    assert near.abs().max() <= ball.limit
    beyond = ball.support((far - near).numpy()) - ((far - near) * near).sum(-1).numpy()
    assert (beyond <= 1e-8 * ball.radius**2).all()


@pytest.mark.parametrize("p", [1, 2])
def test_shells_are_projected_to_from_within(p: float) -> None:
    shell = Ball(p, 2.0, 6, 1.5, 0.9)
    points = shell.project(torch.randn(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    norms = torch.linalg.vector_norm(points, p, dim=-1)
    assert 1.5 - 1e-12 <= norms.min() <= norms.max() <= 2 + 1e-12
    assert points.abs().max() <= 0.9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((math.inf, 1.0, 2, 0.0, 0.5), "with norm 1 or 2; got 0.5"),
        ((1, 1.0, 2, 0.0, -0.5), "from 0 on"),
        ((1, 1.0, 2, 0.0, math.nan), "got nan"),
        ((1, 1.0, 2, 0.75, 0.25), "points of norm 0.75 can meet"),
        ((2, 1.0, 4, 0.75, 0.25), "points of norm 0.75 can meet"),
    ],
)
def test_what_is_no_trimmed_ball_is_refused(arguments: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(RegionError, match=sentence):
        Ball(*arguments)


def test_a_trimmed_ball_says_what_it_is_and_holds_its_points() -> None:
    ball = Ball(1, 0.9, 3, limit=0.4)
    assert str(ball) == "||z||_1 <= 0.9, |z_i| <= 0.4, in 3 dimensions"
    assert not ball.contains([Fraction(41, 100), Fraction(0), Fraction(0)])
    assert ball.contains([Fraction(0.4), Fraction(-0.4), Fraction(0)])
    assert not ball.contains([Fraction(0.4), Fraction(-0.4), Fraction(11, 100)])
    rounded = ball.rounded_outward()
    assert rounded.limit == float(np.float32(rounded.limit)) >= 0.4
    assert not Ball(1, 0.9, 3, limit=0.9).is_trimmed


def deep_graph(dim: int, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    return compose(random_flow(rng, dim, 2, 8), random_network(rng, (dim, 8, 2)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [1, 2])
def test_bounds_hold_at_the_farthest_points_in_exact_arithmetic(p: float, seed: int) -> None:
    graph, ball = deep_graph(12, seed), Ball(p, 6.0, 12, limit=0.75)
    prop = classified_as(0, 0.5)
    ended = optimised_bounds(graph, ball, network_query(graph, ball, prop).arrays.conjunctions)
    rng = np.random.default_rng(seed)
    corners = ball.farthest(rng.standard_normal((8, 12))) * (1 - 2.0**-40)
    for point in (*corners, *ball.draw(8, seed).numpy() * (1 - 2.0**-40)):
        assert ball.contains(exact(point))
        values = evaluate_exact(graph, exact(point))
        for bounds in (symbolic_bounds(graph, ball), ended.bounds):
            for name, value in values.items():
                sides = zip(bounds.lower[name].tolist(), value, bounds.upper[name].tolist(), strict=True)
                assert all(low <= v <= high for low, v, high in sides)
        below = ended.limits[0] - float(ended.rows[0] @ np.array([float(v) for v in values[graph.output]]))
        assert ended.margins[0] <= below + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_trimming_tightens_bounds(seed: int) -> None:
    graph = deep_graph(16, seed)
    pure, trimmed = (symbolic_bounds(graph, Ball(1, 4.0, 16, limit=limit)) for limit in (math.inf, 0.5))
    widths = [float((bounds.upper[graph.output] - bounds.lower[graph.output]).sum()) for bounds in (pure, trimmed)]
    assert widths[1] < 0.8 * widths[0]


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize("dim", [6, 24])
def test_engines_find_the_knapsack(dim: int, share: float) -> None:
    """relu(a z) − relu(−a z) is a z, whose largest value over the ball is a sum of the largest coefficients."""
    rows = float32_array(np.random.default_rng(dim), 1, dim)
    ball = Ball(1, 1.75, dim, limit=0.5)
    sizes = sorted(np.abs(rows[0]).tolist(), reverse=True)
    top = 0.5 * sum(sizes[:3]) + 0.25 * sizes[3]
    nodes = (
        Affine("a", (("z", np.vstack([rows, -rows])),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.array([[1.0, -1.0]])),), np.zeros(1)),
    )
    query = network_query(Graph("z", dim, nodes, "y"), ball, formula_property(y[0] < share * top))
    for engine in ("bab", "milp", "smt"):
        verdict = verify(query, engine, timeout=600)
        assert verdict.outcome is (Outcome.HOLDS if share > 1 else Outcome.VIOLATED), engine
        assert verdict.witness is None or ball.contains(verdict.witness.point)
    again = query_from_bytes(query_to_bytes(query))
    assert again.region == query.region


def test_the_exact_truth_knows_limits() -> None:
    """The enumeration that the corpus is judged by, at a point that only the limit excludes."""
    one, zero = Fraction(1), Fraction(0)
    rows = [((one, zero, Fraction(-1, 2)), False), ((-one, zero, Fraction(3, 4)), False)]
    assert feasible_point(rows, 2) is None


def laplace_mass(dim: int, radius: mpmath.mpf, limit: mpmath.mpf) -> mpmath.mpf:
    """P(ΣE ≤ r, max E ≤ t) of exponential E: the alternating sum over how many are beyond t, with enough digits."""
    return mpmath.fsum(
        (-1) ** k * mpmath.binomial(dim, k) * mpmath.exp(-k * limit) * mpmath.gammainc(dim, 0, rest, regularized=True)
        for k in range(dim + 1)
        if (rest := radius - k * limit) > 0
    )


@pytest.mark.parametrize("dim", DIMS)
def test_the_mass_is_that_of_the_alternating_sum(dim: int) -> None:
    base = gamma_mixture(dim).double()
    scales = [float(law.log_scale.detach().exp()) for law in base.law.simple_laws()]
    radius = float(base.law.quantile(0.6))
    with mpmath.workdps(60 if dim < 1000 else 90):
        for limit in (radius / 1.3, radius / max(2.5, dim / 9)):
            parts = [laplace_mass(dim, mpmath.mpf(radius) / s, mpmath.mpf(limit) / s) for s in scales]
            found = ball_mass(base, Ball(1, radius, dim, limit=limit))
            assert abs(found.value - float(mpmath.fsum(parts) / len(parts))) <= min(1e-9, found.error + 1e-12)
    assert ball_mass(base, Ball(1, radius, dim)) == Mass(pytest.approx(0.6, abs=1e-12), 0.0)


@pytest.mark.parametrize("dim", DIMS[:-1])
@pytest.mark.parametrize("name", [name for name in BASES if name != "normal"])
def test_the_mass_is_that_of_samples(name: str, dim: int) -> None:
    base = make_base(name, dim, 1).double()
    torch.manual_seed(dim)
    z = base.sample(torch.Size([20_000])).abs()
    radius = float(base.law.quantile(0.8))
    limit = float(z.amax(-1).quantile(0.6))
    for inner in (0.0, 0.3 * min(radius, dim * limit)):
        ball = Ball(1, radius, dim, inner, limit)
        norms = z.sum(-1)
        share = float(((norms >= inner) & (norms <= radius) & (z.amax(-1) <= limit)).double().mean())
        found = ball_mass(base, ball)
        assert abs(found.value - share) < 5 * math.sqrt(0.25 / 20_000)
        assert found.error < 1e-9


@pytest.mark.parametrize("dim", [2, 5, 40])
def test_the_share_of_directions_is_the_alternating_sum(dim: int) -> None:
    points = np.arange(dim)[:, None] + np.array([0.25, 0.875])
    with mpmath.workdps(80):
        for x, share in zip(points.ravel().tolist(), within_share(points, dim).ravel().tolist(), strict=True):
            terms = (
                (-1) ** k * mpmath.binomial(dim, k) * (1 - mpmath.mpf(k) / x) ** (dim - 1) for k in range(int(x) + 1)
            )
            assert share == pytest.approx(float(mpmath.fsum(terms)), rel=1e-11)


@pytest.mark.parametrize(
    ("base", "ball", "sentence"),
    [
        (exponential(3), Ball(2, 1.0, 3), "expected a ball of norm 1 in 3 dimensions"),
        (exponential(3), Ball(1, 1.0, 2), "expected a ball of norm 1 in 3 dimensions"),
        (exponential(3, 2), Ball(2, 1.0, 3, limit=0.5), "expected a trimmed ball of norm 1"),
    ],
)
def test_a_mass_that_is_not_known_is_refused(base: RadialBase, ball: Ball, sentence: str) -> None:
    with pytest.raises(RegionError, match=sentence):
        ball_mass(base, ball)


def plain_flow(dim: int, base: RadialBase | None = None) -> USFlow:
    torch.manual_seed(0)
    return USFlow(dim, blocks=0, base=base or gamma_mixture(dim))


@pytest.mark.parametrize("dim", [2, 12, 64])
def test_a_trimmed_level_set_has_the_mass_asked_for(dim: int) -> None:
    flow = plain_flow(dim)
    limit = 0.9 * flow.level_set(0.5).radius
    for found in (trimmed_level_set(flow, mass=0.5), trimmed_level_set(flow, mass=0.5, limit=limit)):
        assert found.mass == pytest.approx(0.5, abs=1e-9)
        assert found.ball.radius >= found.level_set.radius == flow.level_set(0.5).radius
        x = flow.sample(torch.Size([20_000]))
        assert abs(float(found.contains(x).double().mean()) - 0.5) < 5 * math.sqrt(0.25 / 20_000)
    given_radius = trimmed_level_set(flow, radius=found.ball.radius, limit=limit)
    assert given_radius.mass == pytest.approx(0.5, abs=1e-9)
    assert given_radius.level_set.radius == pytest.approx(found.level_set.radius)


def test_in_many_dimensions_the_extent_is_a_fraction() -> None:
    found = trimmed_level_set(plain_flow(64), mass=0.5)
    rows = np.random.default_rng(0).standard_normal((200, 64))
    assert found.ball.limit < found.level_set.radius / 8
    assert found.ball.radius < 1.2 * found.level_set.radius
    assert found.ball.support(rows).mean() < 0.75 * Ball(1, found.level_set.radius, 64).support(rows).mean()
    assert "the pure level set of that mass has radius" in str(found)


@pytest.mark.parametrize(
    ("flow", "options", "sentence"),
    [
        (
            plain_flow(8),
            {"mass": 0.9, "limit": 0.2},
            "expected a limit that leaves a mass of 0.9; got 0.2, which leaves",
        ),
        (plain_flow(8), {"mass": 0.9, "limit": 0.0}, "expected a positive finite limit"),
        (plain_flow(8), {"limit": 1.0}, "exactly one of mass, radius"),
        (plain_flow(2, exponential(2, math.inf)), {"mass": 0.5}, "over an L1 base"),
        (plain_flow(2, RadialBase(1, LogNormalLaw(2))), {"mass": 0.5}, "density that rises first"),
    ],
)
def test_what_cannot_be_trimmed_is_refused(flow: USFlow, options: dict[str, float], sentence: str) -> None:
    with pytest.raises(RegionError, match=sentence):
        trimmed_level_set(flow, **options)


def flow_question(dim: int) -> object:
    torch.manual_seed(5)
    flow = USFlow(dim, blocks=1, hidden=(6,), base=RadialBase(1, GammaLaw(dim)))
    network = random_network(np.random.default_rng(2), (dim, 6, 2))
    return flow_query(
        flow, network, Ball(1, float(flow.base.law.quantile(0.99)), dim), formula_property(y[0] - y[1] < 1.5)
    )


@pytest.mark.parametrize("dim", [2, 10])
def test_certify_keeps_the_limit(dim: int) -> None:
    query = flow_question(dim)
    ball = replace(query.region, limit=0.3 * query.region.radius).rounded_outward()
    certificate = certify(query.at(ball), timeout=20)
    assert certificate.certified_mass == pytest.approx(
        ball_mass(query.flow.base, replace(ball, radius=certificate.proved_radius)).value, abs=1e-9
    )
    assert certificate.witness is None or ball.contains(certificate.witness.point)
    inside = query.at(replace(ball, radius=0.999 * certificate.proved_radius))
    assert certificate.proved_radius > 0
    assert verify(inside, "smt", timeout=600).outcome is Outcome.HOLDS


def test_a_limit_for_proofs_is_among_what_samples_reach() -> None:
    query = flow_question(10)
    trimmed = trimmed_for_proof(query, timeout=20)
    assert trimmed.region.radius == query.at(query.region).region.radius
    assert 0 < trimmed.region.limit < query.region.radius
    with pytest.raises(QueryError, match="over an L1 ball, to trim it"):
        trimmed_for_proof(query.at(Ball(1, 1.0, 10, 0.5)), timeout=1)


TRIMMED = ["radius", "limit", "mass", "mass_error", "level_set_radius"]


def test_commands_trim(folder: Path, asked: Callable[..., list[object]], tmp_path: Path) -> None:
    model = folder / "flow.safetensors"
    pure = document("level-set", model, "--mass", 0.5)
    limit = 0.8 * pure["radius"]
    found = document("level-set", model, "--mass", 0.5, "--trim", limit, "--data", folder / "blob.csv")
    assert list(found["trimmed"]) == TRIMMED
    assert found["trimmed"]["mass"] == pytest.approx(0.5, abs=1e-9)
    assert found["trimmed"]["level_set_radius"] == found["radius"] == pure["radius"] < found["trimmed"]["radius"]
    assert "trimmed set of mass 0.5: ||z||_1 <= " in " ".join(
        run("level-set", model, "--mass", 0.5, "--trim", "auto").stdout.split()
    )
    question = [*asked("y[0] <= 90"), "--mass", 0.5, "--trim", limit]
    decided = document("verify", *question)
    assert (decided["outcome"], decided["mass"], decided["trimmed"]) == ("holds", 0.5, found["trimmed"])
    assert "trimmed set of mass 0.5" in " ".join(run("verify", *question).stdout.split())
    assert document("export", *question, "-o", tmp_path / "bundle")["trimmed"] == found["trimmed"]
    entry = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["queries"]["query"]
    assert entry["region"]["limit"] >= limit > entry["region"]["limit"] * (1 - 1e-6)
    assert entry["mass"] == pytest.approx(0.5, abs=1e-6)
    assert entry["mass_error"] < 1e-9


@pytest.mark.parametrize("trim", [0.5, "auto"])
def test_certify_reports_the_trimmed_set_beside_the_pure_one(asked: Callable[..., list[object]], trim: object) -> None:
    found = document("certify", *asked("y[0] <= 4"), "--trim", trim, code=1)
    assert 0 < found["certified_mass"] <= found["refuted_mass"]
    assert (trim == "auto") or found["trimmed"]["limit"] == trim
    assert found["trimmed"]["proved_radius"] >= found["proved_radius"] * (1 - 2e-3)
    assert found["trimmed"]["searched_mass"] < found["searched_mass"]
    assert "where no latent coordinate is beyond" in run("certify", *asked("y[0] <= 4"), "--trim", trim).stdout


def test_bad_limits_are_refused(folder: Path, asked: Callable[..., list[object]]) -> None:
    assert "expected --trim auto or a limit" in refused("verify", *asked("y[0] <= 4"), "--mass", 0.5, "--trim", "much")
    assert "leaves a mass of 0.5" in refused("verify", *asked("y[0] <= 4"), "--mass", 0.5, "--trim", 0.01)
    assert "beside --trim" in refused("level-set", folder / "flow.safetensors", "--mass", 0.5, "--lower", "--trim", 1)
    (file := folder / "p.vnnlib").touch()
    assert "--trim" in refused("verify", "--network", folder / "net.onnx", "--property", file, "--trim", 1)
