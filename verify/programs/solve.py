"""One mixed-integer program of a query, solved: the largest slack of a violation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from exporters import MilpModel
from veriflow.errors import QueryError
from veriflow.numerics.arrays import Vector
from veriflow.regions.region import Region
from veriflow.runtime.deadline import check_deadline

from .lp_tree import BranchedProgram, Status
from .scaling import balanced


@dataclass(frozen=True)
class MilpAnswer:
    """A proved lower bound on the objective, the best solution and its objective.

    The objective is infinite where the time ended before tangents brought the solution into an L2 ball; its input was then
    moved onto the sphere.
    """

    status: Status
    proved: float
    found: float
    solution: Vector | None


def solve_milp(
    model: MilpModel,
    minimise: tuple[int, float],
    *,
    time_limit: float,
    target: float = -math.inf,
    cutoff: float = math.inf,
) -> MilpAnswer:
    """Minimise ``sign · v[column]`` for ``minimise = (column, sign)``.

    Stops early at a solution at or below ``target``; solutions above ``cutoff`` are not of interest. L2 balls are outlined
    by tangents: while a solution lies outside of one by more than `exporters.milp.cones.MISS`, tangents at it are added. What
    a program proves stays proved, for each is a relaxation.
    """
    deadline, proved = time.monotonic() + time_limit, -math.inf
    while True:
        check_deadline()
        left = deadline - time.monotonic()
        answer = _solve_outline(model, minimise, time_limit=left, target=target, cutoff=cutoff)
        proved = max(proved, answer.proved)
        if answer.solution is None:
            return replace(answer, proved=proved)
        drawn, tighter = model.drawn_in(answer.solution), model.tightened(answer.solution)
        if tighter is None:
            return replace(answer, proved=proved, solution=drawn)
        if time.monotonic() >= deadline:
            return MilpAnswer("stopped", proved, math.inf, drawn)
        model = tighter


def _solve_outline(
    model: MilpModel, minimise: tuple[int, float], *, time_limit: float, target: float, cutoff: float
) -> MilpAnswer:
    """The answer for the linear rows and the tangents so far."""
    scaled = balanced(model)
    unit = float(scaled.units[minimise[0]])
    tree = BranchedProgram(scaled.program, minimise)
    tree.search(deadline=time.monotonic() + time_limit, target=target / unit, cutoff=cutoff / unit)
    solution = None if tree.solution is None else scaled.units * tree.solution
    return MilpAnswer(tree.status, unit * tree.proved, unit * tree.found, solution)


def refuse_round_shells(region: Region) -> None:
    """Refuse regions that programs cannot state.

    Raises:
        QueryError: an L2 shell, which `bab` alone decides: outlines from outside fill it.
    """
    if region.has_round_hole:
        raise QueryError(f"expected boxes, balls, and shells of norm 1 or inf; got {region}")
