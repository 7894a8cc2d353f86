"""Level sets of flows: mass ↔ radius, exact, and calibrated on held-out data.

A flow with a constant Jacobian has log p(x) = g(‖z‖_p) − const for z the latent of x (On Uniformly Scaling Flows, arXiv
2510.09452): its density level sets are the images of { z : ‖z‖_p in a union of intervals }. Where the profile g
decreases the union is one ball [0, radius]; otherwise it is found from all critical points of g, which lie between
the modes of its components, by bisection over doubles: there is no guessed largest radius and no tolerance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from .bases import RadialBase, checked_shape
from .bisection import bisect_doubles
from .errors import RegionError
from .norm_laws import FloatArray, NormLaw
from .rows import Rows

Intervals: TypeAlias = tuple[tuple[float, float], ...]

MOST_INTERVALS = 4
"""Most intervals that a level set shows of itself."""

_LEAST = float(np.finfo(np.float64).tiny)  # the profile at zero may be infinite, at the least normal double it is not
_GREATEST = float(np.finfo(np.float64).max)


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


class RadialSet(NamedTuple):
    """The set { r : g(r) ≥ threshold } of norms: closed intervals (inner, outer) in ascending order."""

    intervals: Intervals
    threshold: float


def interval_mass(law: NormLaw, intervals: Intervals) -> float:
    """P(R in the union of disjoint intervals), each a difference of the smaller tails."""
    ends = np.array(intervals, dtype=np.float64).reshape(-1, 2)
    return float(law.mass_between(ends[:, 0], ends[:, 1]).sum())


def radial_level_set(law: NormLaw, mass: float) -> RadialSet:
    """The norms of largest profile whose probability is `mass`, exact to rounding.

    Ties are resolved by growing from the centre of each shell: for the uniform ball, whose profile is constant, the
    set is the concentric ball of that mass. Raises RegionError unless 0 < mass < 1, and for a mass so near 0 or 1 that
    no double is the radius.
    """
    _check_fraction("mass", mass)
    if law.is_decreasing:
        radius = float(law.quantile(mass))
        if radius == 0:
            raise RegionError(f"expected a mass that a positive double has as radius; got {mass}")
        return RadialSet(((0.0, radius),), float(law.profile(radius)))
    shells = _Shells.of(law)

    def excess(ends: tuple[FloatArray, FloatArray]) -> float:
        return float(law.mass_between(*ends).sum()) - mass

    high = float(law.profile(shells.peak).max())
    depth = 1.0
    while excess(shells.above(high - depth)) <= 0 and depth < math.inf:
        depth *= 16
    if excess(shells.above(high)) >= 0 or depth == math.inf:
        raise RegionError(f"expected a mass that a positive double has as radius; got {mass}")
    threshold = _root(lambda t: excess(shells.above(t)), high - depth, high)

    # The threshold is a double, so the mass just misses; between its neighbours the ends move in a straight line.
    step = float(np.spacing(abs(threshold)))
    while excess(small := shells.above(threshold + step)) > 0 or excess(large := shells.above(threshold - step)) < 0:
        step *= 2

    def between(share: float) -> tuple[FloatArray, FloatArray]:
        inner, outer = ((1 - share) * a + share * b for a, b in zip(small, large, strict=True))
        return inner, outer

    return RadialSet(_merged(*between(_root(lambda s: excess(between(s)), 0.0, 1.0))), threshold)


def radial_set_above(law: NormLaw, threshold: float) -> RadialSet:
    """The norms whose profile is at least `threshold`. Raises RegionError where there is none, or for NaN or ±∞."""
    intervals = _merged(*_Shells.of(law).above(threshold)) if math.isfinite(threshold) else ()
    if not intervals:
        raise RegionError(f"expected a log density below the largest of the flow; got a profile of {threshold}")
    return RadialSet(intervals, threshold)


@dataclass(frozen=True)
class _Shells:
    """The maxima of a profile, each with the minima around it, arrays of shape (n,): g rises from `left` to `peak`,
    falls to `right`, and `right` of one is `left` of the next.
    """

    law: NormLaw
    left: FloatArray
    peak: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, law: NormLaw) -> "_Shells":
        # Peaks and valleys alternate; where g falls from zero on, the first peak is the least double itself.
        critical = _critical_points(law)
        if len(critical) % 2 == 0:
            critical = np.concatenate([[_LEAST], critical])
        valleys = np.concatenate([[_LEAST], critical[1::2], [_GREATEST]])
        return cls(law, valleys[:-1], critical[0::2], valleys[1:])

    def above(self, threshold: float) -> tuple[FloatArray, FloatArray]:
        """Inner and outer ends, shape (n,) each, of the parts where g ≥ threshold; an empty part is (peak, peak).

        An inner end at the least normal double is zero.
        """
        low, high = np.concatenate([self.left, self.peak]), np.concatenate([self.peak, self.right])
        falling = np.repeat([False, True], len(self.peak))
        ends = bisect_doubles(lambda r: (self.law.profile(r) >= threshold) == falling, low, high)
        inner, outer = np.split(ends, 2)
        return np.where(inner <= _LEAST, 0.0, inner), outer


def _critical_points(law: NormLaw) -> FloatArray:
    """All zeros of g′ on the positive doubles, ascending: maximum, minimum, maximum, … or first a minimum.

    In log r every component's profile is concave, so g rises below the least of their modes and falls above the
    greatest. In between, sign changes of g′ are sought on a grid of every component's quantiles, from 1e-300 to the
    centre in both tails, and of equal steps in log r, and refined to neighbouring doubles.
    """
    modes = law.profile_modes()
    first, last = max(float(modes.min()), _LEAST), float(modes.max())
    if last <= first:
        return np.array([last]) if last > _LEAST else np.empty(0)
    masses = np.concatenate([np.geomspace(1e-300, 1e-3, 300), np.linspace(2e-3, 0.5, 300)])
    quantiles = [f(masses) for simple in law.simple_laws() for f in (simple.quantile, simple.upper_quantile)]
    grid = np.concatenate([*quantiles, np.geomspace(max(first, last * 1e-12), last, 2000), modes, [first]])
    grid = np.unique(grid[(grid >= first) & (grid <= last)])
    rising = _slope(law, grid) > 0
    rising[0] |= modes.min() > 0
    rising[-1] = False
    change = np.flatnonzero(rising[:-1] != rising[1:])
    return bisect_doubles(lambda r: (_slope(law, r) > 0) == rising[change], grid[change], grid[change + 1])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(scipy.optimize.brentq(function, low, high, xtol=1e-300, maxiter=1000))


def _slope(law: NormLaw, r: FloatArray) -> FloatArray:
    """g′(r) in float64, shape (n,), by automatic differentiation."""
    with torch.enable_grad():
        point = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(law.log_profile(point).sum(), point)
    return np.asarray(slope.numpy())


def _merged(inner: FloatArray, outer: FloatArray) -> Intervals:
    """Non-empty parts as intervals, those that touch joined."""
    intervals: list[tuple[float, float]] = []
    for start, end in zip(inner.tolist(), outer.tolist(), strict=True):
        if intervals and intervals[-1][1] >= start:
            intervals[-1] = (intervals[-1][0], end)
        elif end > max(start, _LEAST):
            intervals.append((start, end))
    return tuple(intervals)


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

    `mass` is the mass of this lower set itself, `radius` and `log_density` bound it from inside and from above.
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


def _least_profile(law: NormLaw, radius: float) -> float:
    """The smallest g on [0, radius], at the radius itself or at a minimum inside."""
    valleys = _Shells.of(law).left
    inside = np.where(valleys <= _LEAST, 0.0, valleys)
    return float(law.profile(np.append(inside[inside <= radius], radius)).min())


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise RegionError(f"expected a {name} between 0 and 1, both excluded; got {value}")
