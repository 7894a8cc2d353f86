"""What a stranger types first: versions, help, misspelt names, and a look at what is being done."""

from __future__ import annotations

import logging
import re

import pytest
from cli_runs import refused, run

import veriflow
from veriflow import USFlow, make_base
from veriflow.density.radial import BASES
from veriflow.wording import perhaps, shortened
from verify.cli import COMMANDS


def test_the_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"veriflow {veriflow.__version__}\n")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["solver", "verify"]])
def test_h_is_help(command):
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage: " in short.stdout
    assert "--verbose" in short.stdout


def test_the_help_of_fit_names_every_base():
    page = re.sub(r"[^\w-]+", " ", run("fit", "--help").stdout)
    named = re.search(r"Bases ([\w\s-]+?) Example", page)
    assert named is not None
    assert named[1].split() == sorted(BASES)


def test_perhaps():
    assert perhaps("Widht", ["height", "width"]) == ", did you mean 'width'?"
    assert perhaps("WIDTH", ["Width"]) == ", did you mean 'Width'?"
    assert perhaps("zzz", ["height", "width"]) == ""
    assert perhaps(7, []) == ""


def test_shortened():
    assert shortened("a \n b") == "a b"
    assert len(shortened("x" * 1000)) == 80


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["scor"], "score"),
        (["level_set"], "level-set"),
        (["score", "a", "b", "--labl", "kind"], "--label"),
        (["solver", "verify", "a", "--netwrok", "b"], "--network"),
        (["solver", "supports", "--vnnlib-version"], "--vnnlib-versions"),
        (["--versoin"], "--version"),
    ],
)
def test_misspelt_commands_and_options(arguments, meant):
    assert refused(*arguments).endswith(f", did you mean '{meant}'?")


def test_misspelt_names_in_tables(folder):
    table, model = folder / "blob.csv", folder / "new.safetensors"
    fit = ["fit", table, "-o", model]
    assert refused(*fit, "--label", "knd").endswith("got 'knd', did you mean 'kind'?")
    assert refused(*fit, "--label", "kind", "--class", "B").endswith("got 'B', did you mean 'b'?")
    assert refused(*fit, "--columns", "hight").endswith("got 'hight', did you mean 'height'?")
    assert refused(*fit, "--label", "kind", "--integral", "hieght").endswith("got 'hieght', did you mean 'height'?")
    assert refused(*fit, "--label", "kind", "--base", "normle").endswith("got 'normle', did you mean 'normal'?")


def test_misspelt_names_in_questions(asked):
    assert refused("verify", *asked("clasified_as(0)"), "--mass", "0.5").endswith("did you mean 'classified_as'?")
    assert refused("verify", *asked("robst(0.1, inf)"), "--mass", "0.5").endswith("did you mean 'robust'?")
    assert refused("verify", *asked("fair(hight, 0, 1)"), "--mass", "0.5").endswith("did you mean 'height'?")
    assert refused("verify", *asked("robust(eps=0.1, nrom=inf)"), "--mass", "0.5").endswith("did you mean 'norm'?")
    holds = asked("y[0] >= 0")
    assert refused("verify", *holds, "--mass", "0.5", "--with", "bob").endswith("got 'bob', did you mean 'bab'?")
    assert refused("export", *holds, "--mass", "0.5", "-o", "out", "--for", "marabu").endswith("mean 'marabou'?")


def test_misspelt_names_in_python():
    with pytest.raises(veriflow.VeriflowError, match="did you mean 'weibull'"):
        make_base("weibul", 2)
    with pytest.raises(veriflow.VeriflowError, match="did you mean 'age'"):
        USFlow(2, features=("age", "sex"), integral=("agee",))


def test_verbose_says_what_is_done_and_only_where_it_is_asked_for(folder, asked):
    question = [*asked("y[1] >= -1000"), "--mass", "0.5"]
    silent, loud = run("verify", *question), run("verify", *question, "-v")
    assert silent.exit_code == loud.exit_code == 0
    assert silent.stderr == ""
    lines = loud.stderr.splitlines()
    assert any(
        re.fullmatch(r"veriflow\.flows\.storage: read .*flow\.safetensors.*: USFlow\(2 features, .*", line)
        for line in lines
    )
    assert any(re.fullmatch(r"exporters\.onnx\.\w+: read .*net\.onnx.*: .*Graph\(2 → .*", line) for line in lines)
    assert any(re.fullmatch(r"verify\.engines\.registry: bab: holds, .*", line) for line in lines)
    assert run("-v", "verify", *question, "-v").stderr.count("verify.engines.registry: bab: holds") == 1
    assert run("verify", *question).stderr == ""


def test_verbose_training_tells_each_validation(folder):
    table, model = folder / "blob.csv", folder / "told.safetensors"
    result = run("fit", table, "-o", model, "--label", "kind", "--blocks", "0", "--steps", "100", "--verbose")
    assert result.exit_code == 0
    assert "veriflow.training.fit: step 50 of 100: " in result.stderr
    assert "veriflow.training.fit: step 100 of 100: " in result.stderr


def test_users_of_the_library_hear_nothing_that_they_did_not_ask_for(folder, capfd, caplog):
    flow = veriflow.load_flow(folder / "flow.safetensors")
    assert caplog.records == []
    with caplog.at_level(logging.INFO, "veriflow.flows.storage"):
        veriflow.load_flow(folder / "flow.safetensors")
    assert [record.name for record in caplog.records] == ["veriflow.flows.storage"]
    assert repr(flow) in caplog.text
    assert capfd.readouterr() == ("", "")
