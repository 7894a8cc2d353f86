"""Search for violations by sampling and projected gradients: no proof, but an early end where the answer is "violated"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from veriflow.deadline import check_deadline
from veriflow.piecewise import evaluate
from veriflow.query import Query
from veriflow.regions import Ball, Box, Region, pieces

from .boxes import conjunctions, distinct_constraints
from .replay import replay
from .verdict import Witness

LATER = 256
"""Pieces of a search after which it is attacked again; then after four times as many, and so on."""

STEPS = 40
"""Steps of an attack, which get shorter up to the last."""


def disjunct_slacks(query: Query, outputs: Tensor) -> Tensor:
    """How far outputs ``[..., k]`` are into each disjunct of the violation, ``[..., disjuncts]``: its least slack.

    A strict comparison that is met with equality is missed by the least normal number.
    """
    rows, limits, members, is_member = _arrays(query)
    slacks = outputs.double() @ rows - limits[0] - limits[1]
    if members.shape[-1] == 1 and bool(is_member.all()):
        return slacks[..., members[:, 0]]
    return slacks[..., members].masked_fill(~is_member, math.inf).amin(-1)


def violation_slack(query: Query, outputs: Tensor) -> Tensor:
    """How far outputs ``[..., k]`` are into the violation, ``[...]``: the best disjunct's slack; ≥ 0 where violated."""
    if not query.violation:
        return torch.full(outputs.shape[:-1], -math.inf, dtype=torch.float64)
    return disjunct_slacks(query, outputs).amax(-1)


@lru_cache(maxsize=16)
def _arrays(query: Query) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns of coefficients; bounds, and what strict constraints miss at equality; the disjuncts' places among them."""
    found = conjunctions(query)
    least = torch.finfo(torch.float64).tiny
    missed = [least if constraint.strict else 0.0 for constraint in distinct_constraints(query)]
    limits = torch.tensor([found.bounds.tolist(), missed], dtype=torch.float64)
    return torch.from_numpy(found.rows.T), limits, torch.from_numpy(found.members), torch.from_numpy(found.is_member)


def find_violation(query: Query, *, starts: int = 128, seed: int = 0, cut: int = STEPS) -> Witness | None:
    """A replayed violation, or None: projected gradient ascent on the slack from random points of the region.

    ``cut`` ends it after as many of its steps.
    """
    points = climb(query, draw_points(query.region, starts, seed), cut=cut)
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
    """Attacks between the rounds of a search: a short one at once, a longer one after ``first`` pieces, then ever fewer.

    Each is from other points; the next one is due when the search has looked at four times as many pieces. The short one
    has ``cut`` steps: most violations are found by then.
    """

    def __init__(self, query: Query, *, first: int, cut: int) -> None:
        self.query, self.first, self.cut, self.due, self.seed = query, first, cut, 0, 0

    def after(self, pieces: int) -> Witness | None:
        """A violation, if an attack is due after so many pieces and finds one."""
        if pieces < self.due:
            return None
        self.seed += 1
        if self.seed == 1:
            self.due = self.first
            return find_violation(self.query, cut=self.cut)
        self.due = max(LATER, 4 * pieces)
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
    """The same violation moved towards the centre as far as it stays one."""
    z = torch.tensor([float(v) for v in witness.latent], dtype=torch.float64)
    shares = torch.linspace(0, 1, 257, dtype=torch.float64)[1:, None]
    with torch.no_grad():
        slack = violation_slack(query, evaluate(query.graph, shares * z)[query.graph.output])
    for place in (slack >= 0).nonzero().flatten().tolist():
        nearer = replay(query, (shares[place] * z).tolist())
        if nearer is not None:
            return nearer
    return witness


def draw_points(region: Region, count: int, seed: int) -> Tensor:
    """Seeded points of a region ``[count, dim]`` in float64: the centre, then points at all distances from it."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat([_draw_part(part, count, generator) for _, part in pieces(region)], dim=-1)
    centre = (torch.from_numpy(region.lower) + torch.from_numpy(region.upper)) / 2
    points[0] = project(region, centre[None])[0]
    return points


def _draw_part(region: Ball | Box, count: int, generator: torch.Generator) -> Tensor:
    low, high = torch.from_numpy(region.lower), torch.from_numpy(region.upper)
    uniform = torch.rand(count, region.dim, generator=generator, dtype=torch.float64)
    points = low + uniform * (high - low)
    if isinstance(region, Ball):
        if region.p == 1:
            points = torch.distributions.utils.probs_to_logits(uniform, is_binary=True)  # heavy tails: near-sparse rays
        norms = torch.linalg.vector_norm(points, region.p, dim=-1, keepdim=True).clamp_min(1e-300)
        share = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        points = points / norms * (region.inner + share * (region.radius - region.inner))
        points = _project_part(region, points) if region.is_trimmed else points
    return points


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
        slack = violation_slack(query, evaluate(query.graph, points)[query.graph.output])
        better = slack.detach() > best_slack
        best[better], best_slack[better] = points.detach()[better], slack.detach()[better]
        if bool((best_slack > 0).any()) or step == last:
            break
        (gradient,) = torch.autograd.grad(slack.sum(), points)
        uphill = gradient * width
        length = torch.linalg.vector_norm(uphill, dim=-1, keepdim=True).clamp_min(1e-300)
        stride = (0.25 * (1 - step / steps) + 1e-6) * width
        points = project(query.region, points.detach() + stride * uphill / length)
    return best


def project(region: Region, points: Tensor) -> Tensor:
    """The nearest points of the region ``[n, dim]`` (for the inside of a shell: the same direction, on its inner sphere)."""
    return torch.cat([_project_part(part, points[..., place]) for place, part in pieces(region)], dim=-1)


def _project_part(region: Ball | Box, points: Tensor) -> Tensor:
    if not isinstance(region, Ball):
        return points.clamp(torch.from_numpy(region.lower), torch.from_numpy(region.upper))
    if region.is_trimmed:
        return _project_trimmed(region, points)
    if region.p == math.inf:
        points = points.clamp(-region.radius, region.radius)
    elif region.p == 2:
        norms = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
        points = points * (region.radius / norms.clamp_min(1e-300)).clamp_max(1.0)
    else:
        points = _project_l1(points, region.radius)
    if region.inner:
        norms = torch.linalg.vector_norm(points, region.p, dim=-1, keepdim=True)
        away = torch.where(norms > 0, points, torch.ones_like(points))
        away = away / torch.linalg.vector_norm(away, region.p, dim=-1, keepdim=True)
        points = torch.where(norms < region.inner, region.inner * away, points)
    return points


def _project_l1(points: Tensor, radius: float) -> Tensor:
    """Duchi et al., *Efficient projections onto the l1-ball*, ICML 2008, figure 1, for each row."""
    magnitudes = points.abs()
    inside = magnitudes.sum(-1, keepdim=True) <= radius
    ordered = magnitudes.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(-1) - radius
    count = torch.arange(1, points.shape[-1] + 1, dtype=points.dtype)
    last = (ordered * count > excess).sum(-1, keepdim=True).clamp_min(1)
    threshold = excess.gather(-1, last - 1) / last
    return torch.where(inside, points, points.sign() * (magnitudes - threshold).clamp_min(0))


def _project_trimmed(region: Ball, points: Tensor) -> Tensor:
    """Into a trimmed ball by bisection: magnitudes lose the same number (p = 1) or share (p = 2), within 0 and the limit.

    Those inside of a shell gain the same number until their norm is the inner radius.
    """
    sizes = points.abs()

    def norms(moved: Tensor) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(moved, region.p, dim=-1, keepdim=True)
        return found

    def lessened(share: Tensor) -> Tensor:
        less = share * sizes if region.p == 2 else share * sizes.amax(-1, keepdim=True)
        return (sizes - less).clamp(0, region.limit)

    def grown(share: Tensor) -> Tensor:
        return (sizes + share * region.limit).clamp_max(region.limit)

    sizes = lessened(_least_share(lambda share: norms(lessened(share)) <= region.radius, len(points)))
    if region.inner:
        sizes = grown(_least_share(lambda share: norms(grown(share)) >= region.inner, len(points)))
    return torch.where(points < 0, -sizes, sizes)


def _least_share(reached: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """The least number in [0, 1], for each row ``[count, 1]``, from which on ``reached`` is true; 1 is taken to be such."""
    low, high = torch.zeros(count, 1, dtype=torch.float64), torch.ones(count, 1, dtype=torch.float64)
    high = torch.where(reached(low), low, high)
    for _ in range(54):
        middle = (low + high) / 2
        enough = reached(middle)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high
