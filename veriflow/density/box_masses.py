"""How much probability a radial base gives to boxes of latents: closed forms, for the bases that have one.

| p | law of the norm | the box's mass |
|---|---|---|
| 1 | Gamma(d, θ) | Π of differences of Laplace distribution functions, for density ∝ exp(−‖z‖₁/θ) |
| 2 | chi | Π of differences of normal distribution functions |
| ∞ | uniform ball | Π of shares of [−R, R] |
| ∞ | Gamma(d, θ) | a sum of incomplete gamma functions over the ends, for density ∝ exp(−‖z‖_∞/θ) |

and mixtures of these. Nothing is computed as a difference of nearly equal numbers, and every sum is one of terms that are
not negative, so that masses are right to `RELATIVE_ERROR` however small they are, down to 1e-290.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.special

from ..errors import RegionError
from ..numerics.arrays import Mask, Vector
from .mixtures import MixtureLaw
from .norm_laws import BallLaw, ChiLaw, GammaLaw, SimpleLaw
from .radial import RadialBase

RELATIVE_ERROR = 1e-10
"""Bound on the relative error of `box_masses` for masses from 1e-290 on; in tests it stays below 1e-12."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


Interval = Callable[[Vector, Vector], Vector]
"""From lower and upper ends of one coordinate to the masses between them, elementwise."""


def box_masses(base: RadialBase, lower: Vector, upper: Vector) -> Vector:
    """P(lower ≤ z ≤ upper) under the base for boxes ``[batch, dim]``, shape ``[batch]``; ends may be infinite.

    Raises:
        RegionError: a base without a closed form, ends of another shape, NaN or crossed.
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if lower.shape != upper.shape or lower.ndim != 2 or lower.shape[1] != base.dim or not (lower <= upper).all():
        raise RegionError(
            f"expected box ends of shape (batch, {base.dim}), lower <= upper; got {lower.shape} and {upper.shape}"
        )
    parts = [weight * _component(base.p, law, lower, upper) for weight, law in _components(base)]
    return np.asarray(np.minimum(sum(parts), 1.0))


def product_measures(base: RadialBase, lower: Vector, upper: Vector) -> list[tuple[Vector, Interval]]:
    """Measures with independent coordinates whose sum in each box ``[batch, dim]`` is the base's law, or below it.

    Each comes as a factor ``[batch]`` and the measure of every coordinate. Below the law are those for density
    ∝ exp(−‖z‖_∞/θ) alone: its least value in the box.
    """
    found: list[tuple[Vector, Interval]] = []
    for weight, law in _components(base):
        interval = _coordinate(base.p, law)
        if interval is not None:
            found.append((np.full(len(lower), weight), interval))
        elif isinstance(law, GammaLaw):
            far = np.maximum(np.abs(lower), np.abs(upper)).max(axis=1) / law.scale
            factor = weight * np.exp(-far - math.lgamma(base.dim + 1))
            found.append((factor, partial(_length, unit=2 * law.scale)))
    return found


def _components(base: RadialBase) -> list[tuple[float, SimpleLaw]]:
    law = base.law
    weights = law.weights().tolist() if isinstance(law, MixtureLaw) else [1.0]
    return list(zip(weights, law.simple_laws(), strict=True))


def check_box_masses(base: RadialBase) -> None:
    """Refuse a base whose boxes have no masses in closed form.

    Raises:
        RegionError: such a base.
    """
    box_masses(base, np.zeros((1, base.dim)), np.zeros((1, base.dim)))


def _component(p: float, law: SimpleLaw, lower: Vector, upper: Vector) -> Vector:
    interval = _coordinate(p, law)
    if interval is not None:
        return np.asarray(interval(lower, upper).prod(axis=1))
    if isinstance(law, GammaLaw) and law.log_shape is None and p == math.inf:
        return _cubes(lower, upper, law.scale)
    raise RegionError(
        "expected a base whose boxes have masses in closed form: exponential or gamma-mixture with p = 1 or inf, normal, "
        f"uniform-ball with p = inf; got p = {p:g} and the law {law.config()['law']!r}"
    )


def _coordinate(p: float, law: SimpleLaw) -> Interval | None:
    """The law of each coordinate where these are independent."""
    if isinstance(law, GammaLaw) and law.log_shape is None and p == 1:
        return partial(_laplace, scale=law.scale)
    if isinstance(law, ChiLaw) and p == 2:
        return partial(_normal, deviation=law.scale / math.sqrt(2))
    if isinstance(law, BallLaw) and p == math.inf:
        return partial(_uniform, radius=law.radius.item())
    return None


def _halves(lower: Vector, upper: Vector) -> tuple[Vector, Vector, Mask]:
    """The mirror image on the right where an interval is left of zero, and which intervals have zero inside."""
    near, far = np.where(upper <= 0, -upper, lower), np.where(upper <= 0, -lower, upper)
    return near, far, near < 0


def _uniform(lower: Vector, upper: Vector, radius: float) -> Vector:
    return np.asarray((np.clip(upper, -radius, radius) - np.clip(lower, -radius, radius)) / (2 * radius))


def _length(lower: Vector, upper: Vector, unit: float) -> Vector:
    return np.asarray((upper - lower) / unit)


def _laplace(lower: Vector, upper: Vector, scale: float) -> Vector:
    near, far, around = _halves(lower, upper)
    start = np.maximum(near, 0.0)
    with np.errstate(under="ignore"):
        one_sided = np.where(np.isinf(start), 0.0, np.exp(-start / scale) * _grown(far - start, scale))
        return np.asarray(0.5 * (one_sided + np.where(around, _grown(-near, scale), 0.0)))


def _grown(width: Vector, scale: float) -> Vector:
    """1 − exp(−width/θ), zero where the width is NaN (a difference of infinite ends)."""
    return np.asarray(-np.expm1(-np.nan_to_num(np.maximum(width, 0.0), nan=0.0, posinf=np.inf) / scale))


def _normal(lower: Vector, upper: Vector, deviation: float) -> Vector:
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


def _cubes(lower: Vector, upper: Vector, scale: float) -> Vector:
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
