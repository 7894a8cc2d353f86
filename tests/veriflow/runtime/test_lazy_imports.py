"""Names and help pages come without what they do not need."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import pytest

import exporters
import veriflow
import verify
from verify.cli import COMMANDS

HEAVY = ("torch", "onnx", "onnxruntime", "pandas", "scipy", "sklearn", "matplotlib")
NOTHING_HEAVY = f"import sys; found = [name for name in {HEAVY} if name in sys.modules]; assert not found, found"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_pages_load_nothing_heavy():
    pages = [[], *([name] for name in COMMANDS), ["solver", "verify"], ["solver", "supports"]]
    code = f"""
from verify.cli import app
for page in {pages}:
    try:
        app([*page, "--help"], prog_name="veriflow")
    except SystemExit as end:
        assert end.code == 0, page
    {NOTHING_HEAVY}
"""
    assert run_python(code).count("Usage: ") == len(pages)


def test_refused_options_load_nothing_heavy():
    code = f"""
from verify.cli import app
try:
    app(["score", "--nonsense"], prog_name="veriflow")
except SystemExit as end:
    assert end.code == 2
{NOTHING_HEAVY}
"""
    run_python(code)


@pytest.mark.parametrize(
    "command", ["fit FILE -o none", "score FILE FILE", "verify --network FILE --property p.vnnlib"]
)
def test_files_that_cannot_be_read_load_nothing_heavy(tmp_path, command):
    os.mkfifo(pipe := tmp_path / "pipe")
    for file, got in ((pipe, "a pipe"), (tmp_path, "a folder"), (tmp_path / "none", "none")):
        code = f"""
from verify.cli import app
try:
    app({command.replace("FILE", str(file)).split()}, prog_name="veriflow")
except SystemExit as end:
    assert end.code == 2
{NOTHING_HEAVY}
"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, f"error: expected a file at {str(file)!r}; got {got}\n")


def test_packages_load_nothing_heavy_before_a_name_is_used():
    code = f"""
import exporters, veriflow, verify
from verify import Verdict, MEMORY_LIMIT
from veriflow import VeriflowError, TrainingOptions
{NOTHING_HEAVY}
veriflow.USFlow
assert "torch" in sys.modules
"""
    run_python(code)


@pytest.mark.parametrize("package", [veriflow, exporters, verify], ids=lambda package: package.__name__)
def test_names_are_listed_before_they_are_used(package):
    name = package.__name__
    listed = run_python(f"import {name}; print(*dir({name}))").split()
    assert set(package.__all__) <= set(listed)
    assert listed == sorted(listed)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = package.nonsense


@pytest.mark.parametrize("package", [veriflow, exporters, verify], ids=lambda package: package.__name__)
def test_no_name_hides_a_module(package):
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules
    assert not modules & set(package.__all__)


def test_imports_of_other_modules_go_on_in_the_block(tmp_path, monkeypatch):
    (tmp_path / "waiting.py").write_text("""
from veriflow.runtime.lazy_imports import LazyImports

with LazyImports(__name__) as imports:
    import xml.dom as dom
    import xml.sax
    from colorsys import hsv_to_rgb as convert
    helper = __import__("veriflow.runtime.lazy_imports").__name__  # not a statement of this module


@imports.on_call
def grey(value):
    return convert(0, 0, value), dom.__name__, xml.sax.__name__
""")
    monkeypatch.syspath_prepend(tmp_path)
    waiting = __import__("waiting")
    assert "convert" not in vars(waiting)
    assert {"convert", "dom", "xml"} <= set(dir(waiting))
    assert waiting.grey(1) == ((1, 1, 1), "xml.dom", "xml.sax")
    monkeypatch.delitem(sys.modules, "waiting")
