"""Any SMT-LIB 2 solver of linear real arithmetic: Z3, cvc5, yices-smt2, OpenSMT, MathSAT, …"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from exporters import to_smtlib
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.queries.query import Query

from .process import ToolRun
from .tool import Claim, ExternalTool, Words, complete, exact_number, no_violation, unreadable

_TOKEN = re.compile(r"[()]|[^\s()]+")


class SmtLibTool(ExternalTool):
    """``SOLVER query.smt2``, with symbolic bounds and triangles as facts, as the engine ``smt`` gives them."""

    label = "the SMT solver"
    description = "boxes, balls, shells, as SMT-LIB 2 with proven bounds"
    install = "any SMT-LIB 2 solver: smt:PATH"

    @property
    def title(self) -> str:
        """The name of its program."""
        return self.program.name

    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """One script that also asks for the input."""
        script = to_smtlib(query, symbolic_bounds(query.graph, query.region))
        names = " ".join(f"z_{i}" for i in range(query.graph.input_size))
        path = folder / "query.smt2"
        path.write_text(f"(set-option :produce-models true)\n{script}(get-value ({names}))\n(exit)\n")
        return [[self.program, path]]

    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """The first line that is an answer, and the values after it, as rationals.

        After ``unsat`` there are none to ask for, which solvers call an error (SMT-LIB 2.6, section 4.2.8), and may fail for.
        """
        lines = run.output.splitlines()
        place = next((i for i, line in enumerate(lines) if line.strip() in ("sat", "unsat", "unknown")), None)
        if place is None:
            return unreadable(run)
        answer = lines[place].strip()
        if answer == "unsat":
            is_asked_in_vain = "".join(lines[place + 1 :]).lstrip().startswith("(error")
            return Claim("unsat") if is_asked_in_vain and not place else no_violation(run)
        if answer == "unknown":
            return Claim("unknown")
        return Claim("sat", complete(_values("\n".join(lines[place + 1 :])), query.graph.input_size))


def _values(text: str) -> dict[int, Fraction | None]:
    """``((z_0 (/ 1 3)) (z_1 (- 2.5)))`` → numbers by index."""
    tokens = _TOKEN.findall(text)
    found: dict[int, Fraction | None] = {}
    for i, token in enumerate(tokens):
        index = token.strip("|").removeprefix("z_")
        if token.strip("|").startswith("z_") and index.isdigit():
            found[int(index)] = _number(tokens[i + 1 :])
    return found


def _number(tokens: list[str]) -> Fraction | None:
    """The term at the start: a number, ``(- t)`` or ``(/ t t)``."""
    stack: list[list[Fraction | str]] = [[]]
    for token in tokens[:64]:
        if token == "(":  # noqa: S105 - a parenthesis
            stack.append([])
        elif token == ")":  # noqa: S105 - a parenthesis
            value = _applied(stack.pop())
            if value is None or not stack:
                return None
            stack[-1].append(value)
        else:
            number = exact_number(token)
            stack[-1].append(token if number is None else number)
        if len(stack) == 1 and stack[0]:
            return stack[0][0] if isinstance(stack[0][0], Fraction) else None
    return None


def _applied(term: list[Fraction | str]) -> Fraction | None:
    match term:
        case ["-", Fraction() as value]:
            return -value
        case ["/", Fraction() as top, Fraction() as bottom] if bottom:
            return top / bottom
    return None
