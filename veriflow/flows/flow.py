"""Uniformly scaling flows: exact densities, samples and level sets from a piecewise affine bijection."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ..density.level_sets import LevelSet, lower_level_set, upper_level_set
from ..density.radial import RadialBase, base_from_config, checked_shape, gamma_mixture, make_base
from ..errors import ModelError
from ..numerics.grids import MOST_BITS
from ..piecewise.evaluate import evaluate
from ..piecewise.graph import Graph
from ..tables.rows import Rows, as_tensor
from ..wording import perhaps
from .bijections.affine import LU, AffineBijection, AffineProduct, Householder, Permutation, Standardisation
from .bijections.base import Bijection
from .bijections.chain import Chain
from .bijections.coupling import Conjugate, CouplingBlock, ResidualBijection
from .defaults import BLOCKS, HIDDEN
from .lowering import Direction, lower_flow

MOST_LAYERS, MOST_PARAMETERS = 4096, 2**28
"""Of a flow: a gigabyte of float32."""


class Flow(nn.Module, Distribution):
    """The law of x = φ(z) for z from a radial base and a uniformly scaling bijection φ.

    log p(x) = log p_base(φ⁻¹(x)) − log|det φ|, and log|det φ| is one constant: that is why the density depends on the
    latent norm alone and every upper density level set is the image of a norm ball (or a union of shells).
    A `torch.distributions.Distribution` of event shape ``[dim]`` and a `torch.nn.Module` at once.

    Points are tensors, arrays, lists, DataFrames or Tables (`veriflow.tables.rows`); answers are tensors, without
    gradients where the points are no tensor. Data points are in float64, latents and log densities in the dtype of the
    parameters. Autocast leaves a flow alone.

    ``features`` are the names of the coordinates: x0, x1, …, and ``integral`` those that are whole numbers in the data.
    ``bits`` is how many of them the rows of the last map were made for, None for all; it never changes, see `USFlow.with_bits`.

    Args:
        bijection: latent z → data x.
        base: a radial law on the latent space.

    Raises:
        ModelError: bijection and base of different dimensions.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - torch's Distribution declares it so
    support = constraints.real_vector

    def __init__(self, bijection: Bijection, base: RadialBase) -> None:
        nn.Module.__init__(self)
        if not isinstance(base, RadialBase):
            raise ModelError(f"expected a radial base; got {base!r}")
        if bijection.dim != base.dim:
            raise ModelError(f"expected a base of {bijection.dim} dimensions; got {base.dim}")
        Distribution.__init__(self, torch.Size(), torch.Size([bijection.dim]), validate_args=False)
        self.bijection = bijection
        self.base = base
        self.features = tuple(f"x{i}" for i in range(self.dim))
        self.integral: tuple[str, ...] = ()
        self._bits: int | None = None

    def __repr__(self) -> str:
        base = f"{self.base.law.kind} base of norm {self.base.p:g}"
        parameters = sum(parameter.numel() for parameter in self.parameters())
        return f"{type(self).__name__}({self.dim} features, {base}, {parameters} parameters)"

    def __call__(self, z: Tensor) -> Tensor:
        """As `forward`, with the hooks of a torch module."""
        points: Tensor = super().__call__(z)
        return points

    @property
    def integral_columns(self) -> list[int]:
        """Numbers of the coordinates that are whole numbers in the data."""
        return [self.features.index(name) for name in self.integral]

    @property
    def bits(self) -> int | None:
        """How many bits the rows of the last map were rounded for; None for all."""
        return self._bits

    @property
    def dim(self) -> int:
        """Number of coordinates of latent and of data points."""
        return self.bijection.dim

    @contextmanager
    def _points(self, rows: Rows, what: str) -> Iterator[Tensor]:
        """The rows as points ``[..., dim]`` on the flow's device; gradients are on for tensors only, autocast is off."""
        points = as_tensor(rows, self.features)
        if points.ndim < 1 or points.shape[-1] != self.dim:
            raise ModelError(f"expected {what} of shape [..., {self.dim}]; got {list(points.shape)}")
        given = isinstance(rows, Tensor)
        points = points if given else points.to(next(self.parameters()).device)
        with (
            torch.set_grad_enabled(given and torch.is_grad_enabled()),
            torch.autocast(points.device.type, enabled=False),
        ):
            yield points

    def forward(self, z: Rows) -> Tensor:
        """Data points ``[..., dim]`` of latent points ``[..., dim]``."""
        with self._points(z, "latent points") as points:
            return self.bijection.forward_and_logdet(points)[0]

    def latent(self, x: Rows) -> Tensor:
        """Latent points ``[..., dim]`` of data points ``[..., dim]``."""
        with self._points(x, "data points") as points:
            return self.bijection.inverse_and_logdet(points)[0]

    def norm(self, x: Rows) -> Tensor:
        """‖φ⁻¹(x)‖_p, ``[...]``, of data points ``[..., dim]``: infinite where a coordinate is, NaN where one is NaN."""
        with self._points(x, "data points") as points:
            return self._norm_and_logdet(points)[0]

    def _norm_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        unknown = x.isnan().any(-1)
        infinite = x.isinf().any(-1) & ~unknown
        z, logdet = self.bijection.inverse_and_logdet(x.where(~infinite.unsqueeze(-1), 0.0))
        norm = self.base.norm(z)
        overflown = norm.isnan() & ~unknown
        return norm.where(~(infinite | overflown), math.inf), logdet

    def log_prob(self, value: Rows) -> Tensor:
        """Natural-log density ``[...]`` of data points ``[..., dim]``: −∞ where a coordinate is infinite, NaN where one is."""
        with self._points(value, "data points") as points:
            norm, logdet = self._norm_and_logdet(points)
            return self.base.log_prob_at(norm) + logdet

    def sample(self, sample_shape: int | Sequence[int] = ()) -> Tensor:
        """Independent data points ``[*sample_shape, dim]``, without gradients; seeded by `torch.manual_seed`."""
        with torch.no_grad():
            return self.forward(self.base.sample(checked_shape(sample_shape)))

    def log_volume(self) -> float:
        """log|det φ|: how much the flow scales volume, the same everywhere."""
        precise = copy.deepcopy(self.bijection).double()
        with torch.no_grad():
            return float(precise.forward_and_logdet(torch.zeros(self.dim, dtype=torch.float64))[1])

    def level_set(
        self, mass: float | None = None, *, radius: float | None = None, log_density: float | None = None
    ) -> LevelSet:
        """The most probable set of the given mass, latent radius or log-density threshold: { x : log p(x) ≥ t }.

        Raises:
            RegionError: not exactly one of the three, or one that is out of range.
        """
        return upper_level_set(self, mass=mass, radius=radius, log_density=log_density)

    def lower_level_set(
        self, mass: float | None = None, *, radius: float | None = None, log_density: float | None = None
    ) -> LevelSet:
        """The outside: the least probable set of the given mass, or what lies beyond a radius or below a density."""
        return lower_level_set(self, mass=mass, radius=radius, log_density=log_density)

    def graph(self, direction: Direction = "forward") -> Graph:
        """The flow as affine maps and ReLUs, z → x ("forward") or x → z ("inverse"): see `lower_flow` for the constants."""
        return lower_flow(self.bijection, direction, self.bits)

    def rounding_deviation(self, points: int = 1000, direction: Direction = "forward") -> float:
        """Largest |difference| between the graph and the torch model in float64, over seeded samples of the base.

        In units of the data ("inverse": of the latents), the worst coordinate of ``points`` latent samples.
        """
        generator = torch.random.get_rng_state()
        try:
            torch.manual_seed(0)
            with torch.no_grad():
                z = self.base.sample(torch.Size([points])).double()
                precise = copy.deepcopy(self.bijection).double()
                x = precise.forward_and_logdet(z)[0]
                start, end = (z, x) if direction == "forward" else (x, precise.inverse_and_logdet(x)[0])
                graph = self.graph(direction)
                return float((evaluate(graph, start)[graph.output] - end).abs().max())
        finally:
            torch.random.set_rng_state(generator)


def _check_sizes(dim: int, blocks: int, widths: Sequence[int], householder: int) -> None:
    """Refuse a flow that is too large before memory is allocated for it.

    Raises:
        ModelError: such a flow.
    """
    if blocks * (len(widths) + 1 + householder) > MOST_LAYERS:
        raise ModelError(f"expected a flow of at most {MOST_LAYERS} layers; got more")
    through = [dim, *widths, dim]
    numbers = dim * dim + blocks * (sum(a * b for a, b in pairwise(through)) + householder * dim)
    if numbers > MOST_PARAMETERS:
        raise ModelError(f"expected a flow of at most {MOST_PARAMETERS} parameters; got more")


class USFlow(Flow):
    """The uniformly scaling flow of VeriFlow: φ = S ∘ A_{n+1} ∘ B_n ∘ … ∘ B_1, with B_i = A_i⁻¹ ∘ C_i ∘ A_i.

    A_i are affine (LU maps, reduced to what their coupling can see, see `CouplingBlock`; optionally after Householder
    reflections and a permutation), A_{n+1} is a full LU map, C_i are additive couplings with ReLU conditioners and
    alternating masks, and S undoes the standardisation of the data. The flow starts as S alone.
    Sources: VeriFlow (arXiv 2406.14265); On Uniformly Scaling Flows (arXiv 2510.09452), section 4.

    Args:
        dim: number of coordinates.
        blocks: number n of coupling blocks; 0 gives an affine flow.
        hidden: width of the hidden layer of every conditioner, or widths of several.
        base: radial base, or its name in `BASES`; a learnable mixture of four Laplace laws (p = 1) by default.
        householder: reflections in each A_i.
        permute: whether each A_i begins with a random permutation.
        features: names of the coordinates; x0, x1, … by default.
        integral: the names of those that are whole numbers in the data, such as ages and codes of categories. `fit`
            spreads them over half a unit to both sides, as a density needs.
        bits: number of bits of the constants that `compress` rounded the parameters to; None for no rounding.

    Raises:
        ModelError: sizes below one, blocks in one dimension (there is nothing to couple), names of another number,
            unknown names, bits outside 1 … 24.
    """

    def __init__(
        self,
        dim: int,
        *,
        blocks: int = BLOCKS,
        hidden: int | Sequence[int] = HIDDEN,
        base: RadialBase | str | None = None,
        householder: int = 0,
        permute: bool = False,
        features: Sequence[str] | None = None,
        integral: Sequence[str] = (),
        bits: int | None = None,
    ) -> None:
        if dim < 1 or blocks < 0 or householder < 0:
            raise ModelError(f"expected dim >= 1, blocks >= 0, householder >= 0; got {dim}, {blocks}, {householder}")
        widths = tuple(hidden) if isinstance(hidden, Sequence) else (hidden,)
        if any(isinstance(width, bool) or not isinstance(width, int) for width in widths):
            raise ModelError(f"expected whole numbers as widths of hidden layers; got {hidden!r}")
        _check_sizes(dim, blocks, widths, householder)
        names = tuple(features) if features is not None else tuple(f"x{i}" for i in range(dim))
        if len(names) != dim:
            raise ModelError(f"expected {dim} feature names; got {len(names)}")
        if unknown := [name for name in integral if name not in names]:
            raise ModelError(
                f"expected features among {', '.join(names)}; got {unknown[0]!r}{perhaps(unknown[0], names)}"
            )
        if bits is not None and not 1 <= bits <= MOST_BITS:
            raise ModelError(f"expected 1 to {MOST_BITS} bits; got {bits}")

        def block(number: int) -> ResidualBijection:
            coupling = CouplingBlock(dim, widths, number)
            turns: list[AffineBijection] = [Permutation(dim)] if permute else []
            turns += [Householder(dim, householder)] if householder else []
            return Conjugate(AffineProduct(turns), coupling) if turns else coupling

        chain = Chain([*(block(i) for i in range(blocks)), LU(dim), Standardisation(dim)])
        base = gamma_mixture(dim) if base is None else make_base(base, dim) if isinstance(base, str) else base
        super().__init__(chain, base)
        self.features = names
        self.integral = tuple(name for name in names if name in integral)
        self._bits = bits
        self._config = {
            "dim": dim,
            "blocks": blocks,
            "hidden": list(widths),
            "householder": householder,
            "permute": permute,
            "features": list(names),
            "integral": list(self.integral),
        }

    @property
    def lu(self) -> LU:
        """A_{n+1}, the one map that scales volume apart from the standardisation."""
        part = self.parts()[-2]
        assert isinstance(part, LU)  # noqa: S101 - as built
        return part

    @property
    def standardisation(self) -> Standardisation:
        """S, which undoes the standardisation of the data."""
        part = self.parts()[-1]
        assert isinstance(part, Standardisation)  # noqa: S101 - as built
        return part

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Let the flow begin from data of these means and standard deviations, ``[dim]`` each."""
        self.standardisation.set(mean, deviation)

    def deviations(self) -> Tensor:
        """The standard deviations ``[dim]`` of the data that the flow begins from."""
        return self.standardisation.deviation

    def parts(self) -> list[Bijection]:
        """Coupling blocks, LU map and standardisation, the first one applied to the latent z first."""
        assert isinstance(self.bijection, Chain)  # noqa: S101 - as built
        return list(self.bijection)

    def determinant_log_prior(self, sigma: float) -> Tensor:
        """Log density of the determinant prior, up to a constant: log|u_ii| ~ N(0, (sigma / dim)²) for the LU map that scales.

        Then log|det φ| ~ N(0, sigma²) before standardisation: a log-normal prior on the determinant (arXiv 2510.09452, eq. 9).
        """
        return self.lu.log_diagonal.square().sum() * (-0.5 * self.determinant_precision(sigma))

    def determinant_precision(self, sigma: float) -> float:
        """1 / variance of each log|u_ii| under the determinant prior."""
        return (self.dim / sigma) ** 2

    def score(self, x: Rows) -> Tensor:
        """Mass of the level set on whose boundary each point lies, ``[...]`` in float64: 0 at the mode, near 1 far out.

        For a base whose density decreases with the norm this is the probability that a fresh sample is more probable
        than x, so 1 − score is a p-value for "x came from this flow". Far out all scores are 1: `log_tail_mass` tells on.
        """
        return self._of_norm(self.base.law.cdf, x)

    def log_tail_mass(self, x: Rows) -> Tensor:
        """log(1 − score), ``[...]`` in float64, exact where the score itself is 1 in floats; −∞ at infinity."""
        return self._of_norm(self.base.law.log_sf, x)

    @torch.no_grad()
    def _of_norm(self, function: Callable[[npt.ArrayLike], npt.NDArray[np.float64]], x: Rows) -> Tensor:
        return torch.as_tensor(function(self.norm(x).double().cpu().numpy()))

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build a flow of the same shape; learned values are in the state_dict."""
        bits = {} if self.bits is None else {"bits": self.bits}
        return {**self._config, **bits, "base": self.base.config()}

    def with_bits(self, bits: int | None) -> USFlow:
        """A copy of the same numbers, whose graph rounds the rows of the last map to so many bits; None for no rounding.

        Raises:
            ModelError: bits outside 1 … 24.
        """
        copied = USFlow.from_config({**self.config(), "bits": bits}).to(next(self.parameters()).dtype)
        copied.load_state_dict(self.state_dict())
        return copied

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> USFlow:
        """A flow of the shape that `config` described.

        Raises:
            ModelError: a description that is not one of a USFlow.
        """
        try:
            options = dict(config)
            base = base_from_config(options["base"], options["dim"])
            return cls(**{**options, "hidden": tuple(options["hidden"]), "base": base})
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"expected the description of a USFlow; got one that does not fit ({error})") from None
