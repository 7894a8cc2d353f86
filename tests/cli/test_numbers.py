"""Whatever is written where a command takes a number: an answer, or one sentence and nothing written."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from cli_runs import refused, run

from verify.cli import COMMANDS

demo = importlib.import_module("verify.cli.commands.demo")

VALUES = ["nan", "inf", "-inf", "-1", "0", "1e400", "1e-320", "9" * 999, "9" * 20, "", "many"]

NUMBERS = (int, float, int | None, float | None)

TEXTS = ("--trim", "--hidden")
"""Options that take a number among other things."""

INSTEAD = {"--radius": "--mass", "--log-density": "--mass", "--rank": "--keep", "--bits": "--keep"}
"""Options that stand for others."""

PROPERTY = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (and (<= 0 X_0 1) (<= 0 X_1 1) (>= Y_0 3)))"""

FLOW, NET = ["--flow", "{0}/flow.safetensors"], ["--network", "{0}/net.onnx"]
TEXT, FILE, MASS = ["--property", "y[0] <= 40"], ["--property", "{0}/3.vnnlib"], ["--mass", "0.5"]
USUAL = {
    "fit": [
        *("{0}/blob.csv", "--label", "kind", "--blocks", "1", "--hidden", "4", "--steps", "2", "--quiet"),
        *("-o", "{1}/new"),
    ],
    "compress": [
        *("{0}/flow.safetensors", "{0}/blob.csv", "--label", "kind", "--keep", "0.5", "--steps", "2", "--quiet"),
        *(*NET, *TEXT, "--timeout", "1", "-o", "{1}/new"),
    ],
    "sample": ["{0}/flow.safetensors", "-n", "3", "-o", "{1}/rows.csv"],
    "level-set": ["{0}/flow.safetensors", *MASS],
    "export": [*FLOW, *NET, *TEXT, *MASS, "-o", "{1}/new"],
    "restrict": [*FLOW, *NET, *FILE, *MASS, "-o", "{1}/new"],
    "verify": [*FLOW, *NET, *TEXT, *MASS, "--with", "bab", "--timeout", "1"],
    "certify": [*FLOW, *NET, *TEXT, *MASS, "--timeout", "1"],
    "output-range": [*FLOW, *NET, *MASS, "--timeout", "1"],
    "solver verify": ["{0}/3.vnnlib", *NET, "--timeout", "1"],
    "demo": ["--features", "2", "--timeout", "0.1", "-o", "{1}/new"],
}
"""Short runs of the commands: {0} stands for a folder to read from, {1} for one to write into."""


def commands() -> dict[str, Any]:
    """Every command by its words, as typer has made it."""
    found: dict[str, Any] = {}
    for name in COMMANDS:
        module = importlib.import_module(f"verify.cli.commands.{name.replace('-', '_')}")
        command = getattr(module, name.replace("-", "_"))
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(add_completion=False)
            command.command(name)(function)
        made = typer.main.get_command(command)
        found |= {f"{name} {part}": one for part, one in getattr(made, "commands", {}).items()} or {name: made}
    return found


def numeric_options() -> list[tuple[str, str]]:
    """Each command with each of its options that take a number."""
    found = []
    for words, command in commands().items():
        hints = get_type_hints(command.callback)
        for option in command.params:
            if option.opts[0] in TEXTS or hints.get(option.name) in NUMBERS:
                found.append((words, option.opts[0]))
    return found


@pytest.fixture(scope="module")
def inputs(folder: Path) -> Path:
    (folder / "3.vnnlib").write_text(PROPERTY)
    return folder


def usual(words: str, place: Path, inputs: Path) -> list[str]:
    """A short run that reads from ``inputs`` and writes into ``place``."""
    return [*words.split(), *(part.format(inputs, place) for part in USUAL[words])]


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of little effort."""
    options = partial(demo.DemoOptions, classifier_steps=2, flow_steps=2, samples=100)
    monkeypatch.setattr(demo, "DemoOptions", options)


@pytest.mark.parametrize("words", USUAL)
@pytest.mark.usefixtures("little")
def test_short_runs_come_to_an_answer(words: str, tmp_path: Path, inputs: Path) -> None:
    assert run(*usual(words, tmp_path, inputs)).exit_code in (0, 3)


@pytest.mark.parametrize(("words", "option"), numeric_options())
@pytest.mark.usefixtures("little")
def test_numbers_give_an_answer_or_a_sentence(words: str, option: str, tmp_path: Path, inputs: Path) -> None:
    for number, value in enumerate(VALUES):
        place = tmp_path / str(number)
        place.mkdir()
        arguments = usual(words, place, inputs)
        if option in INSTEAD and INSTEAD[option] in arguments:
            start = arguments.index(INSTEAD[option])
            del arguments[start : start + 2]
        result = run(*arguments, option, value)
        if result.exit_code == 2:
            assert result.stdout == ""
            assert len(result.stderr.splitlines()) == 1
            assert result.stderr.startswith("error: expected ")
            assert "; got " in result.stderr
            assert not list(place.iterdir())
        else:
            assert result.exit_code in (0, 1, 3), f"{option} {value[:30]}: {result.output}"


def test_a_sum_of_samples_that_is_too_large_is_refused(inputs: Path) -> None:
    sentence = refused("sample", inputs / "flow.safetensors", "-n", 30_000_001)
    assert sentence == "expected at most 60000000 numbers in all rows; got 30000001 rows of 2"


def test_what_is_wrong_with_arguments_is_said_in_one_form(inputs: Path) -> None:
    fit = ["fit", inputs / "blob.csv", "-o", inputs / "new"]
    assert refused(*fit, "--steps", "many") == "expected '--steps' to be a valid integer; got 'many'"
    assert refused(*fit, "--seed", -1) == "expected '--seed' to be greater than or equal to 0; got '-1'"
    assert (
        refused(*fit, "--seed", 2**32) == "expected '--seed' to be less than or equal to 4294967295; got '4294967296'"
    )
    assert refused(*fit, "--steps") == "expected a value for '--steps'; got none"
    assert refused(*fit, "--permute=3") == "expected no value for '--permute'; got one"
    assert refused("fit") == "expected argument 'TABLE'; got none"
    assert refused("info", inputs / "flow.safetensors", "b") == "expected fewer arguments; got b beside the others"
