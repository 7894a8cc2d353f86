"""A script under a Python that has gurobipy: solves the MPS file that its first argument names.

The second argument is the time limit in seconds, the third the slack at which a solution is good enough. Prints one JSON
object: ``{"answer": "sat"|"unsat"|"unknown", "point": {"0": 0.25, …}, "reason": "…"}``. It imports nothing of veriflow.
"""

import json
import sys

import gurobipy


def decide(path: str, seconds: float, enough: float) -> dict[str, object]:
    """Gurobi's answer on the program in a file."""
    environment = gurobipy.Env(params={"OutputFlag": 0})
    model = gurobipy.read(path, env=environment)
    settings = {
        "TimeLimit": seconds,
        "Threads": 1,
        "FeasibilityTol": 1e-9,
        "IntFeasTol": 1e-9,
        "OptimalityTol": 1e-9,
        "NumericFocus": 2,
        "DualReductions": 0,
        "BestObjStop": -enough,
    }
    for name, value in settings.items():
        model.setParam(name, value)
    try:
        model.optimize()
    except gurobipy.GurobiError as error:
        return {"answer": "unknown", "reason": f"refuses the program: {error}"}
    if model.Status == gurobipy.GRB.INFEASIBLE:
        return {"answer": "unsat"}
    if not model.SolCount:
        late = model.Status == gurobipy.GRB.TIME_LIMIT
        return {
            "answer": "unknown",
            "reason": "reached its time limit" if late else f"ended with status {model.Status}",
        }
    if model.ObjVal > 0:
        return {
            "answer": "unknown",
            "reason": f"found a largest slack of {-model.ObjVal:.3g}, within the tolerance of zero",
        }
    inputs = [v for v in model.getVars() if v.VarName.startswith("z_")]
    return {"answer": "sat", "point": {v.VarName[2:]: v.X for v in inputs}}


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(".".join(map(str, gurobipy.gurobi.version())))
    else:
        sys.stdout.write(json.dumps(decide(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))))
