"""The milp engine: one program for each way to violate the property, whose slack is maximised."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exporters import MilpModel, milp_model
from veriflow.deadline import check_deadline
from veriflow.errors import QueryError
from veriflow.query import Query
from veriflow.regions import Region, round_parts

from .attack import RepeatedAttack
from .boxes import open_part
from .linear_branching import BranchedProgram, Status
from .milp_scaling import MARGIN_TOLERANCE, balanced, slack_scale, slack_tolerance
from .replay import replay
from .verdict import LATE, Outcome, Verdict

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MilpAnswer:
    """What was found: the least objective proved possible, the best solution and its objective.

    A solution whose objective is infinite lies outside of an L2 ball in the last program that there was time for; its
    input is then moved onto the sphere.
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
    by tangents: while a solution lies outside of one by more than `exporters.cones.MISS`, tangents at it are added. What
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
    """The answer for the rows alone."""
    scaled = balanced(model)
    unit = float(scaled.units[minimise[0]])
    tree = BranchedProgram(scaled.program, minimise)
    tree.search(deadline=time.monotonic() + time_limit, target=target / unit, cutoff=cutoff / unit)
    solution = None if tree.solution is None else scaled.units * tree.solution
    return MilpAnswer(tree.status, unit * tree.proved, unit * tree.found, solution)


def refuse_round_shells(region: Region) -> None:
    """Refuse what programs cannot state.

    Raises:
        QueryError: an L2 shell, which `bab` alone decides: outlines from outside fill it.
    """
    if any(part.inner for part in round_parts(region)):
        raise QueryError(f"expected boxes, balls, and shells of norm 1 or inf; got {region}")


def verify_milp(query: Query, *, timeout: float) -> Verdict:
    """Decide a query by one program for each disjunct that neither an attack nor symbolic bounds settle.

    Raises:
        QueryError: an L2 shell.
    """
    deadline = time.monotonic() + timeout
    refuse_round_shells(query.region)
    attack, attacked = RepeatedAttack(query, first=1, cut=8), "an attack found a violation, replayed exactly"
    witness = attack.after(0)
    if witness is not None:
        return Verdict(Outcome.VIOLATED, attacked, witness)
    bounds, places = open_part(query)
    if bounds is None:
        return Verdict(Outcome.HOLDS, "symbolic bounds exclude every violation")
    witness = attack.after(1)
    if witness is not None:
        return Verdict(Outcome.VIOLATED, attacked, witness)
    gaps: list[str] = []
    missed = MARGIN_TOLERANCE
    for done, place in enumerate(places):
        disjunct = query.violation[place]
        tolerance = slack_tolerance(disjunct, bounds, query.graph)
        model = milp_model(query, bounds, disjunct, -tolerance)
        answer = solve_milp(model, (model.slack, -1.0), time_limit=deadline - time.monotonic(), target=-10 * tolerance)
        if answer.status == "infeasible":
            missed = max(missed, tolerance / slack_scale(disjunct, bounds, query.graph.output))
            continue
        if answer.solution is not None:
            witness = replay(query, answer.solution[model.inputs].tolist())
            if witness is not None:
                return Verdict(Outcome.VIOLATED, "the program has a violation, replayed exactly", witness)
        if answer.status == "stopped" and answer.found == math.inf:
            most = "" if answer.proved == -math.inf else f" with a largest slack of at most {-answer.proved:.3g}"
            if time.monotonic() >= deadline:
                gaps.append(f"{LATE} at program {done + 1} of {len(places)}{most}")
                break
            gaps.append(f"a program stays open{most}, as its relaxations could not be solved")
        elif -answer.found > tolerance:
            gaps.append(
                f"the program's best input, of slack {-answer.found:.3g}, does not replay (tolerance {tolerance:.1g})"
            )
        else:
            gaps.append(f"largest slack {-answer.found:.3g} is within the tolerance {tolerance:.1g} of zero")
    if gaps:
        return Verdict(Outcome.UNKNOWN, "; ".join(dict.fromkeys(gaps)))
    return Verdict(Outcome.HOLDS, f"every violation misses by more than {missed:.2g} of its scale")
