"""HiGHS as a rival: its own mixed-integer solver with its own tolerances, on the programs that others are given as files."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from exporters import MilpModel, highs_model, milp_model
from veriflow import Query
from veriflow.piecewise.bounds.crown import symbolic_bounds
from verify import Outcome, Verdict, replay
from verify.programs.scaling import slack_tolerance


@dataclass(frozen=True)
class HighsAnswer:
    """What HiGHS says: whether it came to an end, whether there is no solution, and its best one."""

    ended: bool
    infeasible: bool
    solution: NDArray[np.float64] | None


def solve_by_highs(
    model: MilpModel, minimise: tuple[int, float], *, time_limit: float, target: float = -math.inf
) -> HighsAnswer:
    """Minimise ``sign · v[column]`` for ``minimise = (column, sign)``, up to a solution at or below ``target``."""
    solver = highspy.Highs()
    options = {"output_flag": False, "threads": 1, "time_limit": max(time_limit, 0.01), "objective_target": target}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.passModel(highs_model(model, minimise))
    solver.run()
    S = highspy.HighsModelStatus
    status = solver.getModelStatus()
    feasible = solver.getInfo().primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    solution = np.array(solver.getSolution().col_value) if feasible else None
    return HighsAnswer(status in {S.kOptimal, S.kInfeasible}, status == S.kInfeasible, solution)


def verify_by_highs(query: Query, timeout: float) -> Verdict:
    """A query by the programs of symbolic bounds over its region, one for each disjunct, as Gurobi gets them."""
    start = time.monotonic()
    bounds = symbolic_bounds(query.graph, query.region)
    is_open = False
    for disjunct in query.violation:
        tolerance = slack_tolerance(disjunct, bounds, query.graph)
        model = milp_model(query, bounds, disjunct, -tolerance)
        left = timeout - (time.monotonic() - start)
        answer = solve_by_highs(model, (model.slack, -1.0), time_limit=left, target=-10 * tolerance)
        if answer.solution is not None:
            witness = replay(query, answer.solution[model.inputs].tolist())
            if witness is not None:
                seconds = time.monotonic() - start
                return Verdict(Outcome.VIOLATED, "replayed", witness, "highs", seconds)
        is_open = is_open or not answer.infeasible
    outcome = Outcome.UNKNOWN if is_open else Outcome.HOLDS
    return Verdict(outcome, "HiGHS says so", None, "highs", time.monotonic() - start)
