"""A user's own file that bears the name of one of the packages is named in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(folder: Path, *arguments: str, first: bool = False) -> subprocess.CompletedProcess[str]:
    """Python in the folder, which comes first on the path under -m and -c, and else if it is told so."""
    path = os.pathsep.join([str(folder), str(ROOT)] if first else [str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["verify", "exporters"])
@pytest.mark.parametrize("arguments", [["--version"], ["solver", "supports", "--arithmetic-complexity-theories"]])
def test_the_command_line_names_the_file(tmp_path, name, arguments):
    own = tmp_path / f"{name}.py"
    own.write_text("raise SystemExit('never run')\n")
    result = python(tmp_path, "-m", "veriflow", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: expected the package {name!r} of veriflow, in ")
    assert repr(str(own)) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_is_a_package_hides_too_and_one_that_is_none_does_not(tmp_path):
    (tmp_path / "verify").mkdir()
    assert python(tmp_path, "-m", "veriflow", "--version").returncode == 0
    (tmp_path / "verify" / "__init__.py").touch()
    assert python(tmp_path, "-m", "veriflow", "--version").returncode == 2


def test_the_script_says_so_where_the_path_begins_with_the_folder(tmp_path):
    (tmp_path / "verify.py").touch()
    script = tmp_path / "bin" / "veriflow"
    script.parent.mkdir()
    script.write_text("from veriflow.__main__ import main\nmain()\n")  # as installers write it
    assert python(tmp_path, str(script), "--version").returncode == 0
    result = python(tmp_path, str(script), "--version", first=True)
    assert result.returncode == 2
    assert repr(str(tmp_path / "verify.py")) in result.stderr


@pytest.mark.parametrize(
    ("hidden", "imported"), [("exporters", "verify"), ("veriflow", "verify"), ("veriflow", "exporters")]
)
def test_an_import_names_the_file(tmp_path, hidden, imported):
    own = tmp_path / f"{hidden}.py"
    own.write_text("answer = 42\n")
    result = python(tmp_path, "-c", f"import {imported}")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f"{hidden}" in last
    assert repr(str(own)) in last
    assert "which hides it" in last


@pytest.mark.parametrize("hidden", ["exporters", "verify"])
@pytest.mark.parametrize("name", ["read_onnx", "verify", "certify"])
def test_the_face_names_the_file(tmp_path, hidden, name):
    own = tmp_path / f"{hidden}.py"
    own.write_text("raise SystemExit('never run')\n")
    result = python(tmp_path, "-c", f"from veriflow import {name}")
    assert result.returncode == 1
    assert repr(str(own)) in result.stderr.strip().splitlines()[-1]
    assert python(tmp_path, "-c", "from veriflow import VeriflowError").returncode == 0
