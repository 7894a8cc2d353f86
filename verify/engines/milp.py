"""The milp engine: one program for each disjunct of the violation, whose slack is maximised."""

from __future__ import annotations

import math
import time

from exporters import milp_model
from veriflow.queries.query import Query

from ..bab.box_domains import violation_hull
from ..programs.scaling import MARGIN_TOLERANCE, slack_scale, slack_tolerance
from ..programs.solve import refuse_round_shells, solve_milp
from ..witness.attack import RepeatedAttack
from ..witness.replay import replay
from ..witness.verdict import LATE, Outcome, Verdict
from .limits import Limits


def verify_milp(query: Query, limits: Limits) -> Verdict:
    """Decide a query by one program for each disjunct that neither an attack nor symbolic bounds settle.

    Raises:
        QueryError: an L2 shell.
    """
    deadline = time.monotonic() + limits.timeout
    refuse_round_shells(query.region)
    attack, attacked = RepeatedAttack(query, first=1, cut=8), "an attack found a violation, replayed exactly"
    witness = attack.after(0)
    if witness is not None:
        return Verdict(Outcome.VIOLATED, attacked, witness)
    bounds, places = violation_hull(query)
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
