"""Mass of a ball, a shell or a trimmed ball under a radial base, with the error of what is not a closed form.

A latent z of a radial base with p = 1 is its norm R times a direction from the cone measure, whose magnitudes are uniform
on the simplex (Dirichlet(1, …, 1)). Hence, with q_d(x) the probability that x times the largest magnitude is 1 at most,

    P(a ≤ ‖z‖₁ ≤ b, max |z_i| ≤ t) = ∫ q_d(s/t) dF_R(s) over [a, b].

q_d(x) x^(d−1) / (d−1)! is the density at x of a sum of d uniform numbers, and the recursion of these densities (B-splines:
de Boor, *On calculating with B-splines*, J. Approx. Theory 6, 1972) becomes, for 1 ≤ x ≤ n,

    q_n(x) = q_{n−1}(x) + (n − x)/x · (1 − 1/x)^(n−2) · q_{n−1}(x − 1),    q_n(x) = 1 for x ≤ 1, 0 for x ≥ n,

in which no term is negative: nothing cancels, in any number of dimensions, unlike in the alternating sum over the faces
of the simplex. q_d is a smooth function between neighbouring whole numbers, where Gauss's rule is used.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..regions.ball import Ball
from .norm_laws import NormLaw
from .radial import RadialBase

NODES, MOST_CELLS = 16, 64
"""Nodes of Gauss's rule in a cell, and the most cells between two breakpoints."""

ENOUGH = 1e-12
"""Estimated error at which the rule stops halving its cells."""

NEGLIGIBLE = 1e-14
"""Upper tail mass that the quadrature leaves out and adds to the error."""


class Mass(NamedTuple):
    """A probability, and an estimate of its absolute error: zero where it has a closed form."""

    value: float
    error: float


def ball_mass(base: RadialBase, ball: Ball) -> Mass:
    """P(z in the ball) for z from the base.

    Over a trimmed ball it is a quadrature. The error is the larger one of two differences: to the same rule on cells twice
    as wide, and of the rule's mass of the norms alone to the exact one. It is below 1e-12 for the laws of `BASES` as they
    are made, in 1 to 1,000 dimensions, and larger only where a law is so narrow that the finest cells do not resolve it.

    Raises:
        RegionError: a ball of another norm or dimension than the base, or a trimmed one with a norm other than 1.
    """
    if ball.p != base.p or ball.dim != base.dim:
        raise RegionError(f"expected a ball of norm {base.p:g} in {base.dim} dimensions, as the base; got {ball}")
    law = base.law
    if not ball.is_trimmed:
        return Mass(float(law.mass_between(ball.inner, ball.radius)), 0.0)
    if ball.p != 1:
        raise RegionError(f"expected a trimmed ball of norm 1, whose mass is known; got {ball}")
    free = float(law.mass_between(ball.inner, ball.limit)) if ball.inner < ball.limit else 0.0
    start = max(ball.inner, ball.limit)
    end = min(ball.radius, ball.dim * ball.limit, float(law.upper_quantile(NEGLIGIBLE)))
    if end <= start:
        return Mass(free, NEGLIGIBLE)
    exact = float(law.mass_between(start, end))
    cells, last = 1, math.inf
    while True:
        value, total = _integral(law, start, end, ball.limit, cells)
        error = max(abs(value - last), abs(total - exact))
        if error <= ENOUGH or cells == MOST_CELLS:
            return Mass(min(free + value, 1.0), error + NEGLIGIBLE)
        cells, last = 2 * cells, value


def _integral(law: NormLaw, start: float, end: float, limit: float, cells: int) -> tuple[float, float]:
    """∫ q(s/limit) dF(s) and ∫ dF(s) over [start, end] by the rule, cut at multiples of the limit, into cells."""
    breaks = np.unique([0.0, 1.0, start / limit % 1.0, end / limit % 1.0])
    edges = np.unique(np.concatenate([np.linspace(a, b, cells + 1) for a, b in itertools.pairwise(breaks)]))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    middles, halves = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    offsets = (middles[:, None] + halves[:, None] * nodes).ravel()
    points = np.arange(math.ceil(end / limit))[:, None] + offsets
    norms = limit * points
    inside = (norms >= start) & (norms <= end)
    with np.errstate(divide="ignore", over="ignore"):
        density = np.exp(law.profile(norms) + (law.dim - 1) * np.log(norms))
    parts = np.where(inside, density * limit * (halves[:, None] * weights).ravel(), 0.0)
    return float((parts * within_share(points, law.dim)).sum()), float(parts.sum())


def within_share(points: Vector, dim: int) -> Vector:
    """q_dim at ``points[j, k] = j + offset[k]``, offsets from 0 to 1; shape ``[count, offsets]``."""
    found = (points <= 1).astype(np.float64)
    beyond = points[1:]
    power = np.ones_like(beyond)
    for n in range(2, dim + 1):
        found[1:] += np.maximum(n - beyond, 0) / beyond * power * found[:-1]
        power *= 1 - 1 / beyond
    return found
