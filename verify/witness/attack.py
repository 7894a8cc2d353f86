"""Search for violations by sampling and projected gradients; it proves nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.runtime.deadline import check_deadline

from .replay import replay
from .verdict import Witness

LATER = 256
"""Domains of a search after which the next attack is due; then after four times as many, and so on."""

STEPS = 40
"""Gradient steps of an attack; their lengths fall to zero."""


def disjunct_slacks(query: Query, outputs: Tensor) -> Tensor:
    """Least slack of the constraints of each disjunct at outputs ``[..., k]``, ``[..., disjuncts]``: ≥ 0 where it is met.

    A strict comparison that is met with equality is missed by the least normal number.
    """
    return _member_slacks(query, outputs).amin(-1)


def violation_slack(query: Query, outputs: Tensor) -> Tensor:
    """The slack of the best disjunct at outputs ``[..., k]``, ``[...]``: ≥ 0 where the property is violated."""
    if not query.violation:
        return torch.full(outputs.shape[:-1], -math.inf, dtype=torch.float64)
    return disjunct_slacks(query, outputs).amax(-1)


def steepest_ascent(query: Query, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """`violation_slack` ``[n]`` and a subgradient of it with respect to outputs ``[n, k]``.

    A subgradient is the row of one constraint: the first that is least in the first disjunct that is best.
    """
    if not query.violation:
        return violation_slack(query, outputs), torch.zeros_like(outputs, dtype=torch.float64)
    least, members = _member_slacks(query, outputs).min(-1)
    slack, disjunct = least.max(-1)
    found = query.arrays.conjunctions
    member = members.gather(-1, disjunct[:, None])[:, 0]
    return slack, torch.from_numpy(found.rows)[torch.from_numpy(found.members)[disjunct, member]]


def _member_slacks(query: Query, outputs: Tensor) -> Tensor:
    """The slack of each constraint of each disjunct ``[..., disjuncts, longest]``; infinity beyond a disjunct's last one."""
    found = query.arrays.conjunctions
    slacks = outputs.double() @ torch.from_numpy(found.rows.T) - torch.from_numpy(found.bounds)
    members = (slacks - torch.from_numpy(query.arrays.missed))[..., torch.from_numpy(found.members)]
    return members if found.is_full else members.masked_fill(~torch.from_numpy(found.is_member), math.inf)


def find_violation(query: Query, *, starts: int = 128, seed: int = 0, cut: int = STEPS) -> Witness | None:
    """A replayed violation, or None: projected gradient ascent on the slack from random points of the region.

    ``cut`` ends it after that many of its `STEPS` steps.
    """
    points = climb(query, query.region.draw(starts, seed), cut=cut)
    with torch.no_grad():
        slack = violation_slack(query, evaluate(query.graph, points)[query.graph.output])
    for place in slack.argsort(descending=True)[:4].tolist():
        if slack[place] < 0:
            break
        witness = replay(query, points[place].tolist())
        if witness is not None:
            return witness
    return None


class RepeatedAttack:
    """Attacks between the rounds of a search: a short one at once, a whole one after ``first`` domains, then ever fewer.

    Each starts from other points; the next one is due when the search has bounded four times as many domains. The short
    one ends after ``cut`` steps: most violations are found by then.
    """

    def __init__(self, query: Query, *, first: int, cut: int) -> None:
        self.query, self.first, self.cut, self.due, self.seed = query, first, cut, 0, 0

    def after(self, domains: int) -> Witness | None:
        """A violation, if an attack is due after so many domains and finds one."""
        if domains < self.due:
            return None
        self.seed += 1
        if self.seed == 1:
            self.due = self.first
            return find_violation(self.query, cut=self.cut)
        self.due = max(LATER, 4 * domains)
        return find_violation(self.query, seed=self.seed)


def nearest_violation(query: Query, ball: Ball, *, seed: int = 0) -> Witness | None:
    """A replayed violation of small norm in a ball, or None: attacks on balls that shrink with each success."""
    query = query.at(ball)
    best: Witness | None = None
    misses = 0
    for attempt in range(40):
        found = find_violation(query, seed=seed + attempt)
        if found is None:
            misses += 1
            if best is None or misses == 2:
                break
        else:
            misses = 0
            best = drawn_in(query, found)
        shrunk = best.norm * (0.9 if misses == 0 else 0.97)
        if shrunk <= ball.inner:
            break
        query = query.at(replace(ball, radius=shrunk))
    return best


def drawn_in(query: Query, witness: Witness) -> Witness:
    """The violation nearest to the centre on a grid of the segment from the centre to the witness."""
    z = torch.tensor([float(v) for v in witness.latent], dtype=torch.float64)
    shares = torch.linspace(0, 1, 257, dtype=torch.float64)[1:, None]
    with torch.no_grad():
        slack = violation_slack(query, evaluate(query.graph, shares * z)[query.graph.output])
    for place in (slack >= 0).nonzero().flatten().tolist():
        nearer = replay(query, (shares[place] * z).tolist())
        if nearer is not None:
            return nearer
    return witness


def climb(query: Query, points: Tensor, steps: int = STEPS, cut: int | None = None) -> Tensor:
    """Each point's best iterate of normalised projected gradient ascent on the slack, ``[n, dim]``, after ``cut`` of its steps.

    Steps are taken in the unit of each coordinate's width. A slack of zero does not end the search: where constraints
    are strict, such as those of a point and its copy that coincide, it is no violation.
    """
    width = torch.from_numpy(query.region.upper) - torch.from_numpy(query.region.lower)
    best, best_slack = points.clone(), torch.full((len(points),), -math.inf, dtype=torch.float64)
    last = steps if cut is None else min(cut, steps)
    for step in range(last + 1):
        check_deadline()
        points = points.detach().requires_grad_()
        outputs = evaluate(query.graph, points)[query.graph.output]
        slack, uphill = steepest_ascent(query, outputs.detach())
        better = slack > best_slack
        best[better], best_slack[better] = points.detach()[better], slack[better]
        if bool((best_slack > 0).any()) or step == last:
            break
        (gradient,) = torch.autograd.grad(outputs, points, uphill.to(outputs.dtype))
        step_direction = gradient * width
        length = torch.linalg.vector_norm(step_direction, dim=-1, keepdim=True).clamp_min(1e-300)
        stride = (0.25 * (1 - step / steps) + 1e-6) * width
        points = query.region.project(points.detach() + stride * step_direction / length)
    return best
