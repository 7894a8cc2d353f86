"""Level sets of flows: mass ↔ radius, exact, and calibrated on held-out data.

A flow with a constant Jacobian has log p(x) = g(‖z‖_p) − const for z the latent of x (On Uniformly Scaling Flows, arXiv
2510.09452): its density level sets are the images of { z : ‖z‖_p in a union of intervals }. Where the profile g
decreases the union is one ball [0, radius]; otherwise it is found from all critical points of g, which lie between
the modes of its components, by bisection over doubles: there is no guessed largest radius and no tolerance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from ..errors import RegionError
from ..tables.rows import Rows
from .radial import RadialBase, checked_shape
from .radial_sets import (
    MOST_INTERVALS,
    Intervals,
    RadialSet,
    _check_fraction,
    _least_profile,
    interval_mass,
    radial_level_set,
    radial_set_above,
)


class RadialFlow(Protocol):
    """What a level set needs of a flow: its base, both directions and its constant log-determinant."""

    @property
    def base(self) -> RadialBase:
        """The latent density."""

    def latent(self, x: Rows) -> Tensor:
        """Data x → latent z, both of shape (..., d)."""

    def forward(self, z: Tensor) -> Tensor:
        """Latent z → data x, both of shape (..., d)."""

    def log_volume(self) -> float:
        """log|det| of z → x, the same everywhere: log p(x) = base.log_prob(z) − log|det|."""


@dataclass(frozen=True)
class LevelSet:
    """The data points whose latent norm lies in a union of intervals, and what that set means for the density.

    - `flow`: the flow whose density it is.
    - `intervals`: (inner, outer) ends of the latent norm, ascending and disjoint; the last may end at `math.inf`.
    - `mass`: the probability of this very set under the flow.
    - `log_density_threshold`: the smallest log density on an upper set, in nats per unit of data volume; its
      complement, the lower set, keeps the number.
    - `side`: "upper" for the most probable points, a closed set, "lower" for the rest.
    """

    flow: RadialFlow
    intervals: Intervals
    mass: float
    log_density_threshold: float
    side: Literal["upper", "lower"]

    def __repr__(self) -> str:
        ends = " or ".join(f"{inner:.6g} to {outer:.6g}" for inner, outer in self.intervals[:MOST_INTERVALS])
        more = " or …" if len(self.intervals) > MOST_INTERVALS else ""
        return f"LevelSet({self.side}, mass {self.mass:.6g}, latent norm {ends}{more})"

    @property
    def p(self) -> float:
        """The norm: 1, 2 or `math.inf`."""
        return self.flow.base.p

    @property
    def is_ball(self) -> bool:
        """True for one interval from zero to a finite radius."""
        return len(self.intervals) == 1 and self.intervals[0][0] == 0 and self.intervals[0][1] < math.inf

    @property
    def radius(self) -> float:
        """The latent radius of a ball; RegionError for any other set."""
        if not self.is_ball:
            raise RegionError(f"expected a level set that is one ball; got the norm intervals {self.intervals}")
        return self.intervals[0][1]

    @torch.no_grad()
    def contains(self, x: Rows) -> Tensor:
        """Which of the data points x, shape (..., d), are in the set; bool of shape (...).

        Every point is in the set or in its complement, never in both. Raises ModelError for another shape.
        """
        if self.side == "lower":
            return ~self.complement().contains(x)
        norm = self.flow.base.norm(self.flow.latent(x)).double().unsqueeze(-1)
        ends = torch.tensor(self.intervals, dtype=norm.dtype, device=norm.device).reshape(-1, 2)
        return ((norm >= ends[:, 0]) & (norm <= ends[:, 1])).any(-1)

    @torch.no_grad()
    def sample(self, sample_shape: int | Sequence[int] = ()) -> Tensor:
        """Independent data points from the flow's law restricted to the set, shape (*sample_shape, d).

        An interval is drawn by its mass, the norm by the inverse CDF on it, the direction by the base; the numbers
        come from torch's global generator. Rounding in the flow may move a point at the border across it.
        """
        shape, base = checked_shape(sample_shape), self.flow.base
        ends = np.array(self.intervals).reshape(-1, 2)
        below = np.cumsum(base.law.mass_between(ends[:, 0], ends[:, 1]))
        if not len(below) or below[-1] <= 0:
            raise RegionError(f"expected a level set of positive mass; got the norm intervals {self.intervals}")
        uniforms = torch.rand(shape.numel(), dtype=torch.float64).numpy()
        chosen = np.searchsorted(below[:-1], uniforms * below[-1], side="right")
        norms = base.law.sample_between(ends[chosen, 0], ends[chosen, 1])
        directions = base.directions(shape)
        radii = torch.from_numpy(norms).reshape(shape).unsqueeze(-1).to(directions)
        return self.flow.forward(radii * directions)

    def complement(self) -> "LevelSet":
        """All other data points: the opposite side of the same threshold."""
        ends = [0.0, *(end for interval in self.intervals for end in interval), math.inf]
        gaps = tuple((a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b)
        mass = interval_mass(self.flow.base.law, gaps)
        return replace(self, intervals=gaps, mass=mass, side="lower" if self.side == "upper" else "upper")


def upper_level_set(
    flow: RadialFlow, *, mass: float | None = None, radius: float | None = None, log_density: float | None = None
) -> LevelSet:
    """The most probable points of a flow, from exactly one of three:

    - `mass`, in (0, 1): the set { log p ≥ t } of this probability;
    - `radius`: the ball { ‖z‖_p ≤ radius }, which is a density level set where the base's profile decreases;
    - `log_density`, in nats per unit of data volume: the set { log p ≥ log_density }.

    Raises RegionError unless exactly one is given and is in range.
    """
    law, shift = flow.base.law, flow.base.log_sphere_area + flow.log_volume()
    if mass is not None and radius is None and log_density is None:
        radial = radial_level_set(law, mass)
    elif radius is not None and mass is None and log_density is None:
        if not 0 < radius < math.inf:
            raise RegionError(f"expected a positive finite radius; got {radius}")
        radial = RadialSet(((0.0, float(radius)),), _least_profile(law, radius))
    elif log_density is not None and mass is None and radius is None:
        radial = radial_set_above(law, log_density + shift)
    else:
        given = {"mass": mass, "radius": radius, "log_density": log_density}
        raise RegionError(f"expected exactly one of mass, radius and log_density; got {given}")
    reached = interval_mass(law, radial.intervals) if mass is None else mass
    return LevelSet(flow, radial.intervals, reached, radial.threshold - shift, "upper")


def lower_level_set(
    flow: RadialFlow, *, mass: float | None = None, radius: float | None = None, log_density: float | None = None
) -> LevelSet:
    """The least probable points of a flow: the complement of `upper_level_set`.

    `mass` is the mass of this lower set itself, `radius` its inner radius, `log_density` an upper limit of its densities.
    Raises RegionError as `upper_level_set` does.
    """
    if mass is None:
        return upper_level_set(flow, radius=radius, log_density=log_density).complement()
    _check_fraction("mass", mass)
    upper = upper_level_set(flow, mass=1 - mass, radius=radius, log_density=log_density)
    return replace(upper.complement(), mass=mass)


@dataclass(frozen=True)
class Calibration:
    """A level set chosen on held-out rows and what is known about its coverage of new data.

    - `level_set`: the ball whose radius is the split-conformal quantile of the rows' latent norms.
    - `rows`: how many held-out rows were used.
    - `coverage_lower_bound`: with probability `confidence` over the draw of the rows, a new row of the same law lies
      in the set with at least this probability (Clopper–Pearson).
    - `confidence`: 1 − δ.
    """

    level_set: LevelSet
    rows: int
    coverage_lower_bound: float
    confidence: float


@torch.no_grad()
def calibrated_level_set(flow: RadialFlow, x: Rows, mass: float, confidence: float = 0.95) -> Calibration:
    """The ball that covers new data with probability at least `mass` on average, from held-out rows x, shape (n, d).

    The radius is the k-th smallest latent norm, k = ⌈(n + 1)·mass⌉ (split conformal prediction, Vovk et al. 2005).
    Its coverage of exchangeable data is at least Beta(k, n − k + 1) distributed, whose (1 − confidence)-quantile is
    the bound of Clopper and Pearson (1934) for k of n. The rows must not have been used in training.

    Raises RegionError for a mass or confidence outside (0, 1), x of another shape, or too few rows: ⌈mass/(1 − mass)⌉
    are needed.
    """
    _check_fraction("mass", mass)
    _check_fraction("confidence", confidence)
    norms = flow.base.norm(flow.latent(x)).double()
    if norms.ndim != 1:
        raise RegionError(f"expected held-out rows of shape (n, {flow.base.dim}); got {(*norms.shape, flow.base.dim)}")
    rows, exact = len(norms), Fraction(str(float(mass)))
    rank = math.ceil((rows + 1) * exact)
    if rank > rows:
        needed = math.ceil(exact / (1 - exact))
        raise RegionError(f"expected at least {needed} held-out rows for a mass of {mass}; got {rows}")
    radius = norms.sort().values[rank - 1].item()
    bound = float(scipy.special.betaincinv(rank, rows - rank + 1, 1 - confidence))
    return Calibration(upper_level_set(flow, radius=radius), rows, bound, confidence)
