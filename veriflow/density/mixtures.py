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

from ..errors import ModelError, StorageError
from ..files.documents import OBJECT, TEXT, check_record, list_of
from ..numerics.arrays import Mask, Vector
from ..numerics.bisection import bisect_doubles
from .norm_laws import JSON, NormLaw, SimpleLaw, profile_outside
from .simple_laws import LAWS

MOST_COMPONENTS = 1024


class MixtureLaw(NormLaw):
    """The mixture Σ w_k·law_k with w = softmax(`logits`), at first equal weights; logits and components are learnable.

    Raises ModelError unless the components are one or more simple laws of one dimension whose densities do not jump.
    """

    kind = "mixture"

    def __init__(self, components: Sequence[NormLaw]) -> None:
        if not components or any(not isinstance(c, SimpleLaw) or c.has_jump for c in components):
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

    @override
    def weights(self) -> Vector:
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
        scales = [scale for law in self.simple_laws() if (scale := law.log_exponential_scale) is not None]
        return scales if len(scales) == len(self.components) else []

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
        return {"law": self.kind, "components": [law.config() for law in self.simple_laws()]}


def check_law(config: Mapping[str, Any], what: str) -> None:
    """Refuse what `NormLaw.config` does not write.

    Raises:
        StorageError: ``what``, and then what is wrong.
    """
    laws = [config]
    if config.get("law") == MixtureLaw.kind:
        check_record(config, {"law": TEXT, "components": list_of(OBJECT, 1, MOST_COMPONENTS)}, what)
        laws = config["components"]
    for law in laws:
        kind = law.get("law")
        if not isinstance(kind, str) or kind not in LAWS:
            raise StorageError(f"{what}: a law of the norm that is none of {MixtureLaw.kind}, {', '.join(LAWS)}")
        check_record(law, {"law": TEXT, **LAWS[kind].fields()}, what)


def norm_law_from_config(config: Mapping[str, Any], dim: int) -> NormLaw:
    """The law with the structure that `NormLaw.config` wrote; learned values are at defaults until a state_dict loads.

    Raises ModelError for anything `config` does not write.
    """
    try:
        check_law(config, "")
    except StorageError:
        raise ModelError(f"expected the configuration of a norm law; got {config!r}") from None
    fields = {name: value for name, value in config.items() if name != "law"}
    if config["law"] == MixtureLaw.kind:
        return MixtureLaw([norm_law_from_config(law, dim) for law in fields["components"]])
    return LAWS[config["law"]].from_fields(dim, fields)
