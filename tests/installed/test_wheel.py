"""What is in the wheel, and that it works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from cli_runs import write_network

import veriflow

PROPERTY = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)" + "".join(
    f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2)
)
USE = """
from veriflow import Box, network_query, parse_property, read_onnx, verify

query = network_query(read_onnx("net.onnx"), Box([0, 0], [1, 1]), parse_property("y[0] <= 2.5"))
print(verify(query).outcome.value)
"""


def run(folder: Path, *command: object) -> tuple[int, str]:
    """Exit code and output, without what points to the checkout."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_it_holds_what_is_promised(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    scripts = {f"verify/competition/{name}.sh" for name in ("install_tool", "prepare_instance", "run_instance")}
    typed = {f"{package}/py.typed" for package in ("veriflow", "exporters", "verify")}
    assert names >= {*scripts, *typed, "verify/cli/demo/page.html"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "veriflow",
        "exporters",
        "verify",
    }


def test_it_answers_far_from_the_checkout(python, tmp_path):
    program = python.parent / "veriflow"
    assert run(tmp_path, program, "--version") == (0, f"veriflow {veriflow.__version__}\n")
    write_network(tmp_path / "net.onnx")
    (tmp_path / "p.vnnlib").write_text(f"{PROPERTY}(assert (>= Y_0 1.5))")
    code, answer = run(tmp_path, program, "verify", "--network", "net.onnx", "--property", "p.vnnlib")
    assert code == 1
    assert "VIOLATED" in answer
    (tmp_path / "user.py").write_text(USE)
    assert run(tmp_path, python, "user.py") == (0, "holds\n")
    where = Path(run(tmp_path, python, "-c", "import verify; print(verify.__file__)")[1])
    assert where.is_relative_to(python.parents[1])
    script = where.parent / "competition" / "run_instance.sh"
    environment = {**os.environ, "VERIFLOW": str(program)}
    command = ["bash", str(script), "v1", "any", "net.onnx", "p.vnnlib", "result.txt", "60"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "result.txt").read_text().startswith("sat\n")
