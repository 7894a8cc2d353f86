"""Points drawn from a region and projected onto it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Region, pieces


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
