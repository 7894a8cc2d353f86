"""veriflow as a solver that others call: its answers are read by the adapters that call such solvers."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_queries import random_network
from typer.testing import CliRunner

import verify as verify_package
from exporters import graph_to_onnx, run_onnx
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify import Outcome, external_tool, verify
from verify.cli import app
from verify.cli.commands.solver import CAPABILITIES

SCRIPTS = Path(verify_package.__file__).parent / "competition"
BOX = """
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1))
(assert (<= X_0 1))
(assert (>= X_1 -1))
(assert (<= X_1 1))
(assert (>= Y_0 {least}))
"""
TWO = """
(vnnlib-version <2.0>)
(declare-network F (declare-input A float32 [1,2]) (declare-output B float32 [1,1]))
(declare-network G (equal-to F) (declare-input C float32 [1,2]) (declare-output D float32 [1,1]))
(assert (>= A[0,0] 0.0)) (assert (<= A[0,0] 0.5)) (assert (>= A[0,1] 0.0)) (assert (<= A[0,1] 0.5))
(assert (>= C[0,0] 0.0)) (assert (<= C[0,0] 0.5)) (assert (>= C[0,1] 0.0)) (assert (<= C[0,1] 0.5))
(assert (>= B[0,0] {least}))
(assert (<= D[0,0] 0.125))
"""


def sum_query(threshold, region):
    """Is relu(z_0) + relu(z_1) below the threshold?"""
    nodes = (
        Affine("a", (("z", np.eye(2)),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.ones((1, 2))),), np.zeros(1)),
    )
    return network_query(Graph("z", 2, nodes, "y"), region, formula_property(y[0] < threshold))


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "net.onnx"
    graph_to_onnx(sum_query(1, Ball(1, 1.0, 2)).graph, path)
    return path


def run(*words):
    return CliRunner().invoke(app, ["solver", *map(str, words)])


def asked(folder, text):
    path = folder / "query.vnnlib"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("region", "threshold"),
    [
        (Ball(1, 1.0, 2), 0.75),
        (Ball(math.inf, 1.0, 2), 2.5),
        (Box(np.array([0.0, -1]), np.array([1.0, 1])), 0.75),
    ],
)
def test_the_adapters_of_both_protocols_read_the_answers(region, threshold, tmp_path, monkeypatch):
    program = tmp_path / "veriflow"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m veriflow solver "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("VERIFLOW", f"{sys.executable} -m veriflow")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS.parents[1]), os.environ.get("PYTHONPATH", "")]))
    query = sum_query(threshold, region)
    truth = verify(query, "smt").outcome
    assert truth is (Outcome.VIOLATED if threshold < 1 else Outcome.HOLDS)
    for name in (f"vnnlib2:{program}", f"vnncomp:{SCRIPTS}"):
        verdict = external_tool(name).run(query, timeout=60)
        assert verdict.outcome is truth, (name, verdict.reason)


def test_version_one_gives_pairs(network, tmp_path):
    result = run("verify", asked(tmp_path, BOX.format(least=1.5)), "--network", network)
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first == "sat"
    values = dict(line.strip("() ").split() for line in rest)
    assert list(values) == ["X_0", "X_1", "Y_0"]
    point = [float(values["X_0"]), float(values["X_1"])]
    assert float(values["Y_0"]) == run_onnx(network, point)[0] >= 1.5


def test_version_two_gives_every_tensor(network, tmp_path):
    result = run("verify", asked(tmp_path, TWO.format(least=0.75)), "--network", f"F={network}")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "sat"
    assert [lines[k] for k in (1, 4, 6, 9)] == [
        "A float32 [1,2]",
        "B float32 [1,1]",
        "C float32 [1,2]",
        "D float32 [1,1]",
    ]
    a, b, c, d = ([float(v) for v in lines[s:e]] for s, e in ((2, 4), (5, 6), (7, 9), (10, 11)))
    assert run_onnx(network, a).tolist() == b
    assert run_onnx(network, c).tolist() == d
    assert b[0] >= 0.75
    assert d[0] <= 0.125


@pytest.mark.parametrize(("text", "least"), [(BOX, 2.5), (TWO, 1.5)])
def test_unsat_is_one_word(text, least, network, tmp_path):
    assert run("verify", asked(tmp_path, text.format(least=least)), "--network", network).stdout == "unsat\n"


def test_out_of_time_is_said(tmp_path):
    """A network that the first bounds do not decide."""
    rng = np.random.default_rng(0)
    graph = random_network(rng, (6, 40, 40, 40, 1))
    path = tmp_path / "hard.onnx"
    graph_to_onnx(graph, path)
    lines = [f"(declare-const X_{i} Real)(assert (>= X_{i} -9))(assert (<= X_{i} 9))" for i in range(6)]
    text = "\n".join([*lines, "(declare-const Y_0 Real)", "(assert (>= Y_0 60))"])
    result = run("verify", asked(tmp_path, text), "--network", path, "--timeout", "0.000001")
    assert result.stdout == "timed-out\n"
    assert result.exit_code == 0


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_time_limit_that_is_none_is_refused(limit, network, tmp_path):
    result = run("verify", asked(tmp_path, BOX.format(least=2.5)), "--network", network, "--timeout", limit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip() == f"error: expected a time limit above 0 seconds; got {float(limit)}"


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_capabilities_are_lines(capability):
    result = run("supports", capability)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == list(CAPABILITIES[capability])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["supports", "--telepathy"], "expected a capability among"),
        (["verify", "none.vnnlib", "--network", "net.onnx"], "expected a file at 'none.vnnlib'; got none"),
    ],
)
def test_what_is_wrong_is_a_sentence(words, sentence):
    result = run(*words)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


def test_the_scripts_say_error_and_refuse_other_versions(network, tmp_path):
    environment = {**os.environ, "VERIFLOW": f"{sys.executable} -m veriflow", "PYTHONPATH": str(SCRIPTS.parents[1])}
    result = tmp_path / "result.txt"

    def script(name, *words):
        return subprocess.run([SCRIPTS / name, *words], env=environment, capture_output=True, text=True, check=False)

    assert script("run_instance.sh", "v1", "any", network, asked(tmp_path, "(assert"), result, "600").returncode == 0
    assert result.read_text() == "error\n"
    for name in ("install_tool.sh", "prepare_instance.sh", "run_instance.sh"):
        refused = script(name, "v9")
        assert (refused.returncode, refused.stderr) == (1, "expected version v1; got 'v9'\n")
    refused = script("prepare_instance.sh", "v1", "any", network, tmp_path / "none.vnnlib")
    assert refused.returncode == 1
    assert script("prepare_instance.sh", "v1", "any", network, network).returncode == 0
