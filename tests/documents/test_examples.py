"""Every example runs to its end, which is where its asserts are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shares import by_day

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_are_examples():
    assert {"breast_cancer.py", "two_moons.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", by_day(EXAMPLES, 1), ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    source = path.read_text()
    assert source.startswith('"""')
    assert "\nassert " in source
    result = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert not list(tmp_path.iterdir())
