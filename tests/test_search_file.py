"""A search that was stopped, even by force, goes on from its file to the same answer."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from small_queries import random_network
from typer.testing import CliRunner

from exporters import graph_to_onnx
from veriflow import Ball, Box, TrainingOptions, USFlow, classified_as, fit, network_query, save_flow
from veriflow.cli import app
from veriflow.cli.question import ask
from veriflow.errors import QueryError, StorageError
from verify import Outcome, certify, verify

DIM = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flow and a network on which a search to a gap of 1e-4 takes some hundred boxes."""
    path = tmp_path_factory.mktemp("search")
    torch.manual_seed(0)
    flow = USFlow(DIM, blocks=2, hidden=(8,))
    fit(flow, torch.randn(200, DIM) @ torch.randn(DIM, DIM), TrainingOptions(steps=60), progress=False)
    save_flow(flow, path / "flow.safetensors")
    network = random_network(np.random.default_rng(5), (DIM, 8, 8, 2))
    (path / "net.onnx").write_bytes(graph_to_onnx(network))
    return path


def question(folder, label=0, mass=0.999):
    prop = f"classified_as({label}, -0.5)"
    return ask(folder / "flow.safetensors", folder / "net.onnx", prop, mass, None).queries[0]


def test_a_search_killed_in_the_middle_goes_on_to_the_same_answer(folder, tmp_path):
    file, whole = tmp_path / "search.json", certify(question(folder), gap=1e-4, timeout=300)
    assert whole.complete
    words = ["certify", "--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--gap", "1e-4"]
    words += ["--property", "classified_as(0, -0.5)", "--timeout", "300", "--checkpoint", file]
    process = subprocess.Popen(
        [sys.executable, "-m", "veriflow", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not file.exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    saved = json.loads(file.read_text())
    assert 0 <= saved["proved"] <= whole.refuted_radius
    again = certify(question(folder), gap=1e-4, timeout=300, checkpoint=file)
    assert again.complete
    assert again.refuted_radius == pytest.approx(whole.refuted_radius, rel=3e-4)
    assert again.proved_radius == pytest.approx(whole.proved_radius, rel=3e-4)
    once_more = certify(question(folder), gap=1e-4, timeout=300, checkpoint=file)
    assert once_more.complete
    assert once_more.boxes < whole.boxes
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_proved_in_too_little_time_is_kept(folder, tmp_path):
    file = tmp_path / "search.json"
    radii = [0.0]
    for _ in range(3):
        part = certify(question(folder), gap=1e-4, timeout=1e-3, checkpoint=file)
        radii.append(part.proved_radius)
    assert radii == sorted(radii)
    assert json.loads(file.read_text())["proved"] == radii[-1]


def test_checkpoints_of_something_else_are_refused(folder, tmp_path):
    file = tmp_path / "search.json"
    certify(question(folder), timeout=1e-3, checkpoint=file)
    for other in (question(folder, label=1), question(folder, mass=0.9)):
        with pytest.raises(QueryError, match=r"expected a checkpoint of the same query in .*; got one of another"):
            certify(other, checkpoint=file)
    found = json.loads(file.read_text())
    for change in ({"kind": "another"}, {"proved": -1.0}, {"proved": "all"}, {"point": ["0"] * DIM}, {"point": ["x"]}):
        file.write_text(json.dumps(found | change))
        with pytest.raises(StorageError, match="expected a checkpoint of a search in"):
            certify(question(folder), checkpoint=file)
    file.write_text("nothing")
    words = ["certify", "--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--checkpoint", file]
    shown = CliRunner().invoke(app, [*map(str, words), "--property", "classified_as(0)"])
    assert shown.exit_code == 2
    assert "expected a checkpoint of a search in" in shown.stderr
    assert file.read_text() == "nothing"


@pytest.mark.parametrize(("p", "dim", "margin"), [(1, 3, 6.0), (float("inf"), 12, 1.5)])
def test_a_search_that_fills_the_memory_says_so_and_what_is_proved(monkeypatch, p, dim, margin):
    network = random_network(np.random.default_rng(1), (dim, 16, 16, 2))
    query = network_query(network, Ball(p, 2.0, dim), classified_as(0, -margin))
    for module in ("verify.pieces", "verify.box_splitting"):
        monkeypatch.setattr(sys.modules[module], "MOST_PIECES", 0)
    monkeypatch.setattr(sys.modules["verify.attack"], "find_violation", lambda query, **options: None)
    verdict = verify(query, "bab", timeout=60)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "memory" in verdict.reason


@pytest.mark.parametrize("dim", [3, 12])
def test_a_search_without_any_time_proves_nothing(monkeypatch, dim):
    monkeypatch.setattr(sys.modules["verify.attack"], "find_violation", lambda query, **options: None)
    network = random_network(np.random.default_rng(1), (dim, 16, 16, 2))
    box = Box(-2 * np.ones(dim), 2 * np.ones(dim))
    for region in (box, Ball(1, 20.0, dim), Ball(math.inf, 2.0, dim), Ball(1, 20.0, dim, 1.0)):
        verdict = verify(network_query(network, region, classified_as(0)), "bab", timeout=1e-9)
        assert verdict.outcome is Outcome.UNKNOWN, (region, verdict.reason)
