"""A script in a process of its own: decides an SMT-LIB script with one pySMT solver.

Arguments: the file and the solver's name. Prints one JSON object:
``{"result": "sat"|"unsat"|"unknown", "model": {"z_0": "1/3", …}}``. It imports nothing of veriflow, so that it starts fast,
sees only the text that any other solver would see, and can be killed.
"""

import json
import sys
from io import StringIO
from pathlib import Path

from pysmt.exceptions import SolverReturnedUnknownResultError
from pysmt.shortcuts import Solver
from pysmt.smtlib.parser import SmtLibParser


def decide(text: str, solver_name: str) -> dict[str, object]:
    """The solver's answer, with exact values of the symbols named ``z_…`` if it is sat."""
    script = SmtLibParser().get_script(StringIO(text))
    formula = script.get_last_formula()
    with Solver(name=solver_name, logic="QF_LRA") as solver:
        solver.add_assertion(formula)
        try:
            if not solver.solve():
                return {"result": "unsat"}
        except SolverReturnedUnknownResultError:
            return {"result": "unknown"}
        declared = [symbol for symbol in script.get_declared_symbols() if symbol.symbol_name().startswith("z_")]
        values = {s.symbol_name(): str(solver.get_value(s).constant_value()) for s in declared}
        return {"result": "sat", "model": values}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(decide(Path(sys.argv[1]).read_text(), sys.argv[2])))
