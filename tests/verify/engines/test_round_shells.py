"""L2 shells: branch and bound against the enumeration of activation patterns, and against points of the shell."""

import json
import math
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from round_truth import greatest_slack
from shares import by_day
from small_queries import float32_array, random_flow, random_network
from typer.testing import CliRunner

from exporters import graph_to_onnx
from veriflow.density.radial import RadialBase
from veriflow.density.simple_laws import LogNormalLaw
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import save_flow
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import Affine, Graph, Relu, compose
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import flow_query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from verify import Outcome, verify
from verify.bab.box_domains import split_boxes
from verify.cli import app
from verify.witness.replay import replay


@pytest.fixture
def no_attack(monkeypatch):
    """Programs and bounds find violations themselves."""
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)


def peak(rng, dim):
    """A network whose output is greatest at a point near the centre: minus a sum of weighted distances from hyperplanes."""
    rows, offsets = float32_array(rng, 3, dim), float32_array(rng, 3, scale=0.3)
    weights = -np.abs(float32_array(rng, 1, 6))
    nodes = (
        Affine("a", (("x", np.vstack([rows, -rows])),), np.concatenate([offsets, -offsets])),
        Relu("h", "a"),
        Affine("y", (("h", weights),), np.zeros(1)),
    )
    return Graph("x", dim, nodes, "y")


def random_query(seed):
    """A query over a shell, its greatest slack, a little above or below zero, and that in the filled ball."""
    rng = np.random.default_rng(seed)
    dim = 2 + seed % 2
    inner = float(rng.uniform(0.3, 1.5))
    shell = Ball(2, inner * float(rng.uniform(1.0, 2.0)), dim, inner).rounded_outward()
    graph = peak(rng, dim)
    if seed % 4 == 0:
        graph = compose(random_flow(rng, dim, 1, 2, depth=1), random_network(rng, (dim, 3, 1)))
    query = network_query(graph, shell, formula_property(y[0] < 0))
    greatest = greatest_slack(query)
    filled = greatest_slack(query.at(replace(shell, inner=0.0)))
    slack = (0.05, 1e-3, 1e-4, -1e-4, -1e-3, -0.05)[seed % 6]
    limit = greatest - slack
    return network_query(graph, shell, formula_property(y[0] < limit)), slack, filled - limit


def check_agreement(seeds):
    """Every outcome is the truth, which sampling bounds from below; many queries are violated inside of the shell alone."""
    seen = []
    for seed in seeds:
        query, slack, filled = random_query(seed)
        points = query.region.draw(4096, seed)
        sampled = evaluate(query.graph, points)[query.graph.output][:, 0].max().item()
        assert sampled <= slack + float(query.violation[0][0].bound) + 1e-6
        verdict = verify(query, "bab", timeout=600)
        assert verdict.outcome is (Outcome.VIOLATED if slack > 0 else Outcome.HOLDS), (seed, slack, verdict)
        assert verdict.witness is None or query.region.contains(verdict.witness.point)
        seen.append((verdict.outcome, filled > 0))
    assert set(seen) == {(Outcome.VIOLATED, True), (Outcome.HOLDS, True), (Outcome.HOLDS, False)}
    assert seen.count((Outcome.HOLDS, True)) >= len(seen) // 8


@pytest.mark.parametrize("part", by_day(range(43), 1))
def test_verdicts_agree_with_enumeration(part, no_attack):
    check_agreement(range(18 * part, 18 * part + 18))


def distance(centre):
    """The network y = |z₀ − c₀| + |z₁ − c₁| + …"""
    dim = len(centre)
    signs = np.vstack([np.eye(dim), -np.eye(dim)])
    nodes = (
        Affine("a", (("x", signs),), -signs @ np.array(centre, dtype=float)),
        Relu("h", "a"),
        Affine("y", (("h", np.ones((1, 2 * dim))),), np.zeros(1)),
    )
    return Graph("x", dim, nodes, "y")


@pytest.mark.parametrize(
    ("centre", "size", "inner"),
    [((3, 4), 0, 5), ((2, 3, 6), 0, 7), ((0, 4), 1, 5), ((0, 0), 5, 5), ((0, 0, -2), 1, 3)],
)
def test_what_is_violated_on_the_inner_sphere_alone_is_never_proved(centre, size, inner, no_attack):
    """One point, or corners of a diamond; a sphere that is a little smaller or larger is told from it."""
    shell = Ball(2, inner + 1.0, len(centre), float(inner))
    touching = network_query(distance(centre), shell, formula_property(y[0] > size))
    assert verify(touching, "bab", timeout=20).outcome is not Outcome.HOLDS
    inside = touching.at(replace(shell, inner=inner + 2.0**-10))
    assert verify(inside, "bab", timeout=20).outcome is Outcome.HOLDS
    outside = touching.at(replace(shell, inner=inner - 2.0**-10))
    verdict = verify(outside, "bab", timeout=20)
    assert verdict.outcome is Outcome.VIOLATED or (not size and verdict.outcome is Outcome.UNKNOWN)
    strictly = network_query(distance(centre), shell, formula_property(y[0] >= size))
    assert verify(strictly, "bab", timeout=2).outcome is not Outcome.VIOLATED


def test_a_sphere_and_what_does_not_depend_on_all_coordinates():
    """A shell without thickness; a strip that leaves it, and one that a trimmed shell keeps inside."""
    for radius, truth in ((1.0, Outcome.VIOLATED), (1.25, Outcome.HOLDS)):
        sphere = Ball(2, radius, 2, radius)
        assert verify(network_query(distance((0, 0)), sphere, formula_property(y[0] > 1)), timeout=600).outcome is truth
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    nodes = (
        Affine("a", (("x", rows),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.ones((1, 2))),), np.zeros(1)),
    )
    strip = Graph("x", 2, nodes, "y")
    for limit, truth in ((math.inf, Outcome.VIOLATED), (0.875, Outcome.HOLDS)):
        shell = Ball(2, 1.5, 2, 1.0, limit)
        assert verify(network_query(strip, shell, formula_property(y[0] > 0.25)), timeout=600).outcome is truth


def test_products_of_shells_are_decided_part_by_part(no_attack):
    """Two shells: y = |z₀| + |z₁| + |z₂ + 1| is violated only where both parts are within."""
    region = Product((Ball(2, 1.5, 2, 1.0), Ball(2, 1.0, 1, 0.5)))
    for least, truth in ((1.0, Outcome.HOLDS), (0.98, Outcome.HOLDS), (1.02, Outcome.VIOLATED)):
        query = network_query(distance((0, 0, -1)), region, formula_property(y[0] > least))
        query = query if least != 1.0 else query.at(replace(region, parts=(region.parts[0], Ball(2, 0.75, 1, 0.5))))
        verdict = verify(query, "bab", timeout=20)
        assert verdict.outcome is truth
    boxed = Product((Ball(2, 1.5, 2, 1.0), Box(np.array([0.5]), np.array([1.0]))))
    query = network_query(distance((0, 0, 0)), boxed, formula_property(y[0] > 1.25))
    assert verify(query, "bab", timeout=20).outcome is Outcome.HOLDS


def test_in_many_dimensions_nothing_is_proved_over_the_inside():
    """What holds all over the ball holds; a violation at the centre alone stays open, one in the shell is found."""
    shell = Ball(2, 1.5, 12, 1.0)
    network = distance((0,) * 12)
    for least, truth in ((-0.01, Outcome.HOLDS), (0.25, Outcome.UNKNOWN), (1.25, Outcome.VIOLATED)):
        verdict = verify(network_query(network, shell, formula_property(y[0] > least)), "bab", timeout=20)
        assert verdict.outcome is truth
    assert "inside of the L2 shell" in verify(network_query(network, shell, formula_property(y[0] > 0.25))).reason


def test_halving_drops_no_box_that_meets_the_inner_sphere():
    """Corners that lie on the sphere exactly, and one unit in the last place on either side of it."""
    below, above = (float(np.nextafter(3.0, end)) for end in (0, 9))
    far = np.array([[below, 4.0], [3.0, 4.0], [above, 4.0], [2.999, 4.0]])
    _, upper, _ = split_boxes(np.zeros((4, 2)), far, np.ones((4, 2)), Ball(2, 6.0, 2, 5.0))
    assert {3.0, above} <= set(upper[:, 0].tolist())
    assert 2.999 not in upper[:, 0]


def test_replay_decides_the_inner_sphere_exactly():
    shell = Ball(2, 6.0, 2, 5.0)
    query = network_query(distance((0, 0)), shell, formula_property(y[0] > 100))
    assert replay(query, [3.0, 4.0]).point == (3, 4)
    below = Fraction(3) - Fraction(1, 10**30)
    assert not shell.contains([below, Fraction(4)])
    moved = replay(query, [below - Fraction(1, 10**8), Fraction(4)])
    assert moved is not None
    assert shell.contains(moved.point)
    assert replay(query, [2.9, 4.0]) is None


def test_points_inside_of_a_shell_are_projected_onto_its_inner_sphere():
    shell = Ball(2, 1.5, 3, 1.0)
    points = torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0], [0, 0, 1.2], [0, 3, 4]], dtype=torch.float64)
    norms = torch.linalg.vector_norm(shell.project(points), dim=-1)
    assert norms.tolist() == pytest.approx([1.0, 1.0, 1.2, 1.5])


def shell_flow():
    torch.manual_seed(0)
    flow = USFlow(2, blocks=1, hidden=(3,), base=RadialBase(2, LogNormalLaw(2, 1.0, 0.2)))
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return flow


def test_a_level_set_that_is_a_shell_is_decided_by_the_command_line(tmp_path):
    """The distance to the image of the centre: violated in the filled ball, and in the shell from its least value on."""
    flow = shell_flow()
    ((inner, radius),) = flow.level_set(0.8).intervals
    assert 0.3 < inner < radius
    with torch.no_grad():
        centre = evaluate(flow.graph(), torch.zeros(1, 2, dtype=torch.float64))[flow.graph().output][0]
    network = distance(np.float32(centre).tolist())
    query = flow_query(flow, network, Ball(2, radius, 2, inner), formula_property(y[0] > 0)).at(
        Ball(2, radius, 2, inner)
    )
    least = -greatest_slack(query)
    assert least > 0.05
    save_flow(flow, tmp_path / "flow.safetensors")
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(network))
    files = ["--flow", tmp_path / "flow.safetensors", "--network", tmp_path / "net.onnx", "--mass", 0.8, "--json"]
    for share, outcome, code in ((0.99, "holds", 0), (1.01, "violated", 1)):
        asked = ["verify", *files, "--property", f"y[0] >= {share * least:.6f}"]
        result = CliRunner().invoke(app, [str(part) for part in asked])
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["outcome"] == outcome
