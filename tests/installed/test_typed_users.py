"""What type checkers know of the public names of an installed veriflow, as a user's strict project sees them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import exporters
import veriflow
import verify

PACKAGES = (veriflow, exporters, verify)
USE = """
import numpy as np
import torch

flow = USFlow(2, blocks=1)
history = fit(flow, np.zeros((10, 2)), TrainingOptions(steps=1))
level_set = flow.level_set(0.9)
trimmed = trimmed_level_set(flow, mass=0.5)
network = read_onnx("net.onnx")
query = flow_query(flow, network, Ball(1, level_set.radius, 2), classified_as(0))
verdict = verify(query)
certificate = certify(query)

reveal_type(flow(torch.zeros(2)))
reveal_type(flow.latent(torch.zeros(2)))
reveal_type(flow.log_prob(torch.zeros(2)))
reveal_type(flow.sample([3]))
reveal_type(flow.graph())
reveal_type(history.best_nll)
reveal_type(level_set)
reveal_type(level_set.contains(torch.zeros(2)))
reveal_type(trimmed)
reveal_type(trimmed.ball)
reveal_type(network)
reveal_type(query)
reveal_type(verdict)
reveal_type(verdict.outcome)
reveal_type(certificate.certified_mass)
reveal_type(read_table("rows.csv").values)
reveal_type(load_flow("flow.safetensors"))
reveal_type(y[0] - y[1] >= 0.5)
reveal_type(parse_property("y[0] >= 0"))
reveal_type(make_base("normal", 2))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file that imports all public names and uses the main ones."""
    lines = [f"from {package.__name__} import {', '.join(package.__all__)}" for package in PACKAGES]
    lines += [f"reveal_type({name})" for package in PACKAGES for name in package.__all__]
    file = tmp_path_factory.mktemp("user") / "user.py"
    file.write_text("\n".join(lines) + USE)
    return file


def told(file: Path, *command: object) -> str:
    """What a type checker says of a file, in its folder."""
    command = (sys.executable, "-m", *command, file.name)
    result = subprocess.run(list(map(str, command)), cwd=file.parent, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.stdout


def test_a_strict_project_has_no_errors_and_no_name_is_any(file, python):
    lines = told(file, "mypy", "--strict", "--python-executable", python).splitlines()
    assert [line for line in lines if ": error: " in line] == []
    types = [match[1] for line in lines if (match := re.search(r'Revealed type is "(.*)"', line))]
    names = [name for package in PACKAGES for name in package.__all__]
    assert len(types) == len(names) + USE.count("reveal_type")
    names_of_any = [kind for kind in types if kind == "Any" or kind.endswith("-> Any")]
    assert names_of_any == [types[names.index("query_formula")]]  # PySMT has no types


def test_pyright_has_no_errors_and_knows_every_name(file, python):
    (file.parent / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    found = json.loads(told(file, "pyright", "--outputjson", "--pythonpath", python))
    told_of = [entry for entry in found["generalDiagnostics"] if entry["file"] == str(file)]
    assert [entry["message"] for entry in told_of if entry["severity"] != "information"] == []
    types = [entry["message"] for entry in told_of if entry["message"].startswith("Type of ")]
    assert len(types) == sum(len(package.__all__) for package in PACKAGES) + USE.count("reveal_type")
    assert [kind for kind in types if "Unknown" in kind] == []
