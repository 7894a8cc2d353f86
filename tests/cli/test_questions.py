"""The commands that ask: export, verify, certify, output-range, solvers, in text and in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import (
    FEATURES,
    WITNESS,
    document,
    refused,
    run,
    write_csv,
)

import veriflow
from veriflow.density.mixtures import MixtureLaw
from veriflow.density.radial import RadialBase
from veriflow.density.simple_laws import LogNormalLaw


def test_export(folder: Path, tmp_path: Path, asked: Callable[..., list[object]]) -> None:
    found = document("export", *asked("classified_as(0)"), "--mass", 0.9, "-o", tmp_path / "bundle")
    files = found["files"]
    assert found["queries"] == ["query"]
    assert {"manifest.json", "instances.csv", "network/net.onnx", "onnx/query.onnx"} <= set(files)
    assert all((tmp_path / "bundle" / name).is_file() for name in files)
    text = run("export", *asked("classified_as(0)"), "--radius", 1, "-o", tmp_path / "bundle")
    assert text.exit_code == 0
    assert "vnnlib/query.vnnlib" in text.stdout
    reduced = document("export", *asked("classified_as(0)"), "--radius", 0.1, "-o", tmp_path / "bundle", "--reduce")
    counts = reduced["reduced_relus"]["query"]
    assert counts["after"] < counts["before"]
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["queries"]["query"]["reduced_relus"] == counts
    asked_again = run("export", *asked("classified_as(0)"), "--radius", 0.1, "-o", tmp_path / "bundle", "--reduce")
    assert f"{counts['before']} before, {counts['after']} after" in asked_again.stdout


@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
@pytest.mark.parametrize(("prop", "outcome"), [("y[0] <= 90", "holds"), ("y[0] <= 4", "violated")])
def test_verify(folder: Path, asked: Callable[..., list[object]], engine: str, prop: str, outcome: str) -> None:
    question = ["verify", *asked(prop), "--mass", 0.9, "--with", engine, "--data", folder / "blob.csv"]
    found = document(*question, code=int(outcome == "violated"))
    assert found["outcome"] == outcome
    assert found["regions"][0]["outcome"] == outcome
    assert found["violations_in_data"]["trials"] == 200
    if outcome == "violated":
        witness = found["witness"]
        assert list(witness) == WITNESS.split()
        assert witness["outputs"][0] > 4
        assert sum(witness["data"].values()) == pytest.approx(witness["outputs"][0])


@pytest.mark.parametrize(
    ("relation", "outcome", "points"),
    [
        ("robust(0.01)", "holds", []),
        ("robust(2, 1)", "violated", ["x'"]),
        ("fair(width [mm], 0, 5)", "violated", ["x[width [mm]=0]", "x[width [mm]=5]"]),
        ("fair(height, within=[-1, 1.5])", "violated", ["x with another height"]),
        ("monotone(width [mm], increasing=yes, tolerance=0.01)", "holds", []),
        ("lipschitz(1.9, inf, 0.5, tolerance=0.01)", "violated", ["x'"]),
        ("equivalent(NET, 0.01)", "holds", []),
        ("same_decision(NET, tolerance=0.01)", "holds", []),
        ("abstains_outside(1)", "violated", []),
        ("confident(any, 2)", "violated", []),
    ],
)
def test_named_properties_are_verified(
    folder: Path, asked: Callable[..., list[object]], relation: str, outcome: str, points: list[str]
) -> None:
    text = relation.replace("NET", str(folder / "net.onnx"))
    mass = 0.05 if relation == "robust(0.01)" else 0.5
    question = ["verify", *asked(text), "--mass", mass, "--data", folder / "blob.csv"]
    found = document(*question, code=int(outcome == "violated"))
    assert (found["outcome"], found["rounded"]) == (outcome, None)
    assert (found["violation_probability"] is None) == (found["violations_in_data"] is None)
    if outcome == "violated":
        witness = found["witness"]
        assert list(witness["others"]) == points
        assert all(list(point) == FEATURES for point in witness["others"].values())
        assert len(witness["output_names"]) == len(witness["outputs"])
        text = run(*question).stdout
        assert all(part in text for part in ("VIOLATED", "witness", "outputs", f"{witness['outputs'][0]:.6g}"))


def test_relations_are_exported_and_certified_where_the_latent_alone_is_chosen(
    folder: Path, asked: Callable[..., list[object]], tmp_path: Path
) -> None:
    document("export", *asked("robust(0.5)"), "--mass", 0.5, "-o", tmp_path / "bundle")
    entry = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["queries"]["query"]
    assert (entry["property"], len(entry["region"]["product"])) == ("robust(0.5, inf)", 2)
    assert "expected a query on a flow over a ball; got" in refused("certify", *asked("robust(0.5)"))
    found = document("certify", *asked("fair(width [mm], 0, 5)"), code=1)
    assert list(found["witness"]["others"]) == ["x[width [mm]=0]", "x[width [mm]=5]"]
    assert "none.onnx" in refused("verify", *asked("equivalent(none.onnx, 1)"), "--mass", 0.5)


def test_whole_numbers_are_rounded_in_witnesses(
    folder: Path, asked: Callable[..., list[object]], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).integers([0, 0], [2, 4], (200, 2)).tolist()
    table = write_csv(tmp_path / "whole.csv", [["sex", "class"], *rows])
    model = tmp_path / "whole.safetensors"
    document("fit", table, "-o", model, "--integral", "sex,class", "--blocks", 0, "--steps", 40)
    found = document("verify", *asked("fair(sex, 0, 1)", flow=model), "--mass", 0.9, code=1)
    rounded = found["rounded"]
    assert (rounded["violates"], rounded["inside"]) == (True, True)
    assert rounded["data"]["class"] == 1
    assert all(value == round(value) for point in rounded["others"].values() for value in point.values())
    text = run("verify", *asked("fair(sex, 0, 1)", flow=model), "--mass", 0.9)
    assert "still a violation" in text.stdout
    assert "got 'age'" in refused("fit", table, "-o", model, "--integral", "age")


def test_verify_in_text(folder: Path, asked: Callable[..., list[object]]) -> None:
    result = run("verify", *asked("y[0] <= 4"), "--mass", 0.9, "--data", folder / "blob.csv")
    assert result.exit_code == 1
    for part in ("VIOLATED", "width [mm]", "y[0] = ", "log density", "onnxruntime", "whole flow", "in the data"):
        assert part in result.stdout


def test_out_of_time_is_unknown(asked: Callable[..., list[object]]) -> None:
    assert document("verify", *asked("y[0] <= 90"), "--mass", 0.9, "--timeout", 1e-9, code=3)["outcome"] == "unknown"
    found = document("certify", *asked("y[0] <= 90"), "--timeout", 1e-9, code=3)
    assert (found["complete"], found["witness"], found["certified_mass"]) == (False, None, 0)


def test_certify(folder: Path, asked: Callable[..., list[object]]) -> None:
    found = document("certify", *asked("y[0] <= 4"), "--data", folder / "blob.csv", code=1)
    assert found["complete"]
    assert 0 < found["certified_mass"] <= found["refuted_mass"] < 1
    assert list(found["median"]) == list(found["witness"]["data"]) == FEATURES
    text = run("certify", *asked("y[0] <= 4"), "--data", folder / "blob.csv")
    assert text.exit_code == 1
    assert text.stderr == ""
    assert "median" in text.stdout
    holds = document("certify", *asked("y[0] <= 90"), "--mass", 0.5)
    assert (holds["witness"], holds["refuted_radius"], holds["complete"]) == (None, None, True)
    assert "at least 0.5" in run("certify", *asked("y[0] <= 90"), "--mass", 0.5).stdout


def test_certify_tells_the_verdict_at_every_mass_and_draws_it(
    folder: Path, tmp_path: Path, asked: Callable[..., list[object]]
) -> None:
    found = document("certify", *asked("y[0] <= 3.5"), "--plot", tmp_path / "bar.png", code=1)
    verdicts = {entry["mass"]: entry["verdict"] for entry in found["curve"]}
    assert all(verdict == "holds" for mass, verdict in verdicts.items() if mass < found["certified_mass"])
    assert all(verdict == "violated" for mass, verdict in verdicts.items() if mass > found["refuted_mass"])
    assert {"holds", "violated"} <= set(verdicts.values())
    assert (tmp_path / "bar.png").read_bytes().startswith(b"\x89PNG")
    text = run("certify", *asked("y[0] <= 3.5")).stdout
    bar = next(line for line in text.splitlines() if set(line) <= set("█░▒") and len(line) == 60)
    assert abs(bar.count("█") - 60 * found["certified_mass"]) <= 1
    assert abs(bar.count("▒") - 60 * (1 - found["refuted_mass"])) <= 1
    assert ".pdf, .png, .svg" in refused("certify", *asked("y[0] <= 4"), "--plot", tmp_path / "bar.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bar.png"]


def test_certify_bounds_the_probability_of_a_violation(asked: Callable[..., list[object]], shells: Path) -> None:
    found = document("certify", *asked("y[0] <= 4"), "--probability", 20, code=1)
    proved, counted = found["violation_bounds"], found["violation_probability"]
    assert list(proved) == ["low", "high", "complete", "reason", "seconds", "boxes"]
    assert proved["complete"]
    assert proved["low"] <= counted["high"]
    assert counted["low"] <= proved["high"] <= 1 - found["certified_mass"] + 1e-9
    assert "the same, by proof" in run("certify", *asked("y[0] <= 4"), "--probability", 20).stdout
    assert document("certify", *asked("y[0] <= 90"), "--mass", 0.5)["violation_bounds"] is None
    assert "closed form" in refused("certify", *asked("y[0] <= 4", flow=shells), "--probability", 1)
    assert "--probability" in refused("certify", *asked("y[0] <= 4"), "--probability", 0)


def test_output_range(folder: Path) -> None:
    files = ["--flow", folder / "flow.safetensors", "--network", folder / "net.onnx"]
    found = document("output-range", *files, "--mass", 0.5)
    low, high = found["low"], found["high"]
    assert list(low) == list(high) == ["proved", "attained", "witness"]
    assert low["proved"] <= low["attained"] < high["attained"] <= high["proved"]
    assert found["complete"]
    assert high["witness"]["outputs"][0] == pytest.approx(high["attained"])
    above = ["verify", *files, "--mass", 0.5, "--property"]
    assert document(*above, f"y[0] <= {high['proved'] + 1e-6:.9f}")["outcome"] == "holds"
    assert document(*above, f"y[0] <= {high['attained'] - 1e-6:.9f}", code=1)["outcome"] == "violated"
    wider = document("output-range", *files, "--mass", 0.9, "--of", "2*y[0] - y[1]")
    assert wider["score"] == "2*y[0] - y[1]"
    assert wider["high"]["attained"] > 2 * high["attained"] - 1.5
    short = run("output-range", *files, "--mass", 0.9, "--timeout", 1e-9)
    assert short.exit_code == 3
    for part in ("proved", "attained", "least:", "greatest:", "width [mm]"):
        assert part in short.stdout
    assert "y[0]" in refused("output-range", *files, "--mass", 0.9, "--of", "3")
    assert "y[7]" in refused("output-range", *files, "--mass", 0.9, "--of", "y[7]")
    assert "exactly one of --mass and --radius" in refused("output-range", *files)
    assert "got '>='" in refused("output-range", *files, "--mass", 0.9, "--of", "y[0] >= 1")


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow whose level set of mass 0.8 is two shells."""
    path = tmp_path_factory.mktemp("shells") / "flow.safetensors"
    law = MixtureLaw([LogNormalLaw(2, 1.0, 0.1), LogNormalLaw(2, 5.0, 0.1)])
    torch.manual_seed(0)
    veriflow.save_flow(veriflow.USFlow(2, blocks=0, base=RadialBase(1, law)), path)
    return path


def test_two_shells(shells: Path, tmp_path: Path, asked: Callable[..., list[object]]) -> None:
    found = document("verify", *asked("y[0] <= 90", flow=shells), "--mass", 0.8, "--with", "milp")
    assert [region["outcome"] for region in found["regions"]] == ["holds", "holds"]
    outer = document("verify", *asked("y[0] <= 3", flow=shells), "--mass", 0.8, "--with", "milp", code=1)
    assert [region["outcome"] for region in outer["regions"]] == ["holds", "violated"]
    assert outer["witness"]["latent_norm"] > 3
    short = ["--timeout", 1e-9]
    open_ = document("verify", *asked("classified_as(1)", flow=shells), "--mass", 0.8, "--with", "smt", *short, code=3)
    assert open_["outcome"] == "unknown"
    bundle = document("export", *asked("y[0] <= 3", flow=shells), "--mass", 0.8, "-o", tmp_path / "bundle")
    assert bundle["queries"] == ["query_0", "query_1"]
    assert "over a ball" in refused("certify", *asked("y[0] <= 3", flow=shells))


@pytest.fixture
def liar(tmp_path: Path) -> str:
    """A tool that says `unsat` to everything."""
    path = tmp_path / "liar"
    path.write_text("#!/bin/sh\necho unsat\n")
    path.chmod(0o755)
    return f"vnnlib2:{path}"


def test_several_solvers(
    asked: Callable[..., list[object]], liar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    question = ["verify", *asked("y[0] <= 90"), "--mass", 0.9, "--with", f"milp, {liar}", "--all"]
    (region,) = document(*question)["regions"]
    assert [(part["engine"], part["outcome"]) for part in region["answers"]] == [("milp", "holds"), (liar, "holds")]
    assert "proof was not" in run(*question).stdout
    sentence = refused("verify", *asked("y[0] <= 4"), "--mass", 0.9, "--with", f"milp,{liar}", "--all")
    assert "that the property holds from vnnlib2:" in sentence
    assert "a violation that replays from milp" in sentence
    assert json.loads((tmp_path / "disagreement" / "manifest.json").read_text())["queries"]["query"]["claims"]["milp"]


def test_solvers() -> None:
    engines = document("solvers")["engines"]
    fields = ["name", "kind", "version", "path", "description", "install", "supports"]
    assert [list(engine) for engine in engines] == [fields] * len(engines)
    assert {"bab", "milp", "smt", "marabou", "vibecheck", "gurobi"} <= {engine["name"] for engine in engines}
    text = run("solvers").stdout
    assert all(engine["name"] in text for engine in engines)
