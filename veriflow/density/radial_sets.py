"""Level sets of a radial density as intervals of the norm, by root finding on the law of the norm."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.optimize
import scipy.special
import torch

from ..errors import RegionError
from ..numerics.arrays import Vector
from ..numerics.bisection import bisect_doubles
from .norm_laws import NormLaw

Intervals: TypeAlias = tuple[tuple[float, float], ...]

MOST_INTERVALS = 4
"""Most intervals that a level set shows of itself."""

_LEAST = float(np.finfo(np.float64).tiny)  # the profile at zero may be infinite, at the least normal double it is not

_GREATEST = float(np.finfo(np.float64).max)


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

    def excess(ends: tuple[Vector, Vector]) -> float:
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

    def between(share: float) -> tuple[Vector, Vector]:
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
    left: Vector
    peak: Vector
    right: Vector

    @classmethod
    def of(cls, law: NormLaw) -> "_Shells":
        # Peaks and valleys alternate; where g falls from zero on, the first peak is the least double itself.
        critical = _critical_points(law)
        if len(critical) % 2 == 0:
            critical = np.concatenate([[_LEAST], critical])
        valleys = np.concatenate([[_LEAST], critical[1::2], [_GREATEST]])
        return cls(law, valleys[:-1], critical[0::2], valleys[1:])

    def above(self, threshold: float) -> tuple[Vector, Vector]:
        """Inner and outer ends, shape (n,) each, of the parts where g ≥ threshold; an empty part is (peak, peak).

        An inner end at the least normal double is zero.
        """
        low, high = np.concatenate([self.left, self.peak]), np.concatenate([self.peak, self.right])
        falling = np.repeat([False, True], len(self.peak))
        ends = bisect_doubles(lambda r: (self.law.profile(r) >= threshold) == falling, low, high)
        inner, outer = np.split(ends, 2)
        return np.where(inner <= _LEAST, 0.0, inner), outer


def _critical_points(law: NormLaw) -> Vector:
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


def _slope(law: NormLaw, r: Vector) -> Vector:
    """g′(r) in float64, shape (n,), by automatic differentiation."""
    with torch.enable_grad():
        point = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(law.log_profile(point).sum(), point)
    return np.asarray(slope.numpy())


def _merged(inner: Vector, outer: Vector) -> Intervals:
    """Non-empty parts as intervals, those that touch joined."""
    intervals: list[tuple[float, float]] = []
    for start, end in zip(inner.tolist(), outer.tolist(), strict=True):
        if intervals and intervals[-1][1] >= start:
            intervals[-1] = (intervals[-1][0], end)
        elif end > max(start, _LEAST):
            intervals.append((start, end))
    return tuple(intervals)


def _least_profile(law: NormLaw, radius: float) -> float:
    """The smallest g on [0, radius], at the radius itself or at a minimum inside."""
    valleys = _Shells.of(law).left
    inside = np.where(valleys <= _LEAST, 0.0, valleys)
    return float(law.profile(np.append(inside[inside <= radius], radius)).min())


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise RegionError(f"expected a {name} between 0 and 1, both excluded; got {value}")
