"""The command line: every command in text and in JSON, every exit code, and one sentence for every refusal."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner, Result

import veriflow
from exporters import graph_to_onnx
from veriflow import checkpoint as checkpoints
from veriflow import training
from veriflow.bases import RadialBase
from veriflow.cli import COMMANDS, app
from veriflow.norm_laws import LogNormalLaw, MixtureLaw
from veriflow.piecewise.graph import Affine, Graph, Relu

FIT = ("--label", "kind", "--blocks", "1", "--hidden", "4", "--steps", "100", "--seed", "3")
FEATURES = ["width [mm]", "height"]

FIELDS = {
    "fit": "model features rows validation_rows steps best_step train_nll validation_nll seconds resumed norm_fit",
    "compress": "model rows validation_rows mass keep rank bits stability seconds before after nll_lost time_won",
    "info": "model dim features blocks hidden householder permute bits parameters relus log_volume p law level_sets",
    "sample": "features rows written samples",
    "score": "rows mean_nll shares_inside norm_fit written scores",
    "level-set": "side mass intervals radius log_density_threshold calibration trimmed rows_inside",
    "export": "folder property mass trimmed queries reduced_relus files",
    "restrict": "folder property direction mass trimmed queries files",
    "verify": "outcome reason engine seconds property mass trimmed regions witness rounded violation_probability "
    "violations_in_data",
    "certify": "property certified_mass refuted_mass searched_mass proved_radius refuted_radius complete reason "
    "seconds boxes witness trimmed rounded median curve violation_bounds violation_probability violations_in_data",
    "output-range": "score mass low high complete reason seconds",
    "solvers": "engines",
}
WITNESS = (
    "data others outputs output_names input_exact latent latent_exact latent_norm log_density level_mass onnx_deviation"
)
COST = "nll unstable relus weights bits deviation outcome solving_seconds"
PROPORTION = "estimate low high confidence count trials"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert list(found) == FIELDS[str(arguments[0])].split()
    return found


def refused(*arguments: object) -> str:
    """The one sentence on stderr, after exit code 2 and nothing on stdout."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").strip()


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def write_network(path: Path, inputs: int = 2) -> Path:
    """y = (relu(x0 + x1), 1.5): the second output wins where x0 + x1 < 1.5."""
    first = Affine("a", (("x", np.ones((1, inputs))),), np.zeros(1))
    last = Affine("b", (("h", np.array([[1.0], [0.0]])),), np.array([0.0, 1.5]))
    graph_to_onnx(Graph("x", inputs, (first, Relu("h", "a"), last), "b"), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 200 rows, a flow fitted to it, and a network."""
    folder = tmp_path_factory.mktemp("cli")
    points = np.random.default_rng(0).normal([2, 1], [0.5, 0.25], (200, 2))
    rows = [[*point, "ab"[i % 2]] for i, point in enumerate(points.tolist())]
    write_csv(folder / "blob.csv", [[*FEATURES, "kind"], *rows])
    write_network(folder / "net.onnx")
    assert run("fit", folder / "blob.csv", "-o", folder / "flow.safetensors", *FIT).exit_code == 0
    return folder


@pytest.fixture
def asked(folder: Path) -> Callable[..., list[object]]:
    """The options that state a question, with a property or other files."""

    def options(prop: str, flow: Path | None = None, network: Path | None = None) -> list[object]:
        files = ["--flow", flow or folder / "flow.safetensors", "--network", network or folder / "net.onnx"]
        return [*files, "--property", prop]

    return options


def test_help_is_fast_to_import() -> None:
    code = "import sys, veriflow.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_load() -> None:
    assert veriflow.__all__ == sorted(veriflow.__all__, key=lambda name: (name.lower() == name, name))
    assert all(getattr(veriflow, name) is not None for name in veriflow.__all__)
    assert set(veriflow.__all__) <= set(dir(veriflow))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        veriflow.nothing  # noqa: B018 - the attribute is what is tested


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_every_command_is_listed(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", FIELDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: veriflow {command}" in " ".join(result.stdout.split())


def test_fit(folder: Path, tmp_path: Path) -> None:
    text = run("fit", folder / "blob.csv", "-o", tmp_path / "flow.safetensors", *FIT)
    assert text.exit_code == 0
    assert "nats per row, on 20 rows" in text.stdout
    assert "Kolmogorov–Smirnov" in text.stdout
    assert (tmp_path / "flow.safetensors").read_bytes() == (folder / "flow.safetensors").read_bytes()
    found = document("fit", folder / "blob.csv", "-o", tmp_path / "a.safetensors", *FIT, "--class", "a", "--no-prior")
    assert found["features"] == FEATURES
    assert (found["rows"], found["steps"], found["resumed"]) == (100, 100, False)


def test_fit_with_every_option_of_the_flow(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "flow.safetensors"
    shape = ["--columns", "height,width [mm]", "--blocks", 2, "--hidden", "3,5", "--householder", 1, "--permute"]
    base = ["--base", "gamma-mixture", "--p", "inf", "--components", 2]
    assert run("fit", folder / "blob.csv", "-o", model, *shape, *base, "--steps", 5, "--quiet").exit_code == 0
    found = document("info", model)
    assert found["features"] == ["height", "width [mm]"]
    assert (found["hidden"], found["p"], found["householder"], found["permute"]) == ([3, 5], "inf", 1, True)


def test_an_interrupted_fit_is_resumed_to_the_same_flow(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["fit", folder / "blob.csv", "-o", tmp_path / "flow.safetensors", *FIT]
    saved = tmp_path / "run"

    def save_then_stop(*arguments: object) -> None:
        checkpoints.save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_then_stop)
    stopped = run(*command, "--checkpoint", saved)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == f"interrupted: the same command goes on from the checkpoint {saved}\n"
    assert not (tmp_path / "flow.safetensors").exists()

    monkeypatch.undo()
    resumed = run(*command, "--checkpoint", saved)
    assert resumed.exit_code == 0
    assert resumed.stderr == f"going on from the checkpoint {saved}\n"
    assert (tmp_path / "flow.safetensors").read_bytes() == (folder / "flow.safetensors").read_bytes()

    other = refused(*command, "--seed", 4, "--checkpoint", saved, "--quiet")
    assert "come from the same data, options and flow" in other


@pytest.mark.parametrize(
    ("option", "advice"),
    [((), "with --checkpoint FILE a run can be resumed"), (("--checkpoint", "run"), "starts anew")],
)
def test_an_early_interrupt_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], advice: str
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "fit", stop)
    stopped = run("fit", folder / "blob.csv", "-o", "flow.safetensors", *FIT, *option)
    assert stopped.exit_code == 130
    assert advice in stopped.stderr


def test_compress(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "small.safetensors"
    call = ("compress", folder / "flow.safetensors", folder / "blob.csv", "-o", made, "--label", "kind", "--seed", 3)
    call += ("--keep", 0.5, "--bits", 6, "--stability", 0.01, "--mass", 0.5, "--steps", 50)
    question = ("--network", folder / "net.onnx", "--property", "y[0] <= 99")
    found = document(*call, *question)
    before, after = found["before"], found["after"]
    assert [" ".join(before), " ".join(after)] == [COST, COST]
    assert (found["rows"], found["validation_rows"], found["mass"]) == (200, 20, 0.5)
    assert found["nll_lost"] == pytest.approx(after["nll"] - before["nll"])
    assert (before["bits"], before["outcome"], after["outcome"]) == (24, "holds", "holds")
    assert after["bits"] <= 12
    assert after["weights"] < before["weights"]
    assert found["time_won"] == pytest.approx(before["solving_seconds"] / after["solving_seconds"])
    assert document("info", made)["bits"] == 6
    assert document("score", made, folder / "blob.csv")["rows"] == 200
    text = run(*call)
    assert text.exit_code == 0
    assert "NLL lost" in text.stdout
    assert "verdict" not in text.stdout
    assert document(*call)["time_won"] is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "got none of them"),
        (("--bits", 0), "expected 1 to 24 bits; got 0"),
        (("--keep", 1.5), "expected a share to keep above 0, at most 1; got 1.5"),
        (("--rank", 2), "expected a rank from 1 to 1"),
        (("--bits", 8, "--mass", 1), "got 1.0"),
        (("--bits", 8, "--network", "net.onnx"), "expected both --network and --property"),
        (("--bits", 8, "-o", "nowhere/small.safetensors"), "expected a file in a folder that can be written to"),
        (("--bits", 8, "--label", "sort"), "'sort'"),
    ],
)
def test_compress_refuses(folder: Path, tmp_path: Path, options: tuple[object, ...], sentence: str) -> None:
    model, target = folder / "flow.safetensors", tmp_path / "small.safetensors"
    assert sentence in refused("compress", model, folder / "blob.csv", "-o", target, *options)
    assert not target.exists()


def test_compress_refuses_other_tables(folder: Path, tmp_path: Path) -> None:
    model, target = folder / "flow.safetensors", tmp_path / "small.safetensors"
    write_csv(tmp_path / "other.csv", [["width"], [1], [2]])
    assert "got 'width [mm]'" in refused("compress", model, tmp_path / "other.csv", "-o", target, "--bits", 8)
    write_csv(tmp_path / "nan.csv", [FEATURES, [1, 2], ["nan", 3]])
    assert "nan" in refused("compress", model, tmp_path / "nan.csv", "-o", target, "--bits", 8)
    assert not target.exists()


def test_fit_refuses_a_stability_that_makes_no_sense(folder: Path, tmp_path: Path) -> None:
    call = ("fit", folder / "blob.csv", "-o", tmp_path / "flow.safetensors", *FIT)
    assert "zero or more nats; got -1.0" in refused(*call, "--stability", -1)
    assert "between 0 and 1; got 0.0" in refused(*call, "--stability", 1, "--stability-mass", 0)
    assert document(*call, "--stability", 0.1, "--stability-mass", 0.5)["steps"] == 100


def test_info(folder: Path) -> None:
    text = run("info", folder / "flow.safetensors").stdout
    assert "width [mm], height" in text
    assert "gamma: weight" in text
    found = document("info", folder / "flow.safetensors")
    assert (found["dim"], found["relus"], found["p"]) == (2, 4, "1")
    assert [level["mass"] for level in found["level_sets"]] == [0.1, 0.5, 0.9, 0.95, 0.99]
    weights = [part["weight"] for part in found["law"]["components"]]
    assert math.isclose(sum(weights), 1)


def test_sample(folder: Path, tmp_path: Path) -> None:
    model = folder / "flow.safetensors"
    lines = list(csv.reader(run("sample", model, "-n", 3, "--seed", 1).stdout.splitlines()))
    assert lines[0] == FEATURES
    found = document("sample", model, "-n", 3, "--seed", 1)
    assert found["samples"] == [[float(cell) for cell in line] for line in lines[1:]]
    written = document("sample", model, "-n", 50, "--mass", 0.2, "-o", tmp_path / "rows.csv")
    assert (written["rows"], written["samples"]) == (50, None)
    inside = document("level-set", model, "--mass", 0.21, "--data", tmp_path / "rows.csv")["rows_inside"]
    assert inside["count"] == 50


def test_score(folder: Path, tmp_path: Path) -> None:
    arguments = ["score", folder / "flow.safetensors", folder / "blob.csv"]
    assert "mean NLL" in run(*arguments, "-o", tmp_path / "scores.csv").stdout
    scores = document(*arguments)["scores"]
    table = veriflow.read_table(tmp_path / "scores.csv")
    assert table.features == ("log_density", "latent_norm", "level_mass")
    assert [list(row.values()) for row in scores] == table.values.tolist()
    written = document(*arguments, "-o", tmp_path / "scores.npz")
    assert math.isclose(written["mean_nll"], -table.values[:, 0].mean())
    assert written["scores"] is None


def test_level_set(folder: Path) -> None:
    model, table = folder / "flow.safetensors", folder / "blob.csv"
    upper = document("level-set", model, "--mass", 0.9, "--data", table)
    assert list(upper["rows_inside"]) == PROPORTION.split()
    lower = document("level-set", model, "--mass", 0.1, "--lower")
    assert lower["intervals"] == [[upper["radius"], None]]
    again = document("level-set", model, "--log-density", upper["log_density_threshold"])
    assert math.isclose(again["mass"], 0.9, rel_tol=1e-6)
    calibrated = document("level-set", model, "--mass", 0.9, "--calibrate", table, "--label", "kind", "--class", "a")
    assert calibrated["calibration"]["rows"] == 100
    text = run("level-set", model, "--mass", 0.9, "--calibrate", table, "--data", table).stdout
    assert "covers at least" in text
    assert "of 200" in text


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


BAD_TABLES = {
    "a word": ([[1, 2], [3, "four"], [5, 6]], "column 'height', row 3; got 'four'"),
    "NaN": ([[1, 2], [3, 4], ["nan", 6]], "column 'width', row 4; got 'nan'"),
    "a constant column": ([[1, 2], [3, 2], [5, 2]], "every column to vary"),
    "no rows": ([], "at least one row"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused(tmp_path: Path, name: str) -> None:
    rows, sentence = BAD_TABLES[name]
    table = write_csv(tmp_path / "table.csv", [["width", "height"], *rows])
    assert sentence in refused("fit", table, "-o", tmp_path / "flow.safetensors")
    assert list(tmp_path.iterdir()) == [table]


BAD_FITS = {
    "a column that is not there": (["--columns", "depth"], "got 'depth'"),
    "a label that is not there": (["--label", "sort"], "got 'sort'"),
    "an empty class": (["--class", "c"], "expected a class among 'a', 'b'; got 'c'"),
    "a width that is no number": (["--hidden", "4,x"], "expected whole numbers with commas for --hidden; got '4,x'"),
    "a norm that is none": (["--p", "3"], "expected a norm p of 1, 2 or infinity"),
    "an unknown base": (["--base", "cauchy"], "got 'cauchy'"),
    "no steps": (["--steps", "0"], "expected a positive number of steps; got 0"),
    "an unknown option": (["--speed", "9"], "--speed"),
    "no number": (["--steps", "many"], "--steps"),
}


@pytest.mark.parametrize("name", BAD_FITS)
def test_bad_fits_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    options, sentence = BAD_FITS[name]
    command = ["fit", folder / "blob.csv", "-o", tmp_path / "flow.safetensors", "--label", "kind", *options]
    assert sentence in refused(*command)
    assert not any(tmp_path.iterdir())


BAD_QUESTIONS = {
    "no such output": ("y[2] >= 0", ["--mass", 0.9], "expected an output from y[0] to y[1]; got y[2]"),
    "always true": ("1 >= 0", ["--mass", 0.9], "which always holds"),
    "no property": ("y[0] >=", ["--mass", 0.9], "column"),
    "mass 0": ("y[0] >= 0", ["--mass", 0], "expected a mass between 0 and 1"),
    "mass 1": ("y[0] >= 0", ["--mass", 1], "expected a mass between 0 and 1"),
    "mass NaN": ("y[0] >= 0", ["--mass", "nan"], "expected a mass between 0 and 1, both excluded; got nan"),
    "radius 0": ("y[0] >= 0", ["--radius", 0], "expected a positive finite radius; got 0"),
    "radius NaN": ("y[0] >= 0", ["--radius", "nan"], "expected a positive finite radius; got nan"),
    "radius without end": ("y[0] >= 0", ["--radius", "inf"], "expected a positive finite radius; got inf"),
    "both": ("y[0] >= 0", ["--mass", 0.9, "--radius", 1], "expected exactly one of --mass and --radius; got both"),
    "neither": ("y[0] >= 0", [], "expected exactly one of --mass and --radius; got none"),
    "unknown engine": ("y[0] >= 0", ["--mass", 0.9, "--with", "abacus"], "got 'abacus'"),
    "no engine": ("y[0] >= 0", ["--mass", 0.9, "--with", ","], "expected solvers that are named once; got none"),
    "no memory": ("y[0] >= 0", ["--mass", 0.9, "--memory", 0], "expected a memory limit above 0 GB"),
    "no time": ("y[0] >= 0", ["--mass", 0.9, "--timeout", 0], "expected a time limit above 0 seconds"),
    "time before now": ("y[0] >= 0", ["--mass", 0.9, "--timeout", -1], "expected a time limit above 0 seconds; got -1"),
    "time NaN": ("y[0] >= 0", ["--mass", 0.9, "--timeout", "nan"], "expected a time limit above 0 seconds; got nan"),
    "memory NaN": ("y[0] >= 0", ["--mass", 0.9, "--memory", "nan"], "expected a memory limit above 0 GB; got nan"),
    "no such table": ("y[0] >= 0", ["--mass", 0.9, "--data", "none.csv"], "expected a file at 'none.csv'"),
}


@pytest.mark.parametrize("name", BAD_QUESTIONS)
def test_bad_questions_are_refused(asked: Callable[..., list[object]], name: str) -> None:
    prop, options, sentence = BAD_QUESTIONS[name]
    assert sentence in refused("verify", *asked(prop), *options)


@pytest.mark.parametrize(
    ("command", "option"),
    [("certify", "--gap"), ("certify", "--timeout"), ("output-range", "--timeout")],
)
@pytest.mark.parametrize("value", [0, -1, "nan"])
def test_limits_that_are_none_are_refused(
    folder: Path, asked: Callable[..., list[object]], command: str, option: str, value: object
) -> None:
    files = ["--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--mass", 0.9]
    question = asked("y[0] >= 0") if command == "certify" else files
    sentence = refused(command, *question, option, value)
    assert "expected a positive time limit" in sentence
    assert f"got {value}" in sentence or f"and {float(value)}" in sentence


def test_a_gap_of_all_is_refused(asked: Callable[..., list[object]]) -> None:
    assert "a gap between 0 and 1; got 60.0 and 1.0" in refused("certify", *asked("y[0] >= 0"), "--gap", 1)


def test_a_missing_solver_is_named(asked: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sentence = refused("verify", *asked("y[0] >= 0"), "--mass", 0.9, "--with", "smt:yices")
    assert "it is not installed (pysmt-install --yices)" in sentence
    assert "not installed" in run("solvers").stdout


def test_unfit_networks_are_refused(folder: Path, tmp_path: Path, asked: Callable[..., list[object]]) -> None:
    question = ["--mass", 0.9]
    wide = write_network(tmp_path / "wide.onnx", inputs=3)
    assert "expected a network of 2 inputs" in refused("verify", *asked("y[0] >= 0", network=wide), *question)
    missing = refused("verify", *asked("y[0] >= 0", network=tmp_path / "none.onnx"), *question)
    assert "none.onnx" in missing
    model = onnx.load(folder / "net.onnx")
    model.graph.node[1].op_type, model.graph.node[1].name = "Sigmoid", "squash"
    onnx.save(model, tmp_path / "sigmoid.onnx")
    sentence = refused("verify", *asked("y[0] >= 0", network=tmp_path / "sigmoid.onnx"), *question)
    assert "Sigmoid" in sentence
    assert "squash" in sentence


def test_damaged_models_are_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "flow.safetensors").read_bytes()
    damaged = tmp_path / "flow.safetensors"
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"a flow"):
        damaged.write_bytes(content)
        assert str(damaged) in refused("info", damaged)
    assert "got none" in refused("info", tmp_path / "none.safetensors")
    assert "got a folder" in refused("info", tmp_path)


def test_a_full_disk_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., list[object]]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    model = tmp_path / "flow.safetensors"
    assert os.strerror(errno.ENOSPC) in refused("fit", folder / "blob.csv", "-o", model, *FIT)
    sample = refused("sample", folder / "flow.safetensors", "-o", tmp_path / "rows.csv")
    assert sample == f"expected to be able to write '{tmp_path / 'rows.csv'}'; got {os.strerror(errno.ENOSPC)}"
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    export = ["export", *asked("y[0] >= 0"), "--mass", 0.9, "-o", tmp_path / "bundle"]
    assert os.strerror(errno.ENOSPC) in refused(*export)
    assert not any(tmp_path.iterdir())


def test_unwritable_outputs_are_refused_before_training(folder: Path, tmp_path: Path) -> None:
    for output in (tmp_path / "none" / "flow.safetensors", tmp_path):
        assert "expected a file in a folder that can be written to" in refused("fit", folder / "blob.csv", "-o", output)


def test_a_defect_is_no_verdict(asked: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("veriflow.cli.verify.decide", broken)
    result = run("verify", *asked("y[0] >= 0"), "--mass", 0.9)
    assert (result.exit_code, result.stdout) == (70, "")
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_refused(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "veriflow", "info", str(folder / "flow.safetensors"), "--json"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == f"error: expected to read or write; got {os.strerror(errno.ENOSPC)}"


def test_calibration_needs_a_mass_alone(folder: Path) -> None:
    command = ["level-set", folder / "flow.safetensors", "--radius", 1, "--calibrate", folder / "blob.csv"]
    assert "expected --mass alone beside --calibrate" in refused(*command)


def test_an_error_with_json_prints_no_document(folder: Path) -> None:
    assert "between 0 and 1" in refused("level-set", folder / "flow.safetensors", "--mass", 2, "--json")
