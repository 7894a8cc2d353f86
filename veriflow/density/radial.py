"""Radial bases: densities on ℝ^d that depend on ‖z‖_p alone, p ∈ {1, 2, ∞}, and one table of named constructors.

A radial base is a norm p and a law of the norm (`norm_laws`). With the volume V_p(d) of the unit p-ball,

    log p(z) = g(‖z‖_p) − log(d·V_p(d)),    V_p(d) = (2·Γ(1 + 1/p))^d / Γ(1 + d/p),

and a sample is an independent pair: a norm from its law times a direction from the cone measure of the unit sphere
(VeriFlow, arXiv 2406.14265). A new base fits standardised data: its typical norm is that of a vector whose coordinates
have unit variance (Laplace for p = 1, normal for p = 2 and p = ∞).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from typing_extensions import override

from ..errors import ModelError
from ..wording import perhaps
from .mixtures import MOST_COMPONENTS, MixtureLaw, norm_law_from_config
from .norm_laws import JSON, NormLaw, checked_dim
from .simple_laws import BallLaw, ChiLaw, GammaLaw, LogNormalLaw, WeibullLaw


class RadialBase(nn.Module, Distribution):
    """The density p(z) ∝ exp(g(‖z‖_p)) on ℝ^d, a torch module and a torch distribution with event shape (d,).

    `p` is the norm, 1, 2 or `math.inf`, `law` the law of the norm; d = `law.dim`. Raises ModelError for another p.

    >>> base = exponential(2)
    >>> round(base.log_prob(torch.zeros(2)).item(), 4)  # two Laplace densities of scale 1/√2 at zero: 2·log(1/√2)
    -0.6931
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - torch's Distribution declares it so
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, p: float, law: NormLaw) -> None:
        nn.Module.__init__(self)
        self.p = _checked_norm(p)
        self.law = law
        self.dim = law.dim
        Distribution.__init__(self, torch.Size(), torch.Size([law.dim]), validate_args=False)
        reciprocal = 1 / self.p
        self.log_sphere_area = (
            math.log(self.dim)
            + self.dim * (math.log(2) + math.lgamma(1 + reciprocal))
            - math.lgamma(1 + self.dim * reciprocal)
        )
        """log(d·V_p(d)): what a profile is above the log density."""

    def norm(self, z: Tensor) -> Tensor:
        """‖z‖_p of latents of shape (..., d), shape (...); the gradient at zero is zero.

        Raises ModelError for another shape or a dtype that is not a float.
        """
        if z.ndim == 0 or z.shape[-1] != self.dim or not z.is_floating_point():
            raise ModelError(f"expected float latents of shape (..., {self.dim}); got {z.dtype} {tuple(z.shape)}")
        norm: Tensor = torch.linalg.vector_norm(z, self.p, -1)
        return norm

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats of latents of shape (..., d), shape (...); ModelError for another shape."""
        return self.log_prob_at(self.norm(value))

    def log_prob_at(self, norm: Tensor) -> Tensor:
        """Log density in nats of latents of these norms, same shape."""
        return self.law.log_profile(norm) - self.log_sphere_area

    @torch.no_grad()
    def directions(self, shape: torch.Size) -> Tensor:
        """Independent points of the unit sphere ‖u‖_p = 1 from the cone measure, shape (*shape, d)."""
        like = next(iter(self.state_dict().values()))
        size = torch.Size([*shape, self.dim])
        if self.p == 2:
            raw = torch.randn(size).to(like)
        else:
            sign = torch.randint(0, 2, size) * 2 - 1
            magnitude = torch.empty(size).exponential_() if self.p == 1 else 1 - torch.rand(size)
            raw = (magnitude * sign).to(like)
        return raw / self.norm(raw).clamp_min(torch.finfo(raw.dtype).tiny).unsqueeze(-1)

    @override
    def sample(self, sample_shape: int | Sequence[int] = ()) -> Tensor:
        """Independent latents of shape (*sample_shape, d), without gradient, from torch's global generator."""
        shape = checked_shape(sample_shape)
        return self.law.sample(shape).unsqueeze(-1) * self.directions(shape)

    def config(self) -> dict[str, JSON]:
        """The structure as JSON; learned values live in the state_dict."""
        return {"p": "inf" if self.p == math.inf else int(self.p), "law": self.law.config()}


def checked_shape(sample_shape: int | Sequence[int]) -> torch.Size:
    """The shape of samples; a number means one axis. ModelError unless it is made of whole numbers from zero on."""
    sizes = list(sample_shape) if isinstance(sample_shape, Sequence) else [sample_shape]
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 0 for size in sizes):
        raise ModelError(f"expected a number of samples, or several as a shape; got {sample_shape!r}")
    return torch.Size(sizes)


def base_from_config(config: Mapping[str, Any], dim: int) -> RadialBase:
    """The base with the structure that `RadialBase.config` wrote. Raises ModelError for anything else."""
    if set(config) != {"p", "law"} or not isinstance(config["law"], dict):
        raise ModelError(f"expected a base's configuration with p and law; got {config!r}")
    return RadialBase(math.inf if config["p"] == "inf" else config["p"], norm_law_from_config(config["law"], dim))


def exponential(dim: int, p: float = 1) -> RadialBase:
    """Density ∝ exp(−‖z‖_p/θ), norm ~ Gamma(d, θ); for p = 1 independent Laplace coordinates, at first θ = 1/√2."""
    return RadialBase(p, GammaLaw(dim, _gamma_scale(dim, p)))


def laplace(dim: int, p: float = 1) -> RadialBase:
    """Independent Laplace coordinates of one learnable scale, norm ~ Gamma(d, θ). Raises ModelError unless p is 1."""
    if p != 1:
        raise ModelError(f"expected p = 1 for a Laplace base; got p = {p}")
    return exponential(dim)


def normal(dim: int, p: float = 2) -> RadialBase:
    """Independent normal coordinates of one learnable deviation, norm ~ chi(d). Raises ModelError unless p is 2."""
    if p != 2:
        raise ModelError(f"expected p = 2 for a normal base; got p = {p}")
    return RadialBase(2, ChiLaw(dim))


def uniform_ball(dim: int, p: float = math.inf) -> RadialBase:
    """Uniform on the p-ball whose coordinates have unit variance, for p = ∞ the box [−√3, √3]^d.

    The variance of a coordinate of the unit ball is 2/((d + 1)(d + 2)), 1/(d + 2), 1/3 for p = 1, 2, ∞. The density is
    zero outside: a flow over this base fits bounded data only if it starts with all of them inside.
    """
    dim = checked_dim(dim)
    squared_radius = {1: (dim + 1) * (dim + 2) / 2, 2: dim + 2, math.inf: 3}[_checked_norm(p)]
    return RadialBase(p, BallLaw(dim, math.sqrt(squared_radius)))


def lognormal(dim: int, p: float = 2) -> RadialBase:
    """log-normal norm, at first of relative spread 1/√d. Level sets are shells: the density rises first."""
    median = _typical_norm(dim, p)
    return RadialBase(p, LogNormalLaw(dim, median, 1 / math.sqrt(dim)))


def weibull(dim: int, p: float = 2) -> RadialBase:
    """Weibull norm, P(R > r) = exp(−(r/λ)^k), at first of relative spread 1/√d; level sets are balls while k ≤ d."""
    return RadialBase(p, _weibull_law(dim, _typical_norm(dim, p)))


def gamma_mixture(dim: int, p: float = 1, components: int = 4) -> RadialBase:
    """The default base: norm ~ Σ w_k·Gamma(d, θ_k), w and θ learnable. Its level sets are always balls."""
    scales = _spread(_gamma_scale(dim, p), dim, components)
    return RadialBase(p, MixtureLaw([GammaLaw(dim, scale) for scale in scales]))


def free_gamma_mixture(dim: int, p: float = 1, components: int = 4) -> RadialBase:
    """Norm ~ Σ w_k·Gamma(s_k, θ_k) with learnable shapes s_k, at first d. Level sets may become shells."""
    scales = _spread(_gamma_scale(dim, p), dim, components)
    return RadialBase(p, MixtureLaw([GammaLaw(dim, scale, float(dim)) for scale in scales]))


def lognormal_mixture(dim: int, p: float = 2, components: int = 4) -> RadialBase:
    """A mixture of log-normal norms, all parameters learnable. Level sets are shells."""
    medians = _spread(_typical_norm(dim, p), dim, components)
    return RadialBase(p, MixtureLaw([LogNormalLaw(dim, median, 1 / math.sqrt(dim)) for median in medians]))


def weibull_mixture(dim: int, p: float = 2, components: int = 4) -> RadialBase:
    """A mixture of Weibull norms, all parameters learnable. Level sets are balls while all shapes are at most d."""
    scales = _spread(_typical_norm(dim, p), dim, components)
    return RadialBase(p, MixtureLaw([_weibull_law(dim, scale) for scale in scales]))


BASES: dict[str, Callable[..., RadialBase]] = {
    "exponential": exponential,
    "free-gamma-mixture": free_gamma_mixture,
    "gamma-mixture": gamma_mixture,
    "laplace": laplace,
    "lognormal": lognormal,
    "lognormal-mixture": lognormal_mixture,
    "normal": normal,
    "uniform-ball": uniform_ball,
    "weibull": weibull,
    "weibull-mixture": weibull_mixture,
}
"""Every named base: name → constructor(dim, p, …)."""


def make_base(name: str, dim: int, p: float | None = None, components: int | None = None) -> RadialBase:
    """The base `name` of `BASES` in `dim` dimensions; what is None is the constructor's own default.

    Raises ModelError for an unknown name, a dim, p or number of components that makes no sense, or components for a
    base that is no mixture.
    """
    if name not in BASES:
        raise ModelError(f"expected one of the bases {', '.join(BASES)}; got {name!r}{perhaps(name, BASES)}")
    constructor = BASES[name]
    options = {key: value for key, value in {"p": p, "components": components}.items() if value is not None}
    accepted = list(inspect.signature(constructor).parameters)
    if not options.keys() <= set(accepted):
        raise ModelError(f"expected for the base {name!r} only the options {accepted}; got {sorted(options)}")
    return constructor(dim, **options)


def _checked_norm(p: float) -> float:
    if isinstance(p, bool) or p not in (1, 2, math.inf):
        raise ModelError(f"expected a norm p of 1, 2 or infinity; got {p!r}")
    return float(p)


def _typical_norm(dim: int, p: float) -> float:
    """Root mean square of ‖x‖_p for d standard Laplace (p = 1) or normal (p = 2) x_i; for p = ∞ the normal's median.

    The median m of max |x_i| solves P(|x_i| ≤ m)^d = 1/2.
    """
    dim = checked_dim(dim)
    norm_of_vector = {
        1.0: math.sqrt(dim * (dim + 1) / 2),
        2.0: math.sqrt(dim),
        math.inf: float(scipy.special.ndtri((1 + 0.5 ** (1 / dim)) / 2)),
    }
    return norm_of_vector[_checked_norm(p)]


def _gamma_scale(dim: int, p: float) -> float:
    """The θ for which the root mean square θ·√(d(d + 1)) of Gamma(d, θ) is the typical norm; 1/√2 for p = 1."""
    return _typical_norm(dim, p) / math.sqrt(dim * (dim + 1))


def _weibull_law(dim: int, scale: float) -> WeibullLaw:
    """Shape k = π·√(d/6), for log R has deviation π/(k·√6), but at most d: the profile decreases."""
    return WeibullLaw(dim, scale, min(math.pi * math.sqrt(dim / 6), float(dim)))


def _spread(scale: float, dim: int, components: int) -> list[float]:
    """Scales in geometric progression around `scale`, up to 4/√d (four deviations of log R) but at most ½ away."""
    if isinstance(components, bool) or not isinstance(components, int) or not 1 <= components <= MOST_COMPONENTS:
        raise ModelError(f"expected 1 to {MOST_COMPONENTS} components; got {components!r}")
    reach = min(0.5, 4 / math.sqrt(dim))
    offsets = [0.0] if components == 1 else np.linspace(-reach, reach, components).tolist()
    return [scale * math.exp(offset) for offset in offsets]
