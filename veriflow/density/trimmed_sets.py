"""Trimmed level sets: what a level set keeps of its mass where no coordinate of the latent is large.

In many dimensions an L1 ball of mass one half reaches out to vertices that no sample comes near. The set
{ ‖z‖₁ ≤ r, |z_i| ≤ t } of the same mass has a slightly larger radius and a fraction of the extent. It is no density level
set: some points outside of it are more probable than some inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from ..errors import RegionError
from ..regions.ball import Ball
from ..tables.rows import Rows
from .ball_mass import NODES, ball_mass, within_share
from .level_sets import LevelSet, RadialFlow, upper_level_set
from .radial import RadialBase

SHAPES = 16
"""Number of quotients radius/limit that are tried, in geometric progression from 1 to half the dimension."""


@dataclass(frozen=True)
class TrimmedLevelSet:
    """The data points whose latents lie in a trimmed ball, beside the pure level set of the same mass.

    - `flow`: the flow that both are about.
    - `ball`: { ‖z‖₁ ≤ radius, |z_i| ≤ limit }.
    - `mass`: the probability of the set under the flow.
    - `mass_error`: an estimate of the error of that number, a quadrature's.
    - `level_set`: the most probable set of that mass.
    """

    flow: RadialFlow
    ball: Ball
    mass: float
    mass_error: float
    level_set: LevelSet

    @torch.no_grad()
    def contains(self, x: Rows) -> Tensor:
        """Which of the data points x, shape (..., d), are in the set; bool of shape (...). ModelError for another shape."""
        z = self.flow.latent(x)
        return (self.flow.base.norm(z).double() <= self.ball.radius) & (z.abs().amax(-1).double() <= self.ball.limit)

    def __repr__(self) -> str:
        return f"TrimmedLevelSet(mass {self.mass:.6g}, {self.ball})"

    def __str__(self) -> str:
        return (
            f"trimmed set of mass {self.mass:.6g}: ||z||_1 <= {self.ball.radius:.6g} and |z_i| <= {self.ball.limit:.6g}; "
            f"the pure level set of that mass has radius {self.level_set.radius:.6g}"
        )


def trimmed_level_set(
    flow: RadialFlow, *, mass: float | None = None, radius: float | None = None, limit: float | None = None
) -> TrimmedLevelSet:
    """The set { ‖z‖₁ ≤ radius, |z_i| ≤ limit } of a flow over an L1 base.

    - `mass` and `limit`: the radius is that of the mass.
    - `radius` and `limit`: this very set.
    - `mass`, or `radius` for the mass of the untrimmed ball of that radius: of the sets of that mass, over a grid of
      quotients radius/limit, the one of least mean width, that is of least E max a·z over it for normal a.

    Raises:
        RegionError: not exactly one of mass and radius, or one out of range; a limit that is not positive, or that leaves
            less than the mass; a base of another norm, or one whose density does not decrease with the norm.
    """
    base = flow.base
    if base.p != 1 or not base.law.is_decreasing:
        raise RegionError(
            f"expected a flow over an L1 base whose level sets are balls, to trim them; got the norm {base.p:g}"
            + ("" if base.law.is_decreasing else " and a density that rises first")
        )
    if limit is not None and not 0 < limit < math.inf:
        raise RegionError(f"expected a positive finite limit of latent coordinates; got {limit}")
    pure = upper_level_set(flow, mass=mass, radius=radius)
    if limit is not None and mass is None:
        ball = Ball(1, pure.radius, base.dim, limit=limit)
        pure = upper_level_set(flow, mass=ball_mass(base, ball).value)
    else:
        limit = _narrowest_limit(base, pure.mass, pure.radius) if limit is None else limit
        ball = Ball(1, _radius(base, pure.mass, limit, pure.radius), base.dim, limit=limit)
    return TrimmedLevelSet(flow, ball, *ball_mass(base, ball), pure)


def _radius(base: RadialBase, mass: float, limit: float, least: float) -> float:
    """The radius at which the ball trimmed at a limit has the mass; the pure ball's is the least that it can be."""

    def excess(radius: float) -> float:
        return ball_mass(base, Ball(1, radius, base.dim, limit=limit)).value - mass

    if limit >= least or excess(least) >= 0:  # where next to nothing is taken off, it may be less than the rounding
        return least
    most = base.dim * limit
    if most <= least or excess(most) < 0:
        reached = excess(most) + mass
        raise RegionError(f"expected a limit that leaves a mass of {mass}; got {limit:g}, which leaves {reached:.6g}")
    return float(scipy.optimize.brentq(excess, least, most, xtol=1e-14 * most, rtol=1e-14))


def _narrowest_limit(base: RadialBase, mass: float, radius: float) -> float:
    """The limit of the trimmed ball of the mass with the least mean width, over a grid of quotients; the radius for none.

    For a whole number k = radius/limit the mass is F_R(limit) plus Gauss's sums over the intervals between multiples of the
    limit, so that one table of `within_share` serves all limits. An approximation will do, as `ball_mass` finds the radius
    for the limit. The mean width is about the support function at the expected order statistics of |normal| coefficients.
    """
    law, dim = base.law, base.dim
    quotients = np.unique(np.geomspace(1, max(1, dim / 2), SHAPES).round().astype(int)).tolist()
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    points = np.arange(quotients[-1])[:, None] + (nodes + 1) / 2
    shares = within_share(points, dim) * weights / 2
    typical = scipy.special.ndtri(1 - (np.arange(dim) + 0.5) / (2 * dim))

    def excess(limit: float, k: int) -> float:
        norms = limit * points[1:k]
        density = np.exp(law.profile(norms) + (dim - 1) * np.log(norms))
        return float(law.cdf(limit)) + limit * float((density * shares[1:k]).sum()) - mass

    balls = [Ball(1, radius, dim, limit=radius)]
    for k in quotients[1:]:
        if excess(radius / k, k) < 0 < excess(radius, k):  # else the norms are too close together for the rule
            limit = float(scipy.optimize.brentq(excess, radius / k, radius, args=(k,)))
            balls.append(Ball(1, k * limit, dim, limit=limit))
    return min(balls, key=lambda ball: float(ball.support(typical))).limit
