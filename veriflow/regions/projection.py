"""Points projected onto a ball or a box, and points drawn from them, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..numerics.arrays import Vector

if TYPE_CHECKING:
    from .ball import Ball
    from .region import Region


def draw_around_centre(region: Region, count: int, seed: int) -> Tensor:
    """Seeded points of a region ``[count, dim]``: its projected centre, then points at all distances from it."""
    points = region.drawn(count, torch.Generator().manual_seed(seed))
    centre = (torch.from_numpy(region.lower) + torch.from_numpy(region.upper)) / 2
    points[0] = region.project(centre[None])[0]
    return points


def draw_from_box(lower: Vector, upper: Vector, count: int, generator: torch.Generator) -> Tensor:
    """Uniform points of a box ``[count, dim]``."""
    low, high = torch.from_numpy(lower), torch.from_numpy(upper)
    return low + _uniform(count, len(lower), generator) * (high - low)


def draw_from_ball(ball: Ball, count: int, generator: torch.Generator) -> Tensor:
    """Points of a ball or shell ``[count, dim]``: rays of random directions, and on each a uniform norm.

    For p = 1 coordinates have heavy tails, so that rays are nearly sparse.
    """
    if ball.p == 1:
        points = torch.distributions.utils.probs_to_logits(_uniform(count, ball.dim, generator), is_binary=True)
    else:
        points = draw_from_box(ball.lower, ball.upper, count, generator)
    norms = torch.linalg.vector_norm(points, ball.p, dim=-1, keepdim=True).clamp_min(1e-300)
    points = points / norms * (ball.inner + _uniform(count, 1, generator) * (ball.radius - ball.inner))
    return project_onto_ball(ball, points) if ball.is_trimmed else points


def _uniform(count: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, dim, generator=generator, dtype=torch.float64)


def project_onto_box(lower: Vector, upper: Vector, points: Tensor) -> Tensor:
    """The nearest points of a box ``[..., dim]``."""
    return points.clamp(torch.from_numpy(lower), torch.from_numpy(upper))


def project_onto_ball(ball: Ball, points: Tensor) -> Tensor:
    """The nearest points of a ball ``[n, dim]``; those in the hole of a shell go outwards along their rays."""
    if ball.is_trimmed:
        return _project_trimmed(ball, points)
    if ball.p == math.inf:
        points = points.clamp(-ball.radius, ball.radius)
    elif ball.p == 2:
        norms = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
        points = points * (ball.radius / norms.clamp_min(1e-300)).clamp_max(1.0)
    else:
        points = _project_l1(points, ball.radius)
    if ball.inner:
        norms = torch.linalg.vector_norm(points, ball.p, dim=-1, keepdim=True)
        away = torch.where(norms > 0, points, torch.ones_like(points))
        away = away / torch.linalg.vector_norm(away, ball.p, dim=-1, keepdim=True)
        points = torch.where(norms < ball.inner, ball.inner * away, points)
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


def _project_trimmed(ball: Ball, points: Tensor) -> Tensor:
    """The projection onto a trimmed ball by bisection for its multiplier.

    Magnitudes lessen by the same amount (p = 1) or factor (p = 2) and are clipped to [0, limit]; in the hole of a shell they
    grow by the same amount, up to the limit, until the norm is the inner radius.
    """
    sizes = points.abs()

    def norms(moved: Tensor) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(moved, ball.p, dim=-1, keepdim=True)
        return found

    def lessened(share: Tensor) -> Tensor:
        less = share * sizes if ball.p == 2 else share * sizes.amax(-1, keepdim=True)
        return (sizes - less).clamp(0, ball.limit)

    def grown(share: Tensor) -> Tensor:
        return (sizes + share * ball.limit).clamp_max(ball.limit)

    sizes = lessened(_least_share(lambda share: norms(lessened(share)) <= ball.radius, len(points)))
    if ball.inner:
        sizes = grown(_least_share(lambda share: norms(grown(share)) >= ball.inner, len(points)))
    return torch.where(points < 0, -sizes, sizes)


def _least_share(reached: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """By bisection, for each row ``[count, 1]``, the least number in [0, 1] from which on ``reached`` holds; else 1."""
    low, high = torch.zeros(count, 1, dtype=torch.float64), torch.ones(count, 1, dtype=torch.float64)
    high = torch.where(reached(low), low, high)
    for _ in range(54):
        middle = (low + high) / 2
        enough = reached(middle)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high
