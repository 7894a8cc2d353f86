"""Data far from zero: times in seconds, map coordinates, numbers of records. A flow loses nothing to their offset."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from cli_runs import document, run

from veriflow import Ball, TrainingOptions, USFlow, compress, fit, flow_query, load_flow, parse_property, save_flow
from veriflow.files.sealed import save_tensors
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph
from veriflow.training.fit import split
from veriflow.training.preparation import short_standardisation, standardisation
from verify import Outcome, verify

OFFSETS = [0.0, 2.0**20, -(2.0**30), 1.7e9, 1e12, 1e15]


def exact_rows(count, seed=0, dim=3):
    """Numbers of a few hundred, in eighths: a float64 of 1e15 holds their sums exactly."""
    return np.round(np.random.default_rng(seed).normal(0, 300, (count, dim)) * 8) / 8


def flow_at(offset, dtype=torch.float64):
    torch.manual_seed(3)
    flow = USFlow(3, blocks=2, hidden=(6,)).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    mean = torch.tensor([offset, 5.0, -offset], dtype=torch.float64)
    flow.standardise(mean, torch.tensor([300.0, 2.0, 77.0]))
    return flow


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_changes_neither_densities_nor_scores_nor_samples(offset, dtype):
    near, far = flow_at(0.0, dtype), flow_at(offset, dtype)
    shift = torch.tensor([offset, 0.0, -offset], dtype=torch.float64)
    x = torch.from_numpy(exact_rows(50))
    for method in ("log_prob", "latent", "score", "log_tail_mass", "norm"):
        assert torch.equal(getattr(near, method)(x), getattr(far, method)(x + shift))
    torch.manual_seed(0)
    drawn = near.sample(2000)
    torch.manual_seed(0)
    moved = far.sample(2000)
    assert moved.dtype == torch.float64
    assert torch.equal(moved, drawn + shift)


@pytest.mark.parametrize("offset", OFFSETS)
def test_graphs_of_both_directions_keep_an_offset(offset):
    flow = flow_at(offset)
    deviations, step = flow.deviations().numpy(), np.spacing(max(abs(offset), 1.0))
    z = flow.base.sample(20).double()
    x = flow(z).detach()
    for point, image in zip(z.tolist(), x.tolist(), strict=True):
        found = [float(v) for v in evaluate_exact(flow.graph(), [Fraction(v) for v in point])["x"]]
        assert (np.abs(np.subtract(found, image)) <= 1e-4 * deviations + step).all()
        back = [float(v) for v in evaluate_exact(flow.graph("inverse"), [Fraction(v) for v in image])["z"]]
        assert (np.abs(np.subtract(back, point)) <= 1e-4 + step).all()
    assert flow.rounding_deviation() <= 0.01 + 2 * step
    assert flow.rounding_deviation(direction="inverse") <= 1e-4


def test_a_mean_is_short_where_the_flow_can_learn_the_rest():
    deviation = np.array([100.0, 100.0, 1.0])
    mean, short = short_standardisation(np.array([1.7e9 + 3, 1e15 + 7, 0.1]), deviation)
    assert mean.tolist() == [1.7e9, 1e15 + 7, float(np.float32(0.1))]
    assert short.tolist() == deviation.tolist()
    flow = USFlow(3)
    flow.standardise(torch.tensor(mean), torch.tensor(short))
    assert flow.graph().nodes[-1].bias.tolist() == [1.7e9, 1e15 + 7, 0.0]


@pytest.mark.parametrize("offset", OFFSETS)
def test_means_and_deviations_lose_nothing_to_an_offset(offset):
    rows = exact_rows(100)
    mean, deviation = standardisation(rows + offset)
    assert np.allclose(mean - offset, rows.mean(axis=0), atol=np.spacing(abs(offset) + 1000), rtol=0)
    assert np.allclose(deviation, rows.std(axis=0), rtol=1e-12)


def test_casting_a_flow_leaves_its_standardisation_alone():
    flow = flow_at(1.7e9 + 0.3)
    for cast in (torch.float16, torch.float64, torch.float32):
        flow.to(cast)
        assert flow.standardisation.mean.tolist() == [1.7e9 + 0.3, 5.0, -1.7e9 - 0.3]
    assert next(flow.parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flow_file_keeps_the_offset(tmp_path, dtype):
    flow = flow_at(1e15 + 1, dtype)
    save_flow(flow, tmp_path / "flow")
    back = load_flow(tmp_path / "flow")
    x = torch.from_numpy(exact_rows(20)) + torch.tensor([1e15, 0, -1e15], dtype=torch.float64)
    assert torch.equal(back.log_prob(x), flow.log_prob(x))
    assert next(back.parameters()).dtype == dtype


def test_a_file_of_the_first_version_is_read(tmp_path):
    flow = flow_at(1.7e9, torch.float32)
    tensors = {name: tensor.float() for name, tensor in flow.state_dict().items()}
    save_tensors(tmp_path / "flow", "flow", flow.config(), tensors)
    x = torch.from_numpy(exact_rows(20)) + torch.tensor([1.7e9, 0, -1.7e9], dtype=torch.float64)
    assert torch.equal(load_flow(tmp_path / "flow").log_prob(x), flow.log_prob(x))


def test_a_compressed_flow_keeps_the_offset():
    rows = exact_rows(300, dim=2)
    options = TrainingOptions(steps=40, validate_every=20)
    fitted = []
    for offset in (0.0, 2.0**30):
        torch.manual_seed(0)
        flow = USFlow(2, blocks=1, hidden=(4,)).double()
        fit(flow, rows + offset, options, progress=False)
        flow.standardise(flow.standardisation.mean.round(), flow.deviations().round())
        fitted.append(compress(flow, rows + offset, bits=8, steps=0, options=options, progress=False))
        _, validation = split(flow, rows + offset, options)
        assert fitted[-1].log_prob(validation).mean() > -16
    assert fitted[1].rounding_deviation() < 1


def test_commands_keep_times_apart(tmp_path):
    generator = np.random.default_rng(0)
    times = 1.7e9 + generator.uniform(0, 1000, 400)
    lines = [f"{a:.4f},{t:.3f}" for a, t in zip(generator.normal(0, 1, 400), times, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,t", *lines]))
    (tmp_path / "five.csv").write_text("a,t\n" + "".join(f"0.1,{1700000400 + 30 * k}\n" for k in range(5)))
    run("fit", tmp_path / "rows.csv", "-o", tmp_path / "flow", "--steps", 100, "--blocks", 1, "--quiet")
    drawn = document("sample", tmp_path / "flow", "-n", 2000)["samples"]
    assert len({row[1] for row in drawn}) == 2000
    assert all(1.69999e9 < row[1] < 1.70001e9 for row in drawn)
    scores = document("score", tmp_path / "flow", tmp_path / "five.csv")["scores"]
    assert len({json.dumps(row) for row in scores}) == 5


def test_values_that_float32_does_not_resolve_are_reported(tmp_path):
    rows = [f"{k},{10**14 * (k % 2) + k // 2}" for k in range(200)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,id", *rows]))
    report = document("fit", tmp_path / "rows.csv", "-o", tmp_path / "flow", "--steps", 2, "--blocks", 0)
    assert report["unresolved"] == {"id": pytest.approx(0.99)}


def test_a_bound_of_times_is_decided_and_replayed():
    flow = flow_at(1.7e9)
    weight, bias = np.array([[1.0, 0.0, 0.0]]), np.array([-1.7e9])
    network = Graph("x", 3, (Affine("y", (("x", weight),), bias),), "y")
    level = flow.level_set(0.5)
    torch.manual_seed(0)
    times = level.sample(2000)[:, 0] - 1.7e9
    ball = Ball(1, level.radius, 3)
    broken = verify(
        flow_query(flow, network, ball, parse_property(f"y[0] <= {float(times.median()):.1f}")), timeout=600
    )
    assert broken.outcome is Outcome.VIOLATED
    assert broken.witness.data[0] - 1.7e9 > times.median() - 0.1
    held = verify(
        flow_query(flow, network, ball, parse_property(f"y[0] <= {20 * float(times.max()):.1f}")), timeout=600
    )
    assert held.outcome is Outcome.HOLDS
