"""The commands that make and show models, in text and in JSON."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from cli_runs import (
    COST,
    FEATURES,
    FIT,
    PROPORTION,
    document,
    refused,
    run,
    write_csv,
)

import veriflow
from veriflow.training import checkpoint as checkpoints
from veriflow.training import fit as training


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
    assert resumed.stderr == f"went on from the checkpoint {saved}\n"
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
        (("--bits", 8, "--network", "FOLDER/net.onnx"), "expected both --network and --property"),
        (
            ("--bits", 8, "--network", "FOLDER/net.onnx", "--property", "y[0] <= 9", "--with", "bab,nobody"),
            "expected a solver among",
        ),
        (("--bits", 8, "-o", "nowhere/small.safetensors"), "expected a file in a folder that can be written to"),
        (("--bits", 8, "--label", "sort"), "'sort'"),
    ],
)
def test_compress_refuses(folder: Path, tmp_path: Path, options: tuple[object, ...], sentence: str) -> None:
    model, target = folder / "flow.safetensors", tmp_path / "small.safetensors"
    words = [str(option).replace("FOLDER", str(folder)) for option in options]
    assert sentence in refused("compress", model, folder / "blob.csv", "-o", target, *words)
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
    assert table.features == ("log_density", "latent_norm", "level_mass", "log_tail_mass")
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


def test_a_cell_beyond_the_flows_range_is_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "far.csv", [FEATURES, [1.5, 2], [1e30, 2], [1.5, 1e300], [2, 1], [1, 3]])
    sentence, flow = "got 1e+300 in column 'height', row 4", folder / "flow.safetensors"
    assert sentence in refused("score", flow, table, "-o", tmp_path / "scores.csv")
    assert sentence in refused("level-set", flow, "--mass", 0.5, "--data", table)
    assert sentence in refused("level-set", flow, "--mass", 0.5, "--calibrate", table)
    assert sentence in refused("compress", flow, table, "-o", tmp_path / "small.safetensors", "--bits", 8)
    assert sentence in refused("fit", table, "-o", tmp_path / "flow.safetensors")
    question = ["--flow", flow, "--network", folder / "net.onnx", "--property", "y[0] <= 100", "--data", table]
    assert sentence in refused("verify", *question, "--mass", 0.5)
    assert sentence in refused("certify", *question)
    assert list(tmp_path.iterdir()) == [table]


def test_tables_of_other_customs_and_what_is_said_about_them(folder: Path, tmp_path: Path) -> None:
    rows = read_csv(folder / "blob.csv")
    decimals = [[cell.replace(".", ",") for cell in row[:2]] for row in rows]
    for name, table in [("named", [FEATURES, *decimals]), ("nameless", decimals)]:
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows(table)
    named, plain = tmp_path / "named.csv", run("score", folder / "flow.safetensors", folder / "blob.csv", "--json")
    assert run("score", folder / "flow.safetensors", named, "--json").stdout == plain.stdout
    told = ["--separator", "semicolon", "--decimal", ",", "--header"]
    assert run("score", folder / "flow.safetensors", named, *told, "--json").stdout == plain.stdout
    assert "expected a finite number in column 'width [mm]', row 2; got '2,06" in refused(
        "score", folder / "flow.safetensors", named, "--decimal", "."
    )
    assert "no row of names" in refused("score", folder / "flow.safetensors", tmp_path / "nameless.csv")
    result = run("fit", tmp_path / "nameless.csv", "-o", tmp_path / "flow.safetensors", "--steps", 10)
    assert result.exit_code == 0
    assert result.stderr.startswith("note: ")
    assert "has no row of names, as its first row holds numbers: its columns are called x0, x1" in result.stderr
    assert veriflow.load_flow(tmp_path / "flow.safetensors").features == ("x0", "x1")


def test_fit_names_columns_that_depend_on_others(folder: Path, tmp_path: Path) -> None:
    rows = [[float(cell) for cell in row[:2]] for row in read_csv(folder / "blob.csv")]
    table = write_csv(tmp_path / "table.csv", [["a", "b", "c"], *([a, b, 2 * a + 1] for a, b in rows)])
    words = ["fit", table, "-o", tmp_path / "flow.safetensors", "--steps", 10]
    assert "note: 'c' = 2·'a' + 1: the rows lie in a space of 2 dimensions out of 3" in run(*words).stderr
    assert run(*words, "--quiet").stderr == ""
    assert run(*words, "--columns", "a,b").stderr == ""


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a table below its names."""
    with path.open(newline="") as stream:
        return list(csv.reader(stream))[1:]
