"""Mixtures of laws of a norm, and every law from what describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import override

from ..errors import ModelError
from ..numerics.arrays import Mask, Vector
from ..numerics.bisection import bisect_doubles
from .norm_laws import JSON, BallLaw, ChiLaw, GammaLaw, LogNormalLaw, NormLaw, SimpleLaw, WeibullLaw, profile_outside


class MixtureLaw(NormLaw):
    """The mixture Σ w_k·law_k with w = softmax(`logits`), at first equal weights; logits and components are learnable.

    Raises ModelError unless the components are one or more simple laws of one dimension, none of them a `BallLaw`
    (its profile has a jump).
    """

    def __init__(self, components: Sequence[NormLaw]) -> None:
        if not components or any(isinstance(c, BallLaw) or not isinstance(c, SimpleLaw) for c in components):
            names = [type(c).__name__ for c in components]
            raise ModelError(f"expected one or more simple laws with a density on all of (0, ∞); got {names}")
        dims = sorted({c.dim for c in components})
        if len(dims) > 1:
            raise ModelError(f"expected components of one dimension; got dimensions {dims}")
        super().__init__(dims[0])
        self.components = nn.ModuleList(components)
        self.logits = nn.Parameter(torch.zeros(len(components)))

    @override
    def simple_laws(self) -> list[SimpleLaw]:
        return [law for law in self.components if isinstance(law, SimpleLaw)]

    def weights(self) -> Vector:
        """The components' shares of the mass, in float64, shape (components,)."""
        return np.asarray(torch.softmax(self.logits.detach().double(), 0).cpu().numpy())

    @override
    def log_profile(self, r: Tensor) -> Tensor:
        if scales := self.exponential_scales():
            return self._exponential_profile(r, torch.stack(scales))
        profiles = torch.stack([law.log_profile(r) for law in self.simple_laws()], -1)
        terms = profiles + torch.log_softmax(self.logits.to(r), 0)
        total = torch.logsumexp(terms.detach(), -1)
        finite = total.isfinite()  # the derivative of logsumexp is NaN where its value is infinite
        return torch.where(finite, torch.logsumexp(torch.where(finite.unsqueeze(-1), terms, 0.0), -1), total)

    def exponential_scales(self) -> list[Tensor]:
        """log θ_k of every component where all of them are Gamma(dim, θ_k), which is the default law; empty otherwise."""
        laws = [law for law in self.components if isinstance(law, GammaLaw) and law.log_shape is None]
        return [law.log_scale for law in laws] if len(laws) == len(self.components) else []

    def _exponential_profile(self, r: Tensor, log_scales: Tensor) -> Tensor:
        """log Σ w_k exp(−r/θ_k) / (Γ(d) θ_k^d) for all components at once."""
        log_scales = log_scales.to(r)
        constants = torch.log_softmax(self.logits.to(r), 0) - self.dim * log_scales
        inside = (r >= 0) & (r < math.inf)
        total = torch.logsumexp(constants - r.where(inside, 0.0).unsqueeze(-1) * torch.exp(-log_scales), -1)
        return torch.where(inside, total - math.lgamma(self.dim), profile_outside(r))

    @override
    def sample(self, shape: torch.Size) -> Tensor:
        with torch.no_grad():
            below = torch.softmax(self.logits, 0).cumsum(0)[:-1]
            chosen = torch.searchsorted(below, torch.rand(shape).to(below), right=True)
            norms = torch.stack([law.sample(shape) for law in self.simple_laws()], -1)
            return norms.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)

    @override
    def cdf(self, r: npt.ArrayLike) -> Vector:
        return np.tensordot(self.weights(), np.stack([law.cdf(r) for law in self.simple_laws()]), 1)

    @override
    def sf(self, r: npt.ArrayLike) -> Vector:
        return np.tensordot(self.weights(), np.stack([law.sf(r) for law in self.simple_laws()]), 1)

    @override
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        log_weights = torch.log_softmax(self.logits.detach().double(), 0).cpu().numpy()
        tails = np.stack([law._log_tail(r) for law in self.simple_laws()], -1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.logaddexp.reduce(tails + log_weights, axis=-1))

    @override
    def rescale(self, factor: float) -> None:
        for law in self.simple_laws():
            law.rescale(factor)

    def _inverse(self, lower: Vector, upper: Vector) -> Vector:
        candidates = np.stack([law._inverse(lower, upper).ravel() for law in self.simple_laws()])
        lower, upper, shape = lower.ravel(), upper.ravel(), lower.shape

        def below(r: Vector) -> Mask:
            return np.where(lower <= upper, self.cdf(r) <= lower, self.sf(r) >= upper)

        return bisect_doubles(below, candidates.min(0), candidates.max(0)).reshape(shape)

    @override
    def sample_between(self, inner: Vector, outer: Vector) -> Vector:
        laws = self.simple_laws()
        masses = self.weights()[:, None] * np.stack([law.mass_between(inner, outer) for law in laws])
        below = np.cumsum(masses, 0)
        u = torch.rand(inner.size, dtype=torch.float64).numpy()
        chosen = (below[:-1] <= u * below[-1]).sum(0)
        norms = np.empty_like(inner)
        for index, law in enumerate(laws):
            mine = chosen == index
            norms[mine] = law.sample_between(inner[mine], outer[mine])
        return norms

    @override
    def profile_modes(self) -> Vector:
        return np.concatenate([law.profile_modes() for law in self.simple_laws()])

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": "mixture", "components": [law.config() for law in self.simple_laws()]}


def norm_law_from_config(config: Mapping[str, Any], dim: int) -> NormLaw:
    """The law with the structure that `NormLaw.config` wrote; learned values are at defaults until a state_dict loads.

    Raises ModelError for anything `config` does not write.
    """
    match config:
        case {"law": "gamma", "free_shape": bool(free), **rest} if not rest:
            return GammaLaw(dim, shape=float(dim) if free else None)
        case {"law": "chi", **rest} if not rest:
            return ChiLaw(dim)
        case {"law": "weibull", **rest} if not rest:
            return WeibullLaw(dim)
        case {"law": "lognormal", **rest} if not rest:
            return LogNormalLaw(dim)
        case {"law": "ball", "radius": int() | float() as radius, **rest} if not rest:
            return BallLaw(dim, radius)
        case {"law": "mixture", "components": [*components], **rest} if not rest and len(components) <= 1024:
            if all(isinstance(c, dict) and c.get("law") != "mixture" for c in components):
                return MixtureLaw([norm_law_from_config(c, dim) for c in components])
    raise ModelError(f"expected the configuration of a norm law; got {config!r}")
