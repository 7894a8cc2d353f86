"""Witnesses of tools that work in floats: moved into the region, pushed off a tie, then replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.query import Query
from veriflow.regions.region import Region

from ..witness.attack import violation_slack
from ..witness.replay import replay
from ..witness.verdict import Witness

ROUNDING = Fraction(1, 10**6)
"""How far outside the region, relative to its size, a point may be and still count as rounded."""

_REACHES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
_POINTS, _STEPS = 32, 4


def replay_claim(query: Query, point: Sequence[Fraction]) -> Witness | None:
    """A replayed violation at the point or within rounding of it, or None.

    Solvers stop at a point that violates the property up to their own tolerance, and often exactly at a tie or a kink.
    Where the point itself is no violation, points up to 1e-5 of the region's size away are tried, and replayed in turn.
    """
    inside = drawn_in(query.region, point)
    if inside is None:
        return None
    witness = replay(query, inside)
    centre = torch.tensor([float(v) for v in inside], dtype=torch.float64)
    width = float((query.region.upper - query.region.lower).max())
    for reach in _REACHES if witness is None else ():
        witness = witness or replay(query, _best_near(query, centre, reach * width).tolist())
    return witness


def _best_near(query: Query, centre: Tensor, reach: float) -> Tensor:
    """The point of the most slack among random ones near the centre and their gradient steps."""
    directions = torch.randn(_POINTS, len(centre), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = query.region.project(centre + reach * directions)
    best, best_slack = centre, -math.inf
    for _ in range(_STEPS):
        points.requires_grad_()
        slack = violation_slack(query, evaluate(query.graph, points)[query.graph.output])
        (gradient,) = torch.autograd.grad(slack.sum(), points)
        points, slack = points.detach(), slack.detach()
        place = int(slack.argmax())
        if float(slack[place]) > best_slack:
            best, best_slack = points[place], float(slack[place])
        length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).clamp_min(1e-300)
        points = query.region.project(points + reach * gradient / length)
    return best


def drawn_in(region: Region, point: Sequence[Fraction]) -> list[Fraction] | None:
    """The point, moved into the region where it is outside by `ROUNDING` at most; None where it is farther out."""
    if len(point) != region.dim:
        return None
    moved: list[Fraction] = []
    for place, part in region.placed_parts:
        near = part.nearest(point[place])
        for before, after, size in zip(point[place], near, part.sizes, strict=True):
            if abs(before - after) > ROUNDING * size:
                return None
        moved += near
    return moved
