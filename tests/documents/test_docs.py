"""The Python blocks of a page run, one after another, in an empty folder, and print what the page shows."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from veriflow.queries.text.formulas import PROPERTIES
from veriflow.queries.text.relations import SIGNATURES
from verify.cli.kernels import COMMON

ROOT = Path(__file__).parents[2]
END = "end of a block"
PAGES = [ROOT / "docs" / name for name in ("properties.md", "formats.md")]
PAGES += [path for path in (ROOT / "docs" / "extending").glob("*.md") if path.name != "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_blocks_of_a_page_run_and_print_what_is_shown(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", page.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(f"{code}\nprint({END!r})" for code, _ in blocks))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(script)],
        cwd=tmp_path,
        env={**os.environ, **COMMON, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    printed = result.stdout.split(f"{END}\n")
    for (code, shown), got in zip(blocks, printed, strict=False):
        assert not shown or got == shown or platform.machine() not in ("x86_64", "AMD64"), code


def test_every_named_property_has_its_section():
    text = (ROOT / "docs" / "properties.md").read_text()
    assert [name for name in (*PROPERTIES, *SIGNATURES) if f"\n## {name}\n" not in text] == []
