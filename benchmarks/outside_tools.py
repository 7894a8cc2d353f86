"""Claim: Marabou and vibecheck read a bundle of ours and never contradict its verdicts.

    python benchmarks/outside_tools.py demo-output/bundle --marabou BIN/Marabou --vibecheck BIN/vibecheck

Both run as programs of their own, from an environment of their own, one query at a time with a time limit. The verdict
beside is the one in the bundle's manifest; the ratio is the number of decided queries that agree over those decided.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

WORDS = {"sat": "violated", "unsat": "holds", "violated": "violated", "holds": "holds"}


def marabou(program: Path, network: Path, spec: Path, seconds: int) -> str:
    """The last verdict word on Marabou's standard output."""
    text = run([program, network, spec, f"--timeout={seconds}", "--verbosity=0"], seconds)
    words = [line.split()[0].lower() for line in text.splitlines() if line.split()]
    return next((word for word in reversed(words) if word in WORDS), "")


def vibecheck(program: Path, network: Path, spec: Path, seconds: int) -> str:
    """The first word of vibecheck's result file."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.txt"
        arguments = [program, "--net", network, "--spec", spec, "--timeout", seconds, "--results-file", result]
        run([*arguments, "--device", "cpu"], seconds)
        words = result.read_text().split() if result.exists() else []
    return words[0].lower() if words else ""


def run(arguments: list[object], seconds: int) -> str:
    """Standard output, or nothing if the program had to be killed."""
    words = [str(argument) for argument in arguments]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds + 20, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


def main() -> None:
    """Print the table and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--marabou", type=Path)
    parser.add_argument("--vibecheck", type=Path)
    parser.add_argument("--timeout", type=int, default=60)
    options = parser.parse_args()
    tools = {"Marabou": (marabou, options.marabou), "vibecheck": (vibecheck, options.vibecheck)}
    tools = {name: tool for name, tool in tools.items() if tool[1]}
    manifest = json.loads((options.bundle / "manifest.json").read_text())
    table = Table("query", "veriflow", *tools)
    agree, decided = dict.fromkeys(tools, 0), dict.fromkeys(tools, 0)
    for line in (options.bundle / "instances.csv").read_text().splitlines():
        network, spec, _ = line.split(",")
        name = Path(spec).stem
        ours = manifest["queries"][name]["verdict"]
        cells = []
        for tool, (ask, program) in tools.items():
            start = time.monotonic()
            verdict = WORDS.get(ask(program, options.bundle / network, options.bundle / spec, options.timeout), "open")
            cells.append(f"{verdict} {time.monotonic() - start:.1f} s")
            if verdict != "open" and ours != "unknown":
                decided[tool] += 1
                agree[tool] += verdict == ours
        table.add_row(name, ours, *cells)
        print(name, ours, *cells, flush=True)
    Console(width=120).print(table)
    for tool in tools:
        print(f"{tool}: {agree[tool]} of {decided[tool]} decided queries agree")


if __name__ == "__main__":
    main()
