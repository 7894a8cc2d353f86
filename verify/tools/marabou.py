"""Marabou: its program and its input query format, one query for each disjunct of the violation.

They are read and solved faster than ONNX and VNN-LIB, and hold L1 balls and proven bounds as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from exporters import to_marabou
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.queries.query import Query

from .process import ToolRun
from .tool import Claim, ExternalTool, Words, complete, exact_number, no_violation, unreadable

_INPUT = re.compile(r"^\s*x(\d+)\s*=\s*(\S+)\s*$", re.MULTILINE)
_ANSWER = re.compile(r"^(sat|unsat|unknown|timeout|error)\b", re.MULTILINE | re.IGNORECASE)


class Marabou(ExternalTool):
    """``Marabou --input-query FILE``."""

    label = "Marabou"
    description = "boxes, balls, shells, as input queries with proven bounds"
    install = "pip install maraboupy, in an environment of its own"

    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """One input query for each disjunct."""
        bounds = symbolic_bounds(query.graph, query.region)
        files = {}
        for k, disjunct in enumerate(query.violation):
            path = folder / f"query.{k}.ipq"
            path.write_text(to_marabou(query, disjunct, bounds))
            files[f"marabou.{k}"] = path
        return [[*command, "--verbosity=0"] for command in self.documented_commands("marabou", files, timeout)]

    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """The first line that is an answer; an input is printed with six digits after the point."""
        found = _ANSWER.search(run.output)
        word = found.group(1).lower() if found else ""
        if word == "unsat":
            return no_violation(run)
        if word == "sat":
            values = {int(i): exact_number(value) for i, value in _INPUT.findall(run.output)}
            return Claim("sat", complete(values, query.graph.input_size))
        if word in ("timeout", "unknown"):
            return Claim("unknown", reason="reached its time limit" if word == "timeout" else "gave up")
        return unreadable(run)
