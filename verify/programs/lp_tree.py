"""Mixed-integer programs by branch and bound on linear programs, with every bound proved here.

HiGHS solves the linear programs, but its answers are proposals. With dual multipliers y of the rows a ≤ A v ≤ b and columns
l ≤ v ≤ u, weak duality gives c·v ≥ Σᵢ (aᵢ yᵢ⁺ − bᵢ yᵢ⁻) + Σⱼ min over [lⱼ, uⱼ] of (c − Aᵀy)ⱼ vⱼ, computed with a margin for
rounding. For c = 0, Farkas multipliers for which this is above zero prove that there is no solution.

Source: Neumaier and Shcherbina, *Safe bounds in linear and mixed-integer linear programming*, Math. Programming 99, 2004.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import highspy
import numpy as np
from scipy import sparse

from exporters import MilpModel, highs_model
from veriflow.numerics.arrays import Indices, Vector
from veriflow.numerics.rounding import UNDERFLOW_OF_COEFFICIENTS, gamma

from .scaling import FEASIBILITY_TOLERANCE, SMALLEST_COEFFICIENT

Status = Literal["optimal", "infeasible", "stopped"]

WHOLE = 1e-6
"""Numbers this near to whole ones are rounded; the linear program is then solved with these fixed."""


class BranchedProgram:
    """Minimise ``sign · v[column]`` over a program whose whole numbers are all 0 or 1.

    Attributes:
        proved: no solution has a smaller objective; infinite where there is none.
        found: the best objective of a solution, or infinity.
        solution: that solution.
        ended: whether the search came to its end, not to a time limit, a target or a program that HiGHS fails on.
    """

    def __init__(self, model: MilpModel, minimise: tuple[int, float]) -> None:
        self.lower, self.upper = model.lower.copy(), model.upper.copy()
        self.row_lower, self.row_upper = model.row_lower, model.row_upper
        self.turned: sparse.csr_array = model.matrix.T.tocsr()
        self.absolute: sparse.csr_array = abs(self.turned)
        self.cost = np.zeros(len(model.lower))
        self.cost[minimise[0]] = minimise[1]
        self.whole: Indices = np.flatnonzero(model.integral)
        self.solver = _solver(model, minimise)
        self.proved, self.found, self.ended = math.inf, math.inf, True
        self.solution: Vector | None = None

    @property
    def status(self) -> Status:
        """How the search went."""
        if not self.ended:
            return "stopped"
        return "infeasible" if self.proved == math.inf else "optimal"

    def search(self, *, deadline: float, target: float, cutoff: float) -> None:
        """Go through the tree, depth first; stops at ``deadline``, or at a solution at or below ``target``.

        Parts whose bound is above ``cutoff``, or hardly below the best solution, are left.
        """
        stack = [(-math.inf, self.lower[self.whole], self.upper[self.whole])]
        while stack:
            bound, low, high = stack.pop()
            if self.found <= target or time.monotonic() > deadline:
                self.ended = False
                self.proved = min([self.proved, bound, *(entry[0] for entry in stack)])
                return
            if bound >= self._enough(cutoff):
                self.proved = min(self.proved, bound)
                continue
            below, values = self._bounded(low, high, deadline)
            bound = max(bound, below)
            if bound >= self._enough(cutoff):
                self.proved = min(self.proved, bound)
                continue
            free = np.flatnonzero(low < high)
            middle = values[self.whole] if values is not None else np.full(len(self.whole), 0.5)
            away = np.minimum(middle, 1 - middle)[free]
            if values is not None and (not len(away) or away.max() <= WHOLE):
                self._take(values if not len(away) or away.max() == 0 else self._settled(values, deadline))
                self.proved = min(self.proved, bound)
                continue
            if not len(free):
                self.ended, self.proved = False, min(self.proved, bound)
                continue
            unit = free[away.argmax()]
            nearer = round(middle[unit])
            for value in (1 - nearer, nearer):
                here = low.copy(), high.copy()
                here[0][unit] = here[1][unit] = value
                stack.append((bound, *here))

    def _settled(self, values: Vector, deadline: float) -> Vector:
        """The solution with whole numbers that are whole, if there is one."""
        whole = np.round(values[self.whole])
        _, better = self._bounded(whole, whole, deadline)
        return values if better is None else better

    def _enough(self, cutoff: float) -> float:
        """The least bound at which a part of the tree is pruned."""
        return min(cutoff, self.found - 1e-9 - 1e-6 * abs(self.found)) if self.found < math.inf else cutoff

    def _take(self, values: Vector) -> None:
        objective = float(self.cost @ values)
        if objective < self.found:
            self.found, self.solution = objective, values

    def _bounded(self, low: Vector, high: Vector, deadline: float) -> tuple[float, Vector | None]:
        """A proved bound with the whole numbers in [low, high], and HiGHS's solution of the relaxation if it has one."""
        self.lower[self.whole], self.upper[self.whole] = low, high
        self.solver.changeColsBounds(len(self.whole), self.whole.astype(np.int32), low, high)
        left = max(deadline - time.monotonic(), 0.01)
        self.solver.setOptionValue("time_limit", self.solver.getRunTime() + left)  # its clock goes on from run to run
        self.solver.run()
        status = self.solver.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            found = self.solver.getSolution()
            return self._below(self.cost, np.array(found.row_dual)), np.array(found.col_value)
        if status == highspy.HighsModelStatus.kInfeasible:
            _, there, ray = self.solver.getDualRay()
            if there and (self._below(0 * self.cost, ray) > 0 or self._below(0 * self.cost, -ray) > 0):
                return math.inf, None
        return -math.inf, None

    def _below(self, cost: Vector, multipliers: Vector) -> float:
        """The lower bound on ``cost · v`` by weak duality, rounded down."""
        ends = np.where(multipliers > 0, self.row_lower, self.row_upper)
        used = np.isfinite(ends) & (multipliers != 0)
        multipliers, ends = np.where(used, multipliers, 0.0), np.where(used, ends, 0.0)
        left = cost - self.turned @ multipliers
        size = np.abs(cost) + self.absolute @ np.abs(multipliers)
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
        parts = np.where(left == 0, 0.0, np.minimum(left * self.lower, left * self.upper))
        total = float(multipliers @ ends + parts.sum())
        error = gamma(len(self.row_lower) + len(self.lower)) * float(
            np.abs(multipliers) @ np.abs(ends) + 2 * size @ reach
        )
        return total - error - UNDERFLOW_OF_COEFFICIENTS


def _solver(model: MilpModel, minimise: tuple[int, float]) -> highspy.Highs:
    """HiGHS with the program's linear relaxation; each next one starts from the last basis."""
    solver = highspy.Highs()
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "presolve": "off",
        "solver": "simplex",
        "primal_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "dual_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "small_matrix_value": SMALLEST_COEFFICIENT,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    program = highs_model(model, minimise)
    program.integrality_ = []
    solver.passModel(program)
    return solver
