"""The smt engine: any solver that pySMT knows, exact, in a process that can be killed."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from exporters import to_smtlib
from veriflow.errors import SolverError
from veriflow.queries.query import Query

from ..bab.box_domains import narrowed
from ..tools.nearby import replay_claim
from ..tools.process import run_tool
from ..witness.replay import replay
from ..witness.verdict import Outcome, Verdict
from .limits import Limits

WORKER = Path(__file__).with_name("smt_worker.py")


def verify_smt(query: Query, limits: Limits, *, solver: str = "z3") -> Verdict:
    """Decide a query by an SMT solver over exact rationals, with symbolic bounds and triangles as extra facts.

    Raises:
        QueryError: an L2 ball, which is not linear.
        SolverError: a solver process that fails or answers in a way that cannot be read.
    """
    deadline = time.monotonic() + limits.timeout
    bounds, asked = narrowed(query)
    if not asked.violation:
        return Verdict(Outcome.HOLDS, "symbolic bounds exclude every violation")
    script = to_smtlib(asked, bounds)
    with tempfile.TemporaryDirectory(prefix="veriflow-") as folder:
        path = Path(folder) / "query.smt2"
        path.write_text(script)
        left = max(deadline - time.monotonic(), 0.01)
        run = run_tool([sys.executable, "-I", WORKER, path, solver], timeout=left)
    if run.failure:
        return Verdict(Outcome.UNKNOWN, f"{solver} {run.failure}")
    try:
        answer = json.loads(run.output)
        result = answer["result"]
        model = {name: Fraction(value) for name, value in answer.get("model", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        last = run.last_words or f"exit code {run.code}"
        raise SolverError(f"expected an answer from the SMT solver {solver!r}; got: {last}") from None
    if result == "unsat":
        return Verdict(Outcome.HOLDS, f"{solver} proves that there is no violation, in exact rationals")
    if result != "sat":
        return Verdict(Outcome.UNKNOWN, f"{solver} gave up")
    point = [model.get(f"z_{i}", Fraction(0)) for i in range(query.graph.input_size)]
    witness = replay(query, point)
    if witness is None and not query.graph.is_exact:
        # a solver stops where constraints are tight, which leaves nothing for what roots are not known to
        witness = replay_claim(query, point)
    if witness is None and not query.graph.is_exact:
        return Verdict(Outcome.UNKNOWN, f"{solver} found a violation only within what floats enclose roots in")
    if witness is None:
        raise SolverError(f"expected {solver!r} to give a violation that replays; got one that does not")
    return Verdict(Outcome.VIOLATED, f"{solver} found a violation, replayed exactly", witness)
