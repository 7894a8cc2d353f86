"""Masses of intervals under laws of one coordinate, and of boxes under exp(−‖z‖_∞/θ), in closed form.

Nothing is computed as a difference of nearly equal numbers, and every sum is one of terms that are not negative, so that
masses are right to a relative error far below 1e-10 however small they are, down to 1e-290.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.special

from ..numerics.arrays import Mask, Vector

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)

Interval = Callable[[Vector, Vector], Vector]
"""From lower and upper ends of one coordinate to the masses between them, elementwise."""


def _halves(lower: Vector, upper: Vector) -> tuple[Vector, Vector, Mask]:
    """The mirror image on the right where an interval is left of zero, and which intervals have zero inside."""
    near, far = np.where(upper <= 0, -upper, lower), np.where(upper <= 0, -lower, upper)
    return near, far, near < 0


def uniform_masses(lower: Vector, upper: Vector, radius: float) -> Vector:
    """Under the uniform law on [−radius, radius]."""
    return np.asarray((np.clip(upper, -radius, radius) - np.clip(lower, -radius, radius)) / (2 * radius))


def lengths(lower: Vector, upper: Vector, unit: float) -> Vector:
    """Lengths of intervals, in a unit."""
    return np.asarray((upper - lower) / unit)


def laplace_masses(lower: Vector, upper: Vector, scale: float) -> Vector:
    """Under the Laplace law of this scale around zero."""
    near, far, around = _halves(lower, upper)
    start = np.maximum(near, 0.0)
    with np.errstate(under="ignore"):
        one_sided = np.where(np.isinf(start), 0.0, np.exp(-start / scale) * _grown(far - start, scale))
        return np.asarray(0.5 * (one_sided + np.where(around, _grown(-near, scale), 0.0)))


def _grown(width: Vector, scale: float) -> Vector:
    """1 − exp(−width/θ), zero where the width is NaN (a difference of infinite ends)."""
    return np.asarray(-np.expm1(-np.nan_to_num(np.maximum(width, 0.0), nan=0.0, posinf=np.inf) / scale))


def normal_masses(lower: Vector, upper: Vector, deviation: float) -> Vector:
    """Under the normal law of this deviation around zero."""
    near, far, around = _halves(lower, upper)
    left = np.where(around, scipy.special.erf(np.maximum(-near, 0.0) / (deviation * math.sqrt(2))) / 2, 0.0)
    start = np.maximum(near, 0.0)
    return np.asarray(left + _normal_tail_between(start, far, deviation))


def _normal_tail_between(start: Vector, end: Vector, deviation: float) -> Vector:
    """P(start ≤ X ≤ end), 0 ≤ start: a difference of tails where these differ much, else Gauss–Legendre quadrature.

    Twelve nodes integrate exp(−t²/2) over an interval of width w with w·(1 + start) ≤ 1 to a relative error below 1e-14.
    """
    with np.errstate(under="ignore", invalid="ignore"):
        width = np.nan_to_num((end - start) / deviation, nan=0.0, posinf=np.inf)
        first = start / deviation
        wide = np.asarray(scipy.special.ndtr(-first) - scipy.special.ndtr(-end / deviation))
        is_narrow = width * (1 + first) <= 1
        step, at = np.where(is_narrow, width, 0.0), np.where(is_narrow, first, 0.0)
        t = step[..., None] * (1 + _NODES) / 2
        density = np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)
        narrow = density * step / 2 * (np.exp(-t * (at[..., None] + t / 2)) @ _WEIGHTS)
    return np.where(is_narrow, narrow, wide)


def cubic_exponential_masses(lower: Vector, upper: Vector, scale: float) -> Vector:
    """Mass of boxes under exp(−‖z‖_∞/θ) / (d! (2θ)^d).

    Between two of the sorted |ends|, a and b, the volume of {z in the box : ‖z‖_∞ ≤ a + θt} is θ^d Π (c_i + g_i t), with
    c_i ≥ 0 and a growth g_i of 0, 1 or 2: a polynomial Σ v_k t^k without negative terms. Its derivative times exp(−t) has
    the integral Σ_{k ≥ 1} v_k k! P(k, (b − a)/θ), with the regularised incomplete gamma function P.
    """
    dim = lower.shape[1]
    ends = np.sort(np.concatenate([np.abs(lower), np.abs(upper)], axis=1), axis=1)
    starts = np.concatenate([np.zeros((len(ends), 1)), ends], axis=1)[:, :-1]
    ended = np.isinf(starts)
    width = np.where(ended, 0.0, ends - np.where(ended, 0.0, starts)) / scale
    starts = np.where(ended, 0.0, starts)
    reach = starts[:, :, None]
    inside = np.maximum(np.minimum(reach, upper[:, None]) - np.maximum(-reach, lower[:, None]), 0.0) / scale
    meets = (reach >= lower[:, None]) & (reach >= -upper[:, None])
    growth = np.where(meets, 1.0 * (reach < upper[:, None]) + (reach < -lower[:, None]), 0.0)
    # v_k k!/(d! 2^d), a factor of d! and of 2^d at a time
    terms = np.zeros((*starts.shape, dim + 1))
    terms[..., 0] = 1.0
    orders = np.arange(dim + 1)
    for i in range(dim):
        shifted = np.concatenate([np.zeros((*starts.shape, 1)), terms[..., :-1]], axis=-1)
        terms = (terms * inside[..., i, None] + shifted * growth[..., i, None] * orders) / (2 * (i + 1))
    with np.errstate(under="ignore"):
        shares = scipy.special.gammainc(orders[1:], width[..., None])
        return np.asarray((np.exp(-starts / scale) * (terms[..., 1:] * shares).sum(axis=-1)).sum(axis=1))
