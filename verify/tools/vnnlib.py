"""Tools that read ONNX and VNN-LIB: the VNN-LIB 2.0 interface, and the scripts of VNN-COMP.

Sources: the VNN-LIB 2.0 standard, chapter 5 (https://www.vnnlib.org), and the rules of VNN-COMP
(https://github.com/VNN-COMP). Both are given the query's portable form.
"""

from __future__ import annotations

import math
import re
import threading
from fractions import Fraction
from pathlib import Path

from exporters import graph_to_onnx, portable_form, shifted_chain, to_vnnlib1, to_vnnlib2
from veriflow.files.whole_files import read_bytes
from veriflow.queries.query import Query

from .process import OUTPUT_LIMIT, ToolRun, run_tool
from .tool import Claim, ExternalTool, Words, complete, exact_number, no_violation, unreadable

_ANSWERS = {"sat": "sat", "violated": "sat", "unsat": "unsat", "holds": "unsat"}
_SILENT = {"timeout": "reached its time limit", "timed-out": "reached its time limit", "unknown": "gave up"}
_PAIR = re.compile(r"\(\s*X_(\d+)\s+([^\s()]+)\s*\)")
_TENSOR = re.compile(r"^\s*(\w+)\s+\w+\s+\[[\d,\s]*\]\s*$")


class VnnLib2Tool(ExternalTool):
    """``TOOL verify q.vnnlib --network N=f.onnx --timeout T``; the first line of its output is the answer."""

    label = "the VNN-LIB 2.0 solver"
    description = "boxes, balls, shells, as ONNX and VNN-LIB 2.0"
    install = "any solver with the VNN-LIB 2.0 command line: vnnlib2:PATH"

    @property
    def title(self) -> str:
        """The name of its program."""
        return self.program.name

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it says to ``supports --vnnlib-versions`` and ``--arithmetic-complexity-theories``, notes left out."""
        asked = ("--vnnlib-versions", "--arithmetic-complexity-theories")
        return tuple(dict.fromkeys(word for one in asked for word in self._supported(one, 30.0)))

    def _supported(self, asked: str, timeout: float, stop: threading.Event | None = None) -> list[str]:
        """The first word of each line that it says to ``supports``; none where it fails or takes longer."""
        run = run_tool([self.program, "supports", asked], timeout=timeout, stop=stop)
        return [] if run.code or run.failure else [line.split()[0] for line in run.output.splitlines() if line.split()]

    def refusal(self, query: Query, timeout: float, stop: threading.Event | None) -> str | None:
        """A tool that names versions must name 2.0; one that is silent is tried."""
        versions = [word for word in self._supported("--vnnlib-versions", timeout, stop) if word[0].isdigit()]
        return f"reads VNN-LIB {', '.join(versions)} and not 2.0" if versions and "2.0" not in versions else None

    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """The network with skips, and the query on it."""
        form = portable_form(query)
        network, text = folder / "query.onnx", folder / "query.vnnlib"
        network.write_bytes(graph_to_onnx(form.graph))
        text.write_text(to_vnnlib2(form, query.text))
        return self.documented_commands("vnnlib2", {"onnx": network, "vnnlib2": text}, timeout)

    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """The first line that is not empty, and the assignment after it."""
        return claim_of(run.output, run, query.graph.input_size)


class VnnCompTool(ExternalTool):
    """A folder with ``prepare_instance.sh`` and ``run_instance.sh``; ``install_tool.sh`` is not run."""

    label = "the VNN-COMP tool"
    description = "boxes, balls, shells, as a chain in ONNX and VNN-LIB 1.0"
    install = "any tool with the scripts of VNN-COMP: vnncomp:FOLDER"

    _BOTH = (
        'cd "$0" && bash ./prepare_instance.sh v1 veriflow "$1" "$2" >&2 &&'
        ' exec bash ./run_instance.sh v1 veriflow "$1" "$2" "$3" "$4"'
    )

    @property
    def title(self) -> str:
        """The name of its folder."""
        return self.program.resolve().name

    def version(self) -> str:
        """The scripts say none."""
        return "found"

    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """The chain without skips, and the query on it."""
        form = portable_form(query)
        network, text = folder / "query.onnx", folder / "query.vnnlib"
        network.write_bytes(graph_to_onnx(shifted_chain(form.graph, form.box)))
        text.write_text(to_vnnlib1(form, query.text))
        seconds = str(max(1, math.floor(timeout)))
        return [["bash", "-c", self._BOTH, self.program.resolve(), network, text, folder / "result.txt", seconds]]

    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """The result file; without one, the tool failed."""
        result = folder / "result.txt"
        text = read_bytes(result, OUTPUT_LIMIT).decode(errors="replace") if result.is_file() else ""
        return claim_of(text, run, query.graph.input_size)


def claim_of(text: str, run: ToolRun, size: int) -> Claim:
    """The claim in an answer: a word, then for ``sat`` an assignment of the network's input."""
    first, _, rest = text.strip().partition("\n")
    words = first.lower().split()
    word = words[0].strip("():,") if words else ""
    if word in _SILENT:
        return Claim("unknown", reason=_SILENT[word])
    if word not in _ANSWERS:
        return unreadable(run)
    if _ANSWERS[word] == "unsat":
        return no_violation(run)
    return Claim("sat", _assignment(first + "\n" + rest, size))


def _assignment(text: str, size: int) -> list[Fraction] | None:
    """The input: ``((X_0 v) … (Y_0 v))`` of VNN-COMP, or ``X float32 [1,3]`` and a value a line of VNN-LIB 2.0."""
    pairs = {int(i): exact_number(value) for i, value in _PAIR.findall(text)}
    if pairs:
        return complete(pairs, size)
    values: list[Fraction | None] = []
    name = ""
    for line in text.splitlines()[1:]:
        head = _TENSOR.match(line)
        if head:
            name = head.group(1)
        elif name == "X":
            values += [exact_number(word) for word in line.split()]
    return complete(dict(enumerate(values)), size) if len(values) == size else None
