"""Gurobi, by a Python of its own that has gurobipy: the programs of ``milp`` as MPS files."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

from exporters import milp_model, milp_text
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.queries.query import Query

from ..programs.scaling import slack_tolerance
from .process import ToolRun, run_tool
from .tool import Claim, ExternalTool, Words, complete, no_violation, unreadable

WORKER = Path(__file__).with_name("gurobi_worker.py")


class Gurobi(ExternalTool):
    """``PYTHON gurobi_worker.py model.mps``: one program for each disjunct of the violation."""

    label = "Gurobi"
    description = "boxes, balls, shells, as MPS, up to its licence's size"
    install = "pip install gurobipy, here or for the Python in gurobi:PYTHON"

    @classmethod
    def fits(cls, program: Path) -> bool:
        """Whether it is a Python that has gurobipy."""
        run = run_tool([program, "-I", "-c", "import gurobipy"], timeout=60)
        return not run.failure and run.code == 0

    def version(self) -> str:
        """That of gurobipy, or "unknown"."""
        run = run_tool([self.program, "-I", WORKER, "--version"], timeout=60)
        return run.output.strip()[:60] if not run.code and not run.failure else "unknown"

    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """One program for each disjunct: an input with the greatest slack, infeasible where all miss by a margin."""
        bounds = symbolic_bounds(query.graph, query.region)
        commands: list[Words] = []
        for k, disjunct in enumerate(query.violation):
            tolerance = slack_tolerance(disjunct, bounds, query.graph)
            path = folder / f"query.{k}.mps"
            path.write_text(milp_text(milp_model(query, bounds, disjunct, -tolerance), "mps"))
            commands.append([self.program, "-I", WORKER, path, f"{timeout:g}", f"{10 * tolerance!r}"])
        return commands

    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """The worker's JSON."""
        try:
            answer = json.loads(run.output.strip().splitlines()[-1])
            word, reason = answer["answer"], str(answer.get("reason", "gave up"))
            values = {int(i): float(v) for i, v in answer.get("point", {}).items()}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return unreadable(run)
        if word == "unsat":
            return no_violation(run)
        if word != "sat":
            return Claim("unknown", reason=reason[:200])
        finite = {i: Fraction(v) if math.isfinite(v) else None for i, v in values.items()}
        return Claim("sat", complete(finite, query.graph.input_size))
