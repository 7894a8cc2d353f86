"""What only some commands need may be missing: they say so, and all others do their work."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run_without(packages: list[str], *commands: list[object]) -> list[str]:
    """Exit code and error of each command where some packages are not installed."""
    code = f"""
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
from verify.cli import app
for command in {[[str(word) for word in command] for command in commands]}:
    try:
        app(command, prog_name="veriflow")
    except SystemExit as end:
        sys.stderr.write(f"{{end.code or 0}}\\n")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stderr.splitlines()


def test_questions_and_tables_need_none_of_them(asked, folder, tmp_path):
    flow, tables = folder / "flow.safetensors", [tmp_path / "rows.csv", tmp_path / "rows.parquet"]
    commands = [["certify", *asked("y[1] <= 2")]]
    for table in tables:
        commands += [["sample", flow, "-n", 9, "-o", table], ["score", flow, table]]
    assert run_without(["matplotlib", "sklearn", "pandas"], *commands) == ["0"] * 5


def test_pictures_and_the_demo_are_refused_before_they_begin(asked, tmp_path):
    picture = ["certify", *asked("y[0] <= 9"), "--plot", tmp_path / "bar.svg"]
    demo = ["demo", "-o", tmp_path / "demo"]
    assert run_without(["matplotlib"], picture, demo) == [
        told("matplotlib", "plots"),
        "2",
        told("matplotlib", "demo"),
        "2",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["sklearn", "jinja2"])
def test_the_demo_says_what_it_needs(tmp_path, package):
    assert run_without([package], ["demo", "-o", tmp_path / "demo"]) == [told(package, "demo"), "2"]
    assert list(tmp_path.iterdir()) == []


def told(package: str, extra: str) -> str:
    return (
        f"error: expected the package {package!r}, which this needs; got none (pip install 'veriflow-toolkit[{extra}]')"
    )
