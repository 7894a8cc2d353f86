"""Training: it learns, it repeats, it resumes, and it says what is wrong."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from veriflow.errors import DataError, ModelError, StorageError, TrainingError, VeriflowError
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import load_flow, save_flow
from veriflow.training.fit import fit
from veriflow.training.objective import Objective
from veriflow.training.options import TrainingOptions

QUICK = TrainingOptions(steps=120, batch_size=64, validate_every=20, learning_rate=5e-3)


def blobs(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 2))
    x[: rows // 2] = 0.3 * x[: rows // 2] + [3, 1]
    return rng.permutation(x)


def trained(options=QUICK, data=None, **rest):
    torch.manual_seed(0)
    flow = USFlow(2, blocks=2, hidden=(16,))
    history = fit(flow, blobs() if data is None else data, options, progress=False, **rest)
    return flow, history


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_training_improves_and_leaves_the_best_step():
    flow, history = trained()
    assert history.validation_nll[-1] < history.validation_nll[0]
    assert history.best_nll == min(history.validation_nll)
    assert history.steps == list(range(20, 121, 20))
    data = torch.as_tensor(blobs(), dtype=torch.float32)
    fresh = USFlow(2)
    fresh.standardise(data.mean(0), data.std(0))
    assert flow.log_prob(data).mean() > fresh.log_prob(data).mean() + 0.2


def test_the_same_seed_gives_the_same_bits():
    assert same(trained()[0], trained()[0])


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    whole, history = trained()

    class InterruptedRunError(Exception):
        pass

    objective, steps = Objective.__call__, itertools.count(1)

    def failing(self, chosen):
        if next(steps) == 75:
            raise InterruptedRunError
        return objective(self, chosen)

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(Objective, "__call__", failing)
        trained(checkpoint=path)
    resumed, resumed_history = trained(checkpoint=path)
    assert same(whole, resumed)
    assert resumed_history == history


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    trained(checkpoint=path)
    with pytest.raises(TrainingError, match="another run"):
        trained(data=blobs(seed=1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StorageError):
        trained(checkpoint=path)


def test_early_stopping_stops():
    options = TrainingOptions(steps=5000, validate_every=5, patience=3, learning_rate=0.05, batch_size=64)
    _, history = trained(options, data=blobs(60))
    assert history.steps[-1] < 5000
    assert len(history.steps) - 1 - history.best == 3


def test_the_determinant_prior_pulls_the_determinant_to_one():
    data = blobs() * [1, 5]
    strong, _ = trained(TrainingOptions(steps=120, prior_sigma=1e-3, validate_every=20), data=data)
    free, _ = trained(TrainingOptions(steps=120, prior_sigma=None, validate_every=20), data=data)
    assert strong.lu.log_diagonal.abs().max() < 0.3 * free.lu.log_diagonal.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_flow_is_kept(dtype):
    flow = USFlow(2, blocks=1).to(dtype)
    fit(flow, blobs(), TrainingOptions(steps=5, validate_every=5), progress=False)
    assert {p.dtype for p in flow.parameters()} == {dtype}
    assert all(p.grad is None for p in flow.parameters())


def test_frozen_parameters_stay_as_they_are():
    torch.manual_seed(0)
    flow = USFlow(2, blocks=2)
    frozen = [flow.lu.offset, flow.base.law.logits, next(flow.bijection.parameters())]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    fit(flow, blobs(), TrainingOptions(steps=20, validate_every=20), progress=False)
    moved = {name for name, parameter in flow.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in flow.named_parameters() if parameter.requires_grad}


def with_nan():
    data = blobs()
    data[17, 1] = np.nan
    return data


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (with_nan(), DataError, "row 17"),
        (blobs()[:, :1], DataError, r"\[n, 2\]; got \[400, 1\]"),
        (blobs()[:3], DataError, "got 3"),
        (blobs() * [1, 0], DataError, "got 0.0 in column 1"),
    ],
)
def test_bad_data_is_named(data, error, words):
    with pytest.raises(error, match=words):
        trained(data=data)


def test_a_loss_that_is_not_finite_is_named_by_its_step():
    data = blobs()
    flow = USFlow(2, blocks=1)
    with torch.no_grad():
        flow.lu.offset.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan at step 1"):
        fit(flow, data, QUICK, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"learning_rate": float("nan")},
        {"validation": 1.0},
        {"prior_sigma": 0.0},
        {"clip": 0},
    ],
)
def test_absurd_options_are_refused(options):
    with pytest.raises(VeriflowError, match=r"expected .*; got "):
        TrainingOptions(**options)


def test_two_processes_share_the_batches(tmp_path):
    """In a program of its own, as processes are spawned from a main module."""
    script = tmp_path / "train.py"
    script.write_text(
        "import numpy as np, torch\n"
        "from veriflow import TrainingOptions, USFlow, fit\n"
        "if __name__ == '__main__':\n"
        "    rows = np.random.default_rng(0).standard_normal((300, 2)) * 3\n"
        "    flow = USFlow(2, blocks=1, hidden=(8,))\n"
        "    options = TrainingOptions(steps=40, batch_size=64, validate_every=20)\n"
        "    history = fit(flow, rows, options, devices=2, progress=False)\n"
        "    print('nll', history.best_nll, float(flow.log_prob(torch.zeros(2))))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    nll, at_zero = done.stdout.split("nll", 1)[-1].split()
    assert float(nll) < 6
    assert -5 < float(at_zero) < 0


def test_whole_numbers_are_fitted_as_unit_intervals(tmp_path):
    rows = np.random.default_rng(0).integers([0, 10], [2, 20], (400, 2)).astype(float)
    flow = USFlow(2, blocks=0, features=("sex", "age"), integral=("age", "sex"))
    fit(flow, rows, QUICK, progress=False)
    assert flow.integral == ("sex", "age")
    assert flow.deviations()[0] == pytest.approx(np.sqrt(0.25 + 1 / 12), rel=0.1)
    path = tmp_path / "flow.safetensors"
    save_flow(flow, path)
    assert load_flow(path).integral_columns == [0, 1]
    with pytest.raises(DataError, match="expected whole numbers in column 1"):
        fit(flow, rows + np.array([0, 0.25]), QUICK, progress=False)
    with pytest.raises(ModelError, match="expected features among sex, age; got 'pay'"):
        USFlow(2, features=("sex", "age"), integral=("pay",))
