"""The simple laws of a norm, and the table of them: gamma, chi, Weibull, log-normal and that of a uniform ball."""

import abc
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor, nn
from typing_extensions import override

from ..files.documents import FLAG, Form
from ..numerics.arrays import Vector
from .coordinate_measures import (
    Interval,
    cubic_exponential_masses,
    laplace_masses,
    lengths,
    normal_masses,
    uniform_masses,
)
from .norm_laws import JSON, SimpleLaw, non_negative, profile_outside

_LEAST_TAIL = 1e-290
"""Tail masses from here on have all their digits as floats."""

_MOST_TERMS = 100_000
"""Of a continued fraction: more than a million degrees of freedom need."""


class _StretchedGammaLaw(SimpleLaw):
    """R = θ·G^(1/c) with G ~ Gamma(k): the generalised gamma law (Stacy 1962), parent of Gamma, Weibull and chi.

    f(r) = c/(θ·Γ(k))·(r/θ)^(ck − 1)·exp(−(r/θ)^c), hence with x = r/θ

        g(r) = log c − log Γ(k) − d·log θ + (ck − d)·log x − x^c.

    r·g′(r) = ck − d − c·x^c decreases in r: g decreases everywhere if and only if ck ≤ d, and otherwise has its one
    maximum at x^c = k − d/c.
    """

    learned: ClassVar[tuple[str, ...]] = ("scale",)
    log_scale: nn.Parameter

    @abc.abstractmethod
    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The shape k and the power c as scalars of the dtype and device of `like`."""

    @override
    def log_profile(self, r: Tensor) -> Tensor:
        shape, power = self._exponents(r)
        log_scale = self.log_scale.to(r)
        excess = shape * power - self.dim
        constant = power.log() - torch.lgamma(shape) - self.dim * log_scale
        centre = constant + torch.xlogy(excess.detach(), 0.0)
        with torch.no_grad():  # x^c must neither vanish nor overflow, or its derivatives become 0·∞
            scale = log_scale.exp()
            ratio = r / scale
            ordinary = (ratio > 0) & (power * ratio.log() < 0.9 * math.log(torch.finfo(r.dtype).max))
        x = torch.where(ordinary, r, scale) * torch.exp(-log_scale)
        value = constant + excess * x.log() - x.pow(power)
        return torch.where(ordinary, value, torch.where((r >= 0) & (ratio == 0), centre, profile_outside(r)))

    @override
    def sample(self, shape: torch.Size) -> Tensor:
        with torch.no_grad():
            k, power = self._exponents(self.log_scale)
            return torch.distributions.Gamma(k, torch.ones_like(k)).sample(shape) ** (1 / power) * self.log_scale.exp()

    def _numbers(self) -> tuple[float, float, float]:
        """(k, c, θ) in float64."""
        with torch.no_grad():
            log_scale = self.log_scale.double()
            shape, power = self._exponents(log_scale)
            return shape.item(), power.item(), log_scale.exp().item()

    @property
    def scale(self) -> float:
        """θ in float64."""
        return self._numbers()[2]

    def _shape_and_point(self, r: npt.ArrayLike) -> tuple[float, Vector]:
        """The shape k and the value (r/θ)^c of G at which R is r."""
        shape, power, scale = self._numbers()
        with np.errstate(over="ignore", under="ignore"):
            return shape, np.asarray((non_negative(r) / scale) ** power)

    @override
    def cdf(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(scipy.special.gammainc(*self._shape_and_point(r)))

    @override
    def sf(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(scipy.special.gammaincc(*self._shape_and_point(r)))

    @override
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        return log_upper_gamma(*self._shape_and_point(r))

    @override
    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        self.log_scale.add_(math.log(factor))

    def _inverse(self, lower: Vector, upper: Vector) -> Vector:
        shape, power, scale = self._numbers()
        from_below, from_above = scipy.special.gammaincinv(shape, lower), scipy.special.gammainccinv(shape, upper)
        return np.asarray(scale * np.where(lower <= upper, from_below, from_above) ** (1 / power))

    @override
    def profile_modes(self) -> Vector:
        shape, power, scale = self._numbers()
        return np.array([scale * max(0.0, shape - self.dim / power) ** (1 / power)])


class GammaLaw(_StretchedGammaLaw):
    """R ~ Gamma(shape, scale). With `shape` None it is dim for good: density ∝ exp(−‖z‖_p/θ), for p = 1 Laplace.

    A `shape` given is where a learnable shape starts. Raises ModelError unless scale and shape are positive numbers.
    """

    kind = "gamma"
    learned = ("scale", "shape")
    log_shape: nn.Parameter | None

    def __init__(self, dim: int, scale: float = 1.0, shape: float | None = None) -> None:
        super().__init__(dim, scale=scale, shape=shape)

    @override
    @classmethod
    def fields(cls) -> Mapping[str, Form]:
        return {"free_shape": FLAG}

    @override
    @classmethod
    def from_fields(cls, dim: int, fields: Mapping[str, Any]) -> Self:
        return cls(dim, shape=float(dim) if fields["free_shape"] else None)

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": self.kind, "free_shape": self.log_shape is not None}

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones((), dtype=like.dtype, device=like.device)
        return (self.dim * one if self.log_shape is None else self.log_shape.to(like).exp()), one

    @property
    @override
    def log_exponential_scale(self) -> Tensor | None:
        return self.log_scale if self.log_shape is None else None

    @override
    def coordinate_measure(self, p: float) -> Interval | None:
        """Laplace for density ∝ exp(−‖z‖₁/θ)."""
        is_laplace = p == 1 and self.log_shape is None
        return partial(laplace_masses, scale=self.scale) if is_laplace else None

    @override
    def box_masses(self, p: float, lower: Vector, upper: Vector) -> Vector | None:
        if p == math.inf and self.log_shape is None:
            return cubic_exponential_masses(lower, upper, self.scale)
        return super().box_masses(p, lower, upper)

    @override
    def product_measure(self, p: float, lower: Vector, upper: Vector) -> tuple[Vector, Interval] | None:
        """For density ∝ exp(−‖z‖_∞/θ): the least density in the box times the volume."""
        if p != math.inf or self.log_shape is not None:
            return super().product_measure(p, lower, upper)
        far = np.maximum(np.abs(lower), np.abs(upper)).max(axis=1) / self.scale
        return np.exp(-far - math.lgamma(self.dim + 1)), partial(lengths, unit=2 * self.scale)


class ChiLaw(_StretchedGammaLaw):
    """R²/scale² ~ χ² with dim degrees of freedom: for p = 2 the norm of normal coordinates of deviation `scale`."""

    kind = "chi"

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__(dim, scale=scale * math.sqrt(2))

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        two = torch.full((), 2.0, dtype=like.dtype, device=like.device)
        return self.dim / two, two

    @override
    def coordinate_measure(self, p: float) -> Interval | None:
        """Normal under the norm 2."""
        return partial(normal_masses, deviation=self.scale / math.sqrt(2)) if p == 2 else None


class WeibullLaw(_StretchedGammaLaw):
    """P(R > r) = exp(−(r/scale)^shape), both learnable; ModelError unless both are positive numbers."""

    kind = "weibull"
    learned = ("scale", "shape")
    log_shape: nn.Parameter

    def __init__(self, dim: int, scale: float = 1.0, shape: float = 1.0) -> None:
        super().__init__(dim, scale=scale, shape=shape)

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones((), dtype=like.dtype, device=like.device), self.log_shape.to(like).exp()


class LogNormalLaw(SimpleLaw):
    """log R ~ N(log `median`, `sigma`²), both learnable; ModelError unless both are positive numbers.

    g(r) = −(log r − μ)²/(2σ²) − log σ − ½·log 2π − d·log r has its maximum at exp(μ − d·σ²): it always rises first.
    """

    kind = "lognormal"
    learned = ("median", "sigma")
    log_median: nn.Parameter
    log_sigma: nn.Parameter

    def __init__(self, dim: int, median: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(dim, median=median, sigma=sigma)

    @override
    def log_profile(self, r: Tensor) -> Tensor:
        log_sigma, ordinary = self.log_sigma.to(r), (r > 0) & (r < math.inf)
        log_r = torch.where(ordinary, r, 1.0).log()
        deviation = (log_r - self.log_median.to(r)) * torch.exp(-log_sigma)
        value = -0.5 * deviation.square() - log_sigma - 0.5 * math.log(2 * math.pi) - self.dim * log_r
        return torch.where(ordinary, value, profile_outside(r))

    @override
    def sample(self, shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return torch.exp(self.log_median + self.log_sigma.exp() * torch.randn(shape).to(self.log_sigma))

    def _numbers(self) -> tuple[float, float]:
        """(μ, σ) in float64."""
        return self.log_median.item(), math.exp(self.log_sigma.item())

    def _deviation(self, r: npt.ArrayLike) -> Vector:
        mean, sigma = self._numbers()
        with np.errstate(divide="ignore"):
            return (np.log(non_negative(r)) - mean) / sigma

    @override
    def cdf(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(scipy.special.ndtr(self._deviation(r)))

    @override
    def sf(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(scipy.special.ndtr(-self._deviation(r)))

    @override
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(scipy.special.log_ndtr(-self._deviation(r)))

    @override
    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        self.log_median.add_(math.log(factor))

    def _inverse(self, lower: Vector, upper: Vector) -> Vector:
        mean, sigma = self._numbers()
        ndtri = scipy.special.ndtri
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(mean + sigma * np.where(lower <= upper, ndtri(lower), -ndtri(upper))))

    @override
    def profile_modes(self) -> Vector:
        mean, sigma = self._numbers()
        return np.array([math.exp(mean - self.dim * sigma**2)])


class BallLaw(SimpleLaw):
    """The norm of a uniform point of the ball of the given radius, a fixed buffer: R/radius ~ Beta(dim, 1).

    g is constant on [0, radius]. Raises ModelError unless radius is a positive number.
    """

    kind = "ball"
    fixed = ("radius",)
    has_jump = True
    radius: Tensor

    def __init__(self, dim: int, radius: float = 1.0) -> None:
        super().__init__(dim, radius=radius)

    @override
    def coordinate_measure(self, p: float) -> Interval | None:
        """Uniform on [−radius, radius] under the norm ∞."""
        return partial(uniform_masses, radius=self.radius.item()) if p == math.inf else None

    @override
    def log_profile(self, r: Tensor) -> Tensor:
        radius = self.radius.to(r)
        constant = math.log(self.dim) - self.dim * radius.log()
        return torch.where((r >= 0) & (r <= radius), constant, profile_outside(r))

    @override
    def sample(self, shape: torch.Size) -> Tensor:
        return self.radius * torch.rand(shape).to(self.radius) ** (1 / self.dim)

    def _log_ratio(self, r: npt.ArrayLike) -> Vector:
        with np.errstate(divide="ignore"):
            return np.minimum(np.log(non_negative(r) / self.radius.item()), 0.0)

    @override
    def cdf(self, r: npt.ArrayLike) -> Vector:
        return np.exp(self.dim * self._log_ratio(r))

    @override
    def sf(self, r: npt.ArrayLike) -> Vector:
        return -np.expm1(self.dim * self._log_ratio(r))

    @override
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        return np.asarray(np.log(self.sf(r)))

    @override
    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        self.radius.mul_(factor)

    def _inverse(self, lower: Vector, upper: Vector) -> Vector:
        with np.errstate(divide="ignore"):
            log_mass = np.where(lower <= upper, np.log(lower), np.log1p(-upper))
        return self.radius.item() * np.exp(log_mass / self.dim)

    @override
    def profile_modes(self) -> Vector:
        return np.zeros(1)


def log_upper_gamma(shape: float, x: npt.ArrayLike) -> Vector:
    """log Q(shape, x) of the regularised upper incomplete gamma function, also where Q is no float.

    There by Legendre's continued fraction, evaluated by the modified Lentz method (DLMF 8.9.2, 3.10(iii)): it converges
    for x > shape, and far in the tail within a few terms.
    """
    points = np.asarray(x, dtype=np.float64)
    tail = scipy.special.gammaincc(shape, points)
    with np.errstate(divide="ignore"):
        values = np.asarray(np.log(tail))
    far = (tail < _LEAST_TAIL) & (points < math.inf)
    y = points[far]
    step = y + 1 - shape
    numerator, denominator, fraction = step.copy(), np.zeros_like(y), step.copy()
    for n in range(1, _MOST_TERMS):
        term, step = n * (shape - n), step + 2
        denominator = 1 / (step + term * denominator)
        numerator = step + term / numerator
        change = numerator * denominator
        fraction *= change
        if (np.abs(change - 1) < 1e-16).all():
            break
    values[far] = shape * np.log(y) - y - scipy.special.gammaln(shape) - np.log(fraction)
    return values


LAWS: dict[str, type[SimpleLaw]] = {law.kind: law for law in (GammaLaw, ChiLaw, WeibullLaw, LogNormalLaw, BallLaw)}
"""Every simple law by its kind in files. One that is added here can be saved, loaded and mixed."""
