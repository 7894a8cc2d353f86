"""What a type checker knows of the public names, as a user's strict project sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import exporters
import veriflow
import verify

ROOT = Path(__file__).parents[2]

USE = """
from pathlib import Path
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
def told(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says about a file that imports all public names and uses the main ones."""
    file = tmp_path_factory.mktemp("user") / "user.py"
    lines = [
        f"from {package.__name__} import {', '.join(package.__all__)}" for package in (veriflow, exporters, verify)
    ]
    lines += [f"reveal_type({name})" for package in (veriflow, exporters, verify) for name in package.__all__]
    file.write_text("\n".join(lines) + USE)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_a_strict_project_has_no_errors(told):
    assert [line for line in told if ": error: " in line] == []


def test_no_name_and_no_answer_is_any(told):
    types = [match[1] for line in told if (match := re.search(r'Revealed type is "(.*)"', line))]
    names = sum(len(package.__all__) for package in (veriflow, exporters, verify))
    assert len(types) == names + USE.count("reveal_type")
    names_of_any = [kind for kind in types if kind == "Any" or kind.endswith("-> Any")]
    assert names_of_any == [types[[*veriflow.__all__, *exporters.__all__].index("query_formula")]]  # PySMT has no types
