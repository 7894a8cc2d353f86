"""The command line as a whole: its help, every exit code, and one sentence for every refusal."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from cli_runs import (
    FIELDS,
    FIT,
    refused,
    run,
    write_csv,
    write_network,
)

import veriflow
from verify.cli import COMMANDS


def test_help_is_fast_to_import() -> None:
    code = "import sys, verify.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_load() -> None:
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
    "steps without end": (["--steps", "9" * 400], "expected a number of steps below 4.61169e+18; got 999"),
    "batches without end": (["--batch-size", 10**22], "expected a batch size below 4.61169e+18; got 1000"),
    "blocks without end": (["--blocks", 10**22], "expected a flow of at most 4096 layers; got more"),
    "widths without end": (["--hidden", 10**22], "expected a flow of at most 268435456 parameters; got more"),
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
    "memory NaN": (
        "y[0] >= 0",
        ["--mass", 0.9, "--memory", "nan"],
        "expected a memory limit above 0 GB and up to 1e+06 GB; got nan",
    ),
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

    monkeypatch.setattr("verify.cli.commands.verify.decide", broken)
    result = run("verify", *asked("y[0] >= 0"), "--mass", 0.9)
    assert (result.exit_code, result.stdout) == (70, "")
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_refused(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "veriflow", "info", str(folder / "flow.safetensors"), "--json"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert (
        result.stderr.strip()
        == f"error: expected to be able to write to standard output; got {os.strerror(errno.ENOSPC)}"
    )


def test_calibration_needs_a_mass_alone(folder: Path) -> None:
    command = ["level-set", folder / "flow.safetensors", "--radius", 1, "--calibrate", folder / "blob.csv"]
    assert "expected --mass alone beside --calibrate" in refused(*command)


def test_an_error_with_json_prints_no_document(folder: Path) -> None:
    assert "between 0 and 1" in refused("level-set", folder / "flow.safetensors", "--mass", 2, "--json")
