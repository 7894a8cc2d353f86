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
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import override

from ..errors import ModelError, RegionError
from ..files.documents import Form, number
from ..numerics.arrays import Vector
from .coordinate_measures import Interval

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

MOST_LOGARITHM = 30.0
"""Of parameters that are logarithms; data are standardised, so that these are small in flows that were fitted."""


class NormLaw(nn.Module, abc.ABC):
    """The law of a norm R ≥ 0 in `dim` dimensions; its parameters are unconstrained (logarithms, logits).

    `kind` is its name in files. Raises ModelError when `dim` is not a positive whole number.
    """

    kind: ClassVar[str]

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
            return np.where(below < 0.5, np.log1p(-np.minimum(below, 0.5)), self._log_tail(r))

    @abc.abstractmethod
    def _log_tail(self, r: npt.ArrayLike) -> Vector:
        """log P(R > r), to full relative precision in the upper tail."""

    @abc.abstractmethod
    def config(self) -> dict[str, JSON]:
        """The structure of the law; learned values live in the state_dict. `norm_law_from_config` reads it."""

    def misfit(self) -> str:
        """What is wrong with the values of its own parameters, in words; nothing where nothing is."""
        own = [parameter.detach() for parameter in self.parameters(recurse=False)]
        fit = all((parameter.abs() <= MOST_LOGARITHM).all() for parameter in own)
        return "" if fit else f"logarithms beyond {MOST_LOGARITHM:g}"

    @abc.abstractmethod
    def profile_modes(self) -> Vector:
        """Where the profile of each simple component is largest, shape (components,)."""

    @abc.abstractmethod
    def simple_laws(self) -> list["SimpleLaw"]:
        """The components of a mixture, the law itself otherwise."""

    @abc.abstractmethod
    def weights(self) -> Vector:
        """The components' shares of the mass, in float64, shape (components,)."""

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
    """A law whose quantiles have a closed form and whose profile is concave in log r.

    A new one is a class that declares its `kind` and its parameters, all of them positive numbers, defines what is
    abstract here, and joins the table `LAWS`. Files, their checks, mixtures, level sets and training ask no more of it.

    - `learned`: the parameters that training changes. Each is kept as a torch parameter, its logarithm ``log_NAME``, from
      −30 to 30 in files.
    - `fixed`: the parameters that stay. Each is kept as a buffer, and is a field of the law's description.
    - `has_jump`: whether the density of R jumps, which a mixture's level sets do not allow for.

    Raises ModelError unless all parameters are positive numbers; one that is None is not there.
    """

    learned: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()
    has_jump: ClassVar[bool] = False

    def __init__(self, dim: int, **values: float | None) -> None:
        super().__init__(dim)
        for name in self.learned:
            value = values[name]
            setattr(self, f"log_{name}", None if value is None else _log_parameter(name, value))
        for name in self.fixed:
            self.register_buffer(name, torch.tensor(_checked_positive(name, values[name])))

    @classmethod
    def fields(cls) -> Mapping[str, Form]:
        """What a description of the law holds beside its kind."""
        return {name: number(0) for name in cls.fixed}

    @classmethod
    def from_fields(cls, dim: int, fields: Mapping[str, Any]) -> Self:
        """The law of a description, with learned parameters at their defaults. Raises ModelError as the class does."""
        return cls(dim, **fields)

    @override
    def config(self) -> dict[str, JSON]:
        return {"law": self.kind, **{name: getattr(self, name).item() for name in self.fixed}}

    @override
    def misfit(self) -> str:
        odd = [name for name in self.fixed if not getattr(self, name) > 0]
        return f"a {odd[0]} that is not positive" if odd else super().misfit()

    @override
    def simple_laws(self) -> list["SimpleLaw"]:
        return [self]

    @override
    def weights(self) -> Vector:
        return np.ones(1)

    @property
    def log_exponential_scale(self) -> Tensor | None:
        """log θ where the density of z is ∝ exp(−‖z‖_p/θ), that is R ~ Gamma(dim, θ); None for other laws."""
        return None

    def coordinate_measure(self, p: float) -> Interval | None:
        """The law of each coordinate of z under the norm p, where coordinates are independent; else None."""
        del p
        return None

    def box_masses(self, p: float, lower: Vector, upper: Vector) -> Vector | None:
        """P(lower ≤ z ≤ upper) under the norm p for boxes ``[batch, dim]``, shape ``[batch]``; None without a closed form."""
        interval = self.coordinate_measure(p)
        return None if interval is None else np.asarray(interval(lower, upper).prod(axis=1))

    def product_measure(self, p: float, lower: Vector, upper: Vector) -> tuple[Vector, Interval] | None:
        """A measure with independent coordinates that is at most the law of z in each box ``[batch, dim]``.

        It comes as a factor ``[batch]`` and the measure of every coordinate; None where none is known.
        """
        del upper
        interval = self.coordinate_measure(p)
        return None if interval is None else (np.ones(len(lower)), interval)


def checked_dim(dim: int) -> int:
    """The number of dimensions itself; ModelError unless it is a positive whole number."""
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ModelError(f"expected a positive whole number of dimensions; got {dim!r}")
    return dim


def _log_parameter(name: str, value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(_checked_positive(name, value))))


def _checked_positive(name: str, value: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"expected a positive {name}; got {value!r}")
    return float(value)


def _checked_masses(mass: npt.ArrayLike) -> Vector:
    masses = np.asarray(mass, dtype=np.float64)
    if not ((masses >= 0) & (masses <= 1)).all():
        raise RegionError(f"expected masses in [0, 1]; got {mass!r}")
    return masses


def non_negative(r: npt.ArrayLike) -> Vector:
    """Numbers in float64, the negative ones zero."""
    return np.maximum(np.asarray(r, dtype=np.float64), 0.0)


def profile_outside(r: Tensor) -> Tensor:
    """−inf, or NaN where r is NaN."""
    return torch.where(r.isnan(), r, -math.inf)
