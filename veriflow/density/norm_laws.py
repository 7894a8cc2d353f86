"""Laws of the norm R = ‖z‖_p of a latent with `dim` dimensions.

A radial density is p(z) = exp(g(‖z‖_p)) / (d·V_p(d)), with g(r) = log f(r) − (d − 1)·log r for the density f of R
and V_p(d) the volume of the unit ball. g is the *profile*: where it decreases, level sets are balls. Every law has
two faces: `log_profile` for training (torch, differentiable) and `cdf`, `sf`, `quantile`, `profile` for proofs
(float64 numpy, accurate in both tails).

In t = log r the profile of each simple law is concave, so it has one maximum, `profile_modes`; the critical points
of a mixture's profile all lie between the smallest and the largest mode of its components.
"""

import abc
import itertools
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor, nn
from typing_extensions import override

from ..errors import ModelError, RegionError
from ..numerics.arrays import Vector

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_LEAST_TAIL = 1e-290
"""Tail masses from here on have all their digits as floats."""

_MOST_TERMS = 100_000
"""Of a continued fraction: more than a million degrees of freedom need."""


class NormLaw(nn.Module, abc.ABC):
    """The law of a norm R ≥ 0 in `dim` dimensions; its parameters are unconstrained (logarithms, logits).

    Raises ModelError when `dim` is not a positive whole number.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = checked_dim(dim)

    @abc.abstractmethod
    def log_profile(self, r: Tensor) -> Tensor:
        """g(r) = log f(r) − (dim − 1)·log r, same shape and dtype as r; −inf outside the support.

        The powers of r are cancelled on paper, so g(0) is the limit, finite or not. Gradients with respect to r and
        the parameters are never NaN on the support: a term that is singular at r = 0 contributes 0 there.
        """

    @abc.abstractmethod
    def sample(self, shape: torch.Size) -> Tensor:
        """Independent norms of the given shape, in the parameters' dtype and device, without gradient."""

    @abc.abstractmethod
    def cdf(self, r: npt.ArrayLike) -> Vector:
        """P(R ≤ r), to full relative precision in the lower tail."""

    @abc.abstractmethod
    def sf(self, r: npt.ArrayLike) -> Vector:
        """P(R > r), to full relative precision in the upper tail."""

    @abc.abstractmethod
    def rescale(self, factor: float) -> None:
        """Become the law of factor · R, in place."""

    def log_sf(self, r: npt.ArrayLike) -> Vector:
        """log P(R > r), to full relative precision in both tails: also where `sf` itself is zero in floats."""
        below = self.cdf(r)
        with np.errstate(divide="ignore"):
            return np.where(below < 0.5, np.log1p(-below), self._log_tail(r))

    @abc.abstractmethod
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        """log P(R > r), to full relative precision in the upper tail."""

    @abc.abstractmethod
    def config(self) -> dict[str, JSON]:
        """The structure of the law; learned values live in the state_dict. `norm_law_from_config` reads it."""

    @abc.abstractmethod
    def profile_modes(self) -> Vector:
        """Where the profile of each simple component is largest, shape (components,)."""

    @abc.abstractmethod
    def simple_laws(self) -> list["SimpleLaw"]:
        """The components of a mixture, the law itself otherwise."""

    @abc.abstractmethod
    def _inverse(self, lower: Vector, upper: Vector) -> Vector:
        """The radius with P(R ≤ r) = lower and P(R > r) = upper (lower + upper = 1), from the smaller of both."""

    @property
    def is_decreasing(self) -> bool:
        """True when g is certainly non-increasing at all positive doubles: no component's mode lies above zero."""
        return not self.profile_modes().any()

    def quantile(self, mass: npt.ArrayLike) -> Vector:
        """The radius r with P(R ≤ r) = mass, elementwise; RegionError for a mass outside [0, 1]."""
        masses = _checked_masses(mass)
        return self._inverse(masses, 1 - masses)

    def upper_quantile(self, mass: npt.ArrayLike) -> Vector:
        """The radius r with P(R > r) = mass, elementwise; RegionError for a mass outside [0, 1]."""
        masses = _checked_masses(mass)
        return self._inverse(1 - masses, masses)

    def profile(self, r: npt.ArrayLike) -> Vector:
        """`log_profile` in float64."""
        device = next(itertools.chain(self.parameters(), self.buffers())).device
        with torch.inference_mode():
            values = self.log_profile(torch.as_tensor(np.asarray(r, dtype=np.float64), device=device))
        return np.asarray(values.cpu().numpy())

    def mass_between(self, inner: npt.ArrayLike, outer: npt.ArrayLike) -> Vector:
        """P(inner ≤ R ≤ outer), elementwise, as a difference of the smaller tails."""
        below, above = self.cdf(inner), self.sf(inner)
        return np.where(below <= above, self.cdf(outer) - below, above - self.sf(outer))

    def sample_between(self, inner: Vector, outer: Vector) -> Vector:
        """One norm per pair, each from this law restricted to [inner, outer]; shapes (n,), torch's global generator."""
        u = torch.rand(inner.size, dtype=torch.float64).numpy()
        below, above = self.cdf(inner), self.sf(outer)
        lower = below + u * (self.cdf(outer) - below)
        upper = above + (1 - u) * (self.sf(inner) - above)
        return np.clip(self._inverse(lower, upper), inner, outer)


class SimpleLaw(NormLaw):
    """A law whose quantiles have a closed form and whose profile is concave in log r."""

    @override
    def simple_laws(self) -> list["SimpleLaw"]:
        return [self]


class _StretchedGammaLaw(SimpleLaw):
    """R = θ·G^(1/c) with G ~ Gamma(k): the generalised gamma law (Stacy 1962), parent of Gamma, Weibull and chi.

    f(r) = c/(θ·Γ(k))·(r/θ)^(ck − 1)·exp(−(r/θ)^c), hence with x = r/θ

        g(r) = log c − log Γ(k) − d·log θ + (ck − d)·log x − x^c.

    r·g′(r) = ck − d − c·x^c decreases in r: g decreases everywhere if and only if ck ≤ d, and otherwise has its one
    maximum at x^c = k − d/c.
    """

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__(dim)
        self.log_scale = _log_parameter("scale", scale)

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
            return shape, np.asarray((_non_negative(r) / scale) ** power)

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

    def __init__(self, dim: int, scale: float = 1.0, shape: float | None = None) -> None:
        super().__init__(dim, scale)
        self.log_shape = None if shape is None else _log_parameter("shape", shape)

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones((), dtype=like.dtype, device=like.device)
        return (self.dim * one if self.log_shape is None else self.log_shape.to(like).exp()), one

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "gamma", "free_shape": self.log_shape is not None}


class ChiLaw(_StretchedGammaLaw):
    """R²/scale² ~ χ² with dim degrees of freedom: for p = 2 the norm of normal coordinates of deviation `scale`."""

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__(dim, scale * math.sqrt(2))

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        two = torch.full((), 2.0, dtype=like.dtype, device=like.device)
        return self.dim / two, two

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "chi"}


class WeibullLaw(_StretchedGammaLaw):
    """P(R > r) = exp(−(r/scale)^shape), both learnable; ModelError unless both are positive numbers."""

    def __init__(self, dim: int, scale: float = 1.0, shape: float = 1.0) -> None:
        super().__init__(dim, scale)
        self.log_shape = _log_parameter("shape", shape)

    def _exponents(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones((), dtype=like.dtype, device=like.device), self.log_shape.to(like).exp()

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "weibull"}


class LogNormalLaw(SimpleLaw):
    """log R ~ N(log `median`, `sigma`²), both learnable; ModelError unless both are positive numbers.

    g(r) = −(log r − μ)²/(2σ²) − log σ − ½·log 2π − d·log r has its maximum at exp(μ − d·σ²): it always rises first.
    """

    def __init__(self, dim: int, median: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(dim)
        self.log_median = _log_parameter("median", median)
        self.log_sigma = _log_parameter("sigma", sigma)

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
            return (np.log(_non_negative(r)) - mean) / sigma

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

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "lognormal"}


class BallLaw(SimpleLaw):
    """The norm of a uniform point of the ball of the given radius, a fixed buffer: R/radius ~ Beta(dim, 1).

    g is constant on [0, radius]. Raises ModelError unless radius is a positive number.
    """

    radius: Tensor

    def __init__(self, dim: int, radius: float = 1.0) -> None:
        super().__init__(dim)
        self.register_buffer("radius", torch.tensor(_checked_positive("radius", radius)))

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
            return np.minimum(np.log(_non_negative(r) / self.radius.item()), 0.0)

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

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "ball", "radius": self.radius.item()}


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


def checked_dim(dim: int) -> int:
    """The number of dimensions itself; ModelError unless it is a positive whole number."""
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ModelError(f"expected a positive whole number of dimensions; got {dim!r}")
    return dim


def _log_parameter(name: str, value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(_checked_positive(name, value))))


def _checked_positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"expected a positive {name}; got {value!r}")
    return float(value)


def _checked_masses(mass: npt.ArrayLike) -> Vector:
    masses = np.asarray(mass, dtype=np.float64)
    if not ((masses >= 0) & (masses <= 1)).all():
        raise RegionError(f"expected masses in [0, 1]; got {mass!r}")
    return masses


def _non_negative(r: npt.ArrayLike) -> Vector:
    return np.maximum(np.asarray(r, dtype=np.float64), 0.0)


def profile_outside(r: Tensor) -> Tensor:
    """−inf, or NaN where r is NaN."""
    return torch.where(r.isnan(), r, -math.inf)
