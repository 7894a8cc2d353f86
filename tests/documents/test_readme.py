"""The commands of README print today what it shows, and its Python block runs."""

import difflib
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
ANYTHING = "…"
X86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the figures are those of x86-64 processors"
)


def run(folder, command, *codes):
    """What a command prints at the width of README, under no settings of threads, kernels or tools."""
    program, *arguments = shlex.split(command)
    assert program == "veriflow"
    result = subprocess.run(
        [sys.executable, "-m", "veriflow", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "110", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode in codes, result.stderr
    return result.stdout


def without_times_and_versions(text):
    text = re.sub(r"\b\d+(\.\d+)? s\b", "TIME s", text)
    text = re.sub(r"(?m)^((bab|milp|smt) +)[\d.]+", lambda match: match[1] + "VERSION", text)
    return "\n".join(re.sub(r"\s+", " ", line).rstrip() for line in text.strip().splitlines())


def assert_prints(shown, printed):
    """Every line that is shown is printed, in this order; ``…`` alone is any lines, at the end of a line its rest."""
    wanted, got = without_times_and_versions(shown), without_times_and_versions(printed)
    pattern = ""
    for line in wanted.splitlines():
        if line == ANYTHING:
            pattern += r"(?:.*\n)*?"
        elif line.endswith(f" {ANYTHING}"):
            pattern += re.escape(line[:-1]) + r".*\n"
        else:
            pattern += re.escape(line) + r"\n"
    differences = "\n".join(
        difflib.unified_diff(wanted.splitlines(), got.splitlines(), "shown", "printed", lineterm="")
    )
    assert re.fullmatch(pattern, got + "\n"), differences


def sessions():
    """Commands of the console blocks, each with what is shown below it."""
    for block in re.findall(r"^```console\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, shown = re.fullmatch(r"((?:.*\\\n)*.*)\n((?s:.*))", session).groups()
            yield command.replace("\\\n", " "), shown


@X86
def test_the_page_shows_what_is_printed(tmp_path):
    """One test, so that the demo runs once, whose files all other commands take."""
    demo = run(tmp_path, "veriflow demo --timeout 300", 0)
    assert_prints(re.search(r"^```text\n(Breast.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1], demo)
    proved, refuted = re.search(r"classified rightly\ncertified mass\s+(\S+) – (\S+),", demo).groups()
    said = re.findall(r"(\d+\.\d+) %", re.search(r"^Read it so:(.*?)\n\n", TEXT, re.DOTALL | re.MULTILINE)[1])
    assert said == [f"{100 * float(share):.2f}" for share in (proved, refuted)]
    for command, shown in sessions():
        assert_prints(shown, run(tmp_path, command, 0, 1))
    for block in re.findall(r"^```sh\n(veriflow .*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        run(tmp_path, block.replace("\\\n", " "), 0)
    code = re.search(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, timeout=600, check=True)


PRINTED = "mass  0.1553  \nat 31 s\n"


@pytest.mark.parametrize("shown", ["mass 0.1553\nat 0.7 s", "mass …\n…", "…\nat 5 s"])
def test_times_and_what_is_left_out_may_differ(shown):
    assert_prints(shown, PRINTED)


@pytest.mark.parametrize("shown", ["mass 0.1554\nat 31 s", "mass 0.1553", "mass 0.1553\nat 31 s\nmore", "…\nmass\n…"])
def test_other_figures_and_lines_are_noticed(shown):
    with pytest.raises(AssertionError):
        assert_prints(shown, PRINTED)
