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

import numpy as np

from ..errors import RegionError
from ..numerics.arrays import Vector
from .coordinate_measures import Interval
from .norm_laws import SimpleLaw
from .radial import RadialBase

RELATIVE_ERROR = 1e-10
"""Bound on the relative error of `box_masses` for masses from 1e-290 on; in tests it stays below 1e-12."""


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
    """Product measures, one for each component, whose sum is at most the base's law in each box ``[batch, dim]``.

    Each comes as a factor ``[batch]`` and the measure of one coordinate. The sum is the law itself, but for components of
    density ∝ exp(−‖z‖_∞/θ), where it is the least density in the box times the volume.
    """
    found = [(weight, law.product_measure(base.p, lower, upper)) for weight, law in _components(base)]
    return [(weight * measure[0], measure[1]) for weight, measure in found if measure is not None]


def _components(base: RadialBase) -> list[tuple[float, SimpleLaw]]:
    return list(zip(base.law.weights().tolist(), base.law.simple_laws(), strict=True))


def check_box_masses(base: RadialBase) -> None:
    """Refuse a base whose boxes have no masses in closed form.

    Raises:
        RegionError: such a base.
    """
    box_masses(base, np.zeros((1, base.dim)), np.zeros((1, base.dim)))


def _component(p: float, law: SimpleLaw, lower: Vector, upper: Vector) -> Vector:
    masses = law.box_masses(p, lower, upper)
    if masses is None:
        raise RegionError(
            "expected a base whose boxes have masses in closed form: exponential or gamma-mixture with p = 1 or inf, "
            f"normal, uniform-ball with p = inf; got p = {p:g} and the law {law.kind!r}"
        )
    return masses
