"""The least and the greatest output of a network over a level set."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from exporters import milp_model
from veriflow.density.level_sets import LevelSet
from veriflow.errors import PropertyError, SolverError
from veriflow.flows.flow import Flow
from veriflow.numerics.rounding import CONSTANTS, gamma
from veriflow.piecewise.bounds.crown import linear_lower_bounds, symbolic_bounds
from veriflow.piecewise.bounds.interval import interval_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import enclose_exact, evaluate
from veriflow.piecewise.graph import Graph
from veriflow.queries.constraints import Expression
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query, flow_query
from veriflow.queries.violation_arrays import constraint_rows
from veriflow.regions.ball import Ball
from veriflow.runtime.deadline import OutOfTime, until
from veriflow.runtime.threads import one_thread

from ..bab.box_domains import violation_hull
from ..programs.scaling import MARGIN_TOLERANCE, slack_scale, slack_tolerance
from ..programs.solve import refuse_round_shells, solve_milp
from ..witness.attack import climb
from ..witness.onnx_replay import with_runs
from ..witness.replay import replay
from ..witness.verdict import Witness

STARTS, STEPS = 128, 40
"""Points from which the attack starts, and its gradient steps."""

_ROUNDINGS = (1e-7, 1e-6, 1e-5, 1e-3)
"""How much of its score a point may lose by being rounded to float32 in the region, relative to the scale; in turn."""


@dataclass(frozen=True)
class RangeEnd:
    """One end of a range.

    Attributes:
        proved: no output is beyond.
        attained: the output at the witness, computed in exact rationals and rounded once.
        witness: an input of the level set with that output.
    """

    proved: float
    attained: float
    witness: Witness


@dataclass(frozen=True)
class OutputRange:
    """The range of an output over a level set: every output is from ``low.proved`` to ``high.proved``.

    Attributes:
        score: the output, or the linear expression over outputs.
        low: the least one.
        high: the greatest one.
        complete: whether both ends were searched to the end; what is proved and what is attained then differ by little
            more than the tolerance.
        reason: how the search ended, in a sentence.
        seconds: wall-clock time.
    """

    score: str
    low: RangeEnd
    high: RangeEnd
    complete: bool
    reason: str
    seconds: float


def output_range(
    flow: Flow, network: Graph, level_set: LevelSet, score: Expression, *, timeout: float = 60.0
) -> OutputRange:
    """The least and the greatest value of a linear expression over a network's outputs, on a level set of a flow.

    For each end an attack gives a first value; where bounds do not exclude a better one, a mixed-integer program decides. Its
    proved bound is moved outward by 1e-6 of the scale of the numbers in it, the tolerance of the ``milp`` engine. Where time
    runs out, each end is what is proved and what is attained by then.

    Args:
        flow: whose latents lead to the inputs.
        network: under test.
        level_set: of the flow; each interval of norms is a ball or shell, its radii rounded outward to float32.
        score: such as ``y[0]`` or ``y[1] - y[0]``.
        timeout: seconds.

    Raises:
        QueryError: a network that does not take the flow's data, a level set of L2 shells.
        PropertyError: a score that names no output, or one that is not there.
        RegionError: a level set without an outer end.
        SolverError: a time limit that is not positive; no point of the level set replays.
        GraphError: a point at which the network's file gives what no rounding of the exact outputs explains.
    """
    if not timeout > 0:
        raise SolverError(f"expected a positive time limit; got {timeout}")
    if not score.coefficients:
        raise PropertyError(f"expected an output such as y[0] in what is bounded; got {str(score)!r}")
    start = time.monotonic()
    balls = [Ball(flow.base.p, outer, flow.dim, inner) for inner, outer in level_set.intervals]
    for ball in balls:
        refuse_round_shells(ball)
    whole = flow_query(flow, network, balls[0], formula_property(score > 0))
    questions = [whole.at(ball) for ball in balls]
    ends: list[tuple[RangeEnd, bool]] = []
    with one_thread():
        scale = _scale(whole, score, interval_bounds(whole.graph, balls[0]))
        first = _best(whole, score, balls[0].draw(STARTS, 0), scale)
        if first is None:
            raise SolverError("expected a point of the level set that exact arithmetic agrees on; got none")
        for place, sign in enumerate((1, -1)):
            parts = []
            for number, query in enumerate(questions):
                left = start + timeout - time.monotonic()
                share = left / (len(questions) * (2 - place) - number)
                parts.append(_greatest(query, score * sign, first, time.monotonic() + share))
            best = max((end for end, _ in parts), key=lambda end: end.attained)
            proved = max(end.proved for end, _ in parts)
            ends.append((replace(best, proved=proved), all(ended for _, ended in parts)))
    unasked = replace(whole, violation=())
    (high, up), (low, down) = ends
    of_high = with_runs(unasked, high.witness)
    of_low = of_high if low.witness is high.witness else with_runs(unasked, low.witness)
    high, low = replace(high, witness=of_high), RangeEnd(-low.proved, -low.attained, of_low)
    reason = "both ends are searched to the end" if up and down else f"time limit of {timeout:g} s reached"
    return OutputRange(str(score), low, high, up and down, reason, time.monotonic() - start)


def _greatest(query: Query, score: Expression, known: Witness, deadline: float) -> tuple[RangeEnd, bool]:
    """The greatest score over the query's region, or at a ``known`` point, and whether the search came to its end."""
    end = _first(query, score, known)
    try:
        with until(deadline):
            return _searched(query, score, known, deadline)
    except OutOfTime:
        return end, False


def _first(query: Query, score: Expression, known: Witness) -> RangeEnd:
    """What intervals prove, and what a point attains: had at once, however little time there is."""
    bounds = interval_bounds(query.graph, query.region)
    low, high = bounds.lower[query.graph.output], bounds.upper[query.graph.output]
    ends = [float(c) * (high if c > 0 else low)[i] for i, c in score.coefficients.items()]
    margin = (CONSTANTS + gamma(len(ends))) * _scale(query, score, bounds)
    proved = float(np.nextafter(sum(ends, float(score.constant)) + margin, np.inf))
    proved, attained = math.inf if math.isnan(proved) else proved, float(_score_at(query, score, known.point))
    return RangeEnd(max(proved, attained), attained, known)


def _scale(query: Query, score: Expression, bounds: Bounds) -> float:
    return slack_scale((score.at_least(Fraction(0)),), bounds, query.graph.output)


def _searched(query: Query, score: Expression, witness: Witness, deadline: float) -> tuple[RangeEnd, bool]:
    rows, _ = constraint_rows([score.at_least(Fraction(0))], query.graph.output_size)
    whole = symbolic_bounds(query.graph, query.region)
    scale = _scale(query, score, whole)
    least = linear_lower_bounds(query.graph, query.region, whole, query.graph.output, -rows)
    proved = float(np.nextafter(-least[0] + float(score.constant) + CONSTANTS * scale, np.inf))
    points = climb(_asked(query, score, Fraction(proved)), query.region.draw(STARTS, 0), STEPS)
    witness, attained = _better(query, score, witness, points, scale)

    question = _asked(query, score, attained)
    bounds, _ = violation_hull(question)
    if bounds is None:  # rounding apart, nothing is above what is attained
        return RangeEnd(min(proved, float(attained) + MARGIN_TOLERANCE * scale), float(attained), witness), True
    disjunct = question.violation[0]
    tolerance = slack_tolerance(disjunct, bounds, query.graph)
    model = milp_model(question, bounds, disjunct, -tolerance)
    answer = solve_milp(model, (model.slack, -1.0), time_limit=deadline - time.monotonic())
    if answer.status == "infeasible":
        proved = min(proved, float(attained) + tolerance)
    else:
        proved = min(proved, float(attained) + max(-answer.proved, 0.0) + tolerance)
    if answer.solution is not None:
        point = torch.from_numpy(answer.solution[model.inputs])
        witness, attained = _better(query, score, witness, point[None], scale)
    return RangeEnd(max(proved, float(attained)), float(attained), witness), answer.status != "stopped"


def _asked(query: Query, score: Expression, bound: Fraction) -> Query:
    """The question whether the score may be as large as ``bound``."""
    return replace(query, violation=((score.at_least(bound),),))


def _better(
    query: Query, score: Expression, known: Witness, points: torch.Tensor, scale: float
) -> tuple[Witness, Fraction]:
    """The best of a known witness and some points, with its exact score."""
    found = [known, *filter(None, [_best(query, score, points, scale)])]
    scored = [(_score_at(query, score, one.point), one) for one in found]
    attained, witness = max(scored, key=lambda pair: pair[0])
    return witness, attained


def _best(query: Query, score: Expression, points: torch.Tensor, scale: float) -> Witness | None:
    """A witness at the best of some points that replays, or next to it in the region where that loses little."""
    with torch.no_grad():
        outputs = evaluate(query.graph, points)[query.graph.output]
    terms = sum(float(c) * outputs[:, i] for i, c in score.coefficients.items())
    values = torch.as_tensor(terms) + float(score.constant)
    for place in values.argsort(descending=True).tolist():
        for loss in _ROUNDINGS if values[place].isfinite() else ():
            least = Fraction(float(values[place])) - Fraction(loss * scale)
            witness = replay(_asked(query, score, least), points[place].tolist())
            if witness is not None:
                return witness
    return None


def _score_at(query: Query, score: Expression, point: Sequence[Fraction]) -> Fraction:
    low, high = (values[query.graph.output] for values in enclose_exact(query.graph, point))
    return score.least(low, high)
