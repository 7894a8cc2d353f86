"""The demo, once, with little effort: its files, its figures, and whether they belong together."""

import hashlib
import io
import json
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from exporters import read_onnx
from veriflow import Ball, flow_query, load_flow, parse_property, read_table
from verify import replay
from verify.cli import app
from verify.cli.commands.demo import DemoOptions, run_demo

CLASSES = ("benign", "malignant")
OPTIONS = DemoOptions(features=3, timeout=1.0, classifier_steps=100, flow_steps=300, samples=5000)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "output"
    screen = Console(file=io.StringIO(), width=100)
    results = run_demo(folder, OPTIONS, screen)
    return folder, results, screen.file.getvalue()


def test_results_file_holds_what_is_returned(demo):
    folder, results, _ = demo
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["format"] == "veriflow demo"
    assert results["classifier"]["held_out_accuracy"] > 0.8
    assert len(results["features"]) == 3
    assert [row["class"] for row in results["rows"]] == ["benign"] * 3 + ["malignant"] * 3


def test_certified_mass_and_verdicts_agree(demo):
    for row in demo[1]["rows"]:
        assert 0 <= row["certified_mass"] <= row["refuted_mass"] <= 1
        for verdict in row["verdicts"]:
            if verdict["outcome"] == "holds":
                assert verdict["mass"] <= row["certified_mass"]
            elif verdict["outcome"] == "violated":
                assert verdict["mass"] >= row["refuted_mass"]
            else:
                assert row["certified_mass"] < verdict["mass"] < row["refuted_mass"]


def test_stronger_claims_are_certified_less_far(demo):
    rows = demo[1]["rows"]
    for name in CLASSES:
        right, likely, sure = [row for row in rows if row["class"] == name]
        assert right["certified_mass"] <= likely["refuted_mass"]
        assert likely["certified_mass"] <= sure["refuted_mass"]


def test_no_more_is_violated_than_what_is_not_certified(demo):
    for row in demo[1]["rows"]:
        assert row["violations_under_flow"]["low"] <= 1 - row["certified_mass"]


def test_failures_replay_on_the_files(demo):
    folder, results, _ = demo
    network = read_onnx(folder / "classifier.onnx")
    replayed = 0
    for row in results["rows"]:
        failure = row["most_probable_failure"]
        if failure is None:
            continue
        flow = load_flow(folder / results["flows"][row["class"]]["file"])
        ball = Ball(flow.base.p, float(flow.base.law.quantile(0.9999)), flow.dim)
        query = flow_query(flow, network, ball, parse_property(row["property_text"]))
        witness = replay(query, [Fraction(text) for text in failure["latent_exact"]])
        assert witness is not None
        assert witness.data == tuple(failure["values"].values())
        assert witness.level_mass == failure["level_mass"] == row["refuted_mass"]
        threshold = float((re.findall(r"0\.9+", row["property_text"]) or [0.5])[0])
        assert threshold <= failure["wrong_probability"] < 1
        replayed += 1
    assert replayed >= 4


def test_tables_hold_the_split(demo):
    folder, results, _ = demo
    held_out = read_table(folder / "held-out.csv", label="class")
    assert held_out.classes == CLASSES
    for name in CLASSES:
        flow = results["flows"][name]
        train = read_table(folder / f"{name}.csv")
        assert train.features == tuple(results["features"])
        assert len(train.values) == flow["train_rows"]
        assert (held_out.labels == name).sum() == flow["held_out_rows"]
    assert len(held_out.values) + sum(results["flows"][name]["train_rows"] for name in CLASSES) == 569


def test_flow_files_are_the_flows_of_the_figures(demo):
    folder, results, _ = demo
    for name in CLASSES:
        flow = load_flow(folder / results["flows"][name]["file"])
        rows = read_table(folder / "held-out.csv", label="class", keep_class=name).values
        nll = -flow.log_prob(torch.tensor(rows, dtype=torch.float32)).mean().item()
        assert np.isclose(nll, results["flows"][name]["held_out_nll"])


def test_bundle_is_whole_and_says_the_verdicts(demo):
    folder, results, _ = demo
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    assert len(manifest["queries"]) == 24
    for entry in manifest["queries"].values():
        assert entry["verdict"] in ("holds", "violated", "unknown")
        for file in entry["files"].values():
            assert hashlib.sha256((folder / "bundle" / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    right = results["rows"][0]
    assert manifest["queries"]["benign-right-mass-10"]["verdict"] == right["verdicts"][0]["outcome"]
    for name, entry in manifest["queries"].items():
        if entry["verdict"] == "holds" and name.endswith("-box"):
            assert manifest["queries"][entry["contains"]]["verdict"] == "holds"


def test_page_needs_nothing_else(demo):
    page = (demo[0] / "report.html").read_text()
    visible = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"https?:|//|<script|<link|@import", visible)
    assert visible.count("<tbody>") == 3
    assert len(re.findall(r'<td class="(holds|violated|unknown)"', visible)) == 18
    assert page.count("data:image/svg+xml;base64,") == 3 == len(re.findall(r'<img [^>]*alt="[^"]{40,}"', page))


def test_screen_shows_every_row_and_how_to_go_on(demo):
    folder, results, text = demo
    for row in results["rows"]:
        assert f"{row['class']}, {row['property']}" in text
        assert f"{row['certified_mass']:.4f} – " in text
    assert f"veriflow certify --flow {folder}/flow-benign.safetensors" in text


def test_a_second_run_overwrites_with_the_same_figures(demo):
    folder, first, _ = demo
    second = run_demo(folder, OPTIONS, Console(file=io.StringIO()))
    assert second["flows"] == first["flows"]
    assert second["classifier"] == first["classifier"]
    for one, other in zip(first["rows"], second["rows"], strict=True):
        assert one["violations_under_flow"] == other["violations_under_flow"]
        if one["search"]["complete"] and other["search"]["complete"]:
            assert one["certified_mass"] == other["certified_mass"]
            assert one["most_probable_failure"] == other["most_probable_failure"]


@pytest.mark.parametrize("option", ["--features=1", "--features=31", "--timeout=0", "--seed=-1"])
def test_command_refuses_options_out_of_range(option, tmp_path):
    result = CliRunner().invoke(app, ["demo", option, "--output", str(tmp_path / "output")])
    assert result.exit_code == 2
    assert not (tmp_path / "output").exists()
