"""What every law of the norm R obeys: its density, its tails, its quantiles and its samples are those of one law."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..density.mixtures import norm_law_from_config
from ..density.norm_laws import NormLaw
from ..numerics.arrays import Vector
from .requirements import require, require_close, seeded

_TAILS = np.array([1e-30, 1e-12, 1e-6, 0.01, 0.3, 0.5])
_ULPS = 4 * 2.0**-52
_DRAWN = 4000


def check_norm_law(law: NormLaw) -> None:
    """Run a law through all of `NORM_LAWS`.

    Raises:
        AssertionError: the first that it breaks, in a sentence.
    """
    for obeys in NORM_LAWS:
        obeys(law)


def _precise(law: NormLaw) -> NormLaw:
    return copy.deepcopy(law).double()


def density_integrates_to_the_cdf(law: NormLaw) -> None:
    """∫ exp(g(r))·r^(d−1) dr over [a, b] is P(a ≤ R ≤ b), on each of some hundred intervals of all sizes of mass."""
    law = _precise(law)
    ends, r, weights = quadrature(law)
    panels = (weights * np.exp(law.profile(r) + (law.dim - 1) * np.log(r))).sum(1)
    require_close(panels.sum(), 1, "a density of mass one", abs_=1e-10)
    wanted = law.mass_between(ends[:-1], ends[1:])
    require_close(panels, wanted, "the mass of an interval as the integral of the density", rel=1e-8, abs_=1e-12)


def quadrature(law: NormLaw) -> tuple[Vector, Vector, Vector]:
    """Ends of intervals of all sizes of mass, and in each of them norms ``[intervals, 24]`` with weights (Gauss–Legendre)."""
    masses = np.concatenate([np.geomspace(1e-12, 0.05, 25), np.linspace(0.06, 0.5, 25)])
    ends = np.unique(np.concatenate([law.quantile(masses), law.upper_quantile(masses)]))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    middle, half = (ends[1:] + ends[:-1])[:, None] / 2, (ends[1:] - ends[:-1])[:, None] / 2
    return ends, middle + half * nodes, half * weights


def tails_add_up(law: NormLaw) -> None:
    """P(R ≤ r) rises from 0 to 1, and P(R > r) = 1 − P(R ≤ r)."""
    law = _precise(law)
    r = np.concatenate([[0.0], np.unique(law.quantile(np.linspace(0.01, 0.99, 50))), [math.inf]])
    below, above = law.cdf(r), law.sf(r)
    require((np.diff(below) >= 0).all(), f"expected a cdf that rises; got {below.tolist()}")
    require_close(below[[0, -1]], [0, 1], "P(R ≤ 0) and P(R ≤ ∞)")
    require_close(below + above, 1, "P(R ≤ r) + P(R > r)", abs_=1e-12)


def quantiles_invert_both_tails(law: NormLaw) -> None:
    """P(R ≤ r) reaches the mass at the quantile r, to full relative precision, or within a few floats next to r."""
    law = _precise(law)
    for name, quantile, tail in (("cdf", law.quantile, law.cdf), ("sf", law.upper_quantile, law.sf)):
        r = quantile(_TAILS)
        around = np.sort([tail(r * (1 - _ULPS)), tail(r * (1 + _ULPS))], axis=0)
        require_close(np.clip(_TAILS, *around), _TAILS, f"the {name} at its own quantile", rel=1e-11)
    require_close(law.cdf(law.upper_quantile(0.25)), 0.75, "the cdf at the upper quantile of 1/4", rel=1e-12)
    require_close(law.quantile(0.0), 0.0, "the quantile of mass 0")
    end = float(law.quantile(1.0))
    require_close(law.cdf(end), 1.0, "the cdf at the quantile of mass 1")
    require_close(law.profile(2 * end), -math.inf, "g beyond the quantile of mass 1, which is the end of the support")
    require(math.isinf(end) or np.isfinite(law.profile(end)), f"expected a finite g at the end {end} of the support")


def single_precision_follows_double(law: NormLaw) -> None:
    """g in float32 is g in float64 up to rounding, and keeps the dtype."""
    law = copy.deepcopy(law).float()
    r = torch.from_numpy(law.quantile([1e-6, 0.01, 0.5, 0.99])).float()
    profile = law.log_profile(r)
    require(profile.dtype == torch.float32, f"expected a profile in float32; got {profile.dtype}")
    exact = law.profile(r.double())
    require_close(profile.detach().numpy(), exact, "g in float32", rel=2e-6, abs_=2e-6 * max(10, law.dim))


def derivatives_match_finite_differences(law: NormLaw) -> None:
    """The gradients of g with respect to r and all parameters are those of finite differences."""
    law = _precise(law)
    r = torch.from_numpy(law.quantile([0.01, 0.4, 0.9])).requires_grad_()
    named = dict(law.named_parameters())

    def profile(point: Tensor, *values: Tensor) -> Tensor:
        given = {f"law.{name}": value for name, value in zip(named, values, strict=True)}
        result: Tensor = torch.func.functional_call(_Profile(law), given, point)
        return result

    inputs = (r, *named.values())
    is_right = torch.autograd.gradcheck(
        profile, inputs, eps=1e-7, atol=1e-4 * law.dim, rtol=1e-4, raise_exception=False
    )
    require(is_right, f"expected the derivatives of {law.kind!r} as finite differences have them; got others")


class _Profile(nn.Module):
    def __init__(self, law: NormLaw) -> None:
        super().__init__()
        self.law = law

    def forward(self, r: Tensor) -> Tensor:
        return self.law.log_profile(r)


def profile_has_limits_and_no_nan(law: NormLaw) -> None:
    """g is −∞ at negative norms and at infinity and NaN at NaN only; no gradient is NaN, at the centre either."""
    for dtype in (torch.float32, torch.float64):
        kept = copy.deepcopy(law).to(dtype)
        typical = float(kept.quantile(0.5))
        r = torch.tensor([0.0, typical, -1.0, math.inf, math.nan], dtype=dtype, requires_grad=True)
        profile = kept.log_profile(r)
        require(profile.isnan().tolist() == [False] * 4 + [True], f"expected NaN at NaN alone; got {profile.tolist()}")
        require(profile[1].isfinite(), f"expected a finite g at the median; got {profile[1].item()}")
        require(profile[2:4].tolist() == [-math.inf] * 2, f"expected −∞ at −1 and ∞; got {profile[2:4].tolist()}")
        gradients = torch.autograd.grad(profile[:4].sum(), [r, *kept.parameters()], allow_unused=True)
        odd = any(bool(gradient.isnan().any()) for gradient in gradients if gradient is not None)
        require(not odd, f"expected gradients of {kept.kind!r} without NaN at 0, −1 and ∞; got some")


def samples_follow_the_cdf(law: NormLaw) -> None:
    """A share of about q of the samples lies below the quantile of q; they have the shape and dtype asked for."""
    with seeded(law.dim):
        norms = law.sample(torch.Size([_DRAWN // 2, 2]))
    like = next(iter(law.state_dict().values()))
    require(norms.shape == (_DRAWN // 2, 2), f"expected samples of shape ({_DRAWN // 2}, 2); got {tuple(norms.shape)}")
    require(norms.dtype == like.dtype, f"expected samples in {like.dtype}; got {norms.dtype}")
    require(not norms.requires_grad, "expected samples without gradient; got some with one")
    for mass in (0.1, 0.5, 0.9):
        share = (norms.double().numpy() <= law.quantile(mass)).mean()
        require_close(
            share, mass, "the share of samples below a quantile", abs_=4 * math.sqrt(mass * (1 - mass) / _DRAWN)
        )


def restricted_samples_are_uniform_in_mass(law: NormLaw) -> None:
    """Samples between two norms lie there, and their cdf is uniform between those of the two."""
    law = _precise(law)
    for low, high in ((1e-9, 2e-9), (0.2, 0.95)):
        ends = law.quantile([low, high])
        with seeded(law.dim):
            norms = law.sample_between(np.full(_DRAWN, ends[0]), np.full(_DRAWN, ends[1]))
        require(((norms >= ends[0]) & (norms <= ends[1])).all(), "expected samples between two norms; got others")
        middle = ((law.cdf(norms) - low) / (high - low)).mean()
        require_close(
            middle, 0.5, "the mean of the share of mass below restricted samples", abs_=4 / math.sqrt(12 * _DRAWN)
        )


def profile_modes_are_its_maxima(law: NormLaw) -> None:
    """The profile of each component rises up to its mode and falls from there; `is_decreasing` says only what is true."""
    law = _precise(law)
    for component, mode in zip(law.simple_laws(), law.profile_modes(), strict=True):
        grid = _grid(component)
        values = component.profile(grid)
        slack = 1e-12 * np.maximum(1.0, np.abs(values[1:]))
        wrong = np.where(grid[1:] <= mode, np.diff(values) < -slack, (grid[:-1] >= mode) & (np.diff(values) > slack))
        require(
            not wrong.any(), f"expected a profile of {component.kind!r} with its one maximum at {mode}; got another"
        )
    grid = _grid(law)
    values = law.profile(grid)
    falls = (np.diff(values) <= 1e-12 * np.maximum(1.0, np.abs(values[1:]))).all()
    require(falls or not law.is_decreasing, f"expected a decreasing profile of {law.kind!r}; got one that rises")


def _grid(law: NormLaw) -> Vector:
    masses = np.geomspace(1e-12, 0.5, 2000), np.linspace(0.4, 1e-6, 200)
    return np.unique(np.concatenate([law.quantile(masses[0]), law.upper_quantile(masses[1])]))


def configuration_and_state_rebuild_it(law: NormLaw) -> None:
    """`config` and the state make the same law again, other parameters than at the start included: it is in the table."""
    law = _precise(law)
    with torch.no_grad():
        for parameter in law.parameters():
            parameter.add_(0.1)
    again = norm_law_from_config(law.config(), law.dim).double()
    again.load_state_dict(law.state_dict())
    r = law.quantile(_TAILS)
    require_close(again.profile(r), law.profile(r), "g of the law that config and state make")
    require(again.config() == law.config(), f"expected the description {law.config()}; got {again.config()}")


def rescaling_is_that_of_the_norm(law: NormLaw) -> None:
    """After `rescale(c)` it is the law of c·R."""
    law = _precise(law)
    r = law.quantile([0.001, 0.2, 0.5, 0.9])
    for factor in (0.3, 1.0, 5.0):
        scaled = copy.deepcopy(law)
        scaled.rescale(factor)
        require_close(scaled.cdf(factor * r), law.cdf(r), "P(cR ≤ cr) of the rescaled law", rel=1e-9)
        moved = law.profile(r) - law.dim * math.log(factor)
        require_close(scaled.profile(factor * r), moved, "g of the rescaled law", rel=1e-9, abs_=1e-9 * law.dim)


def log_tail_is_the_logarithm_of_the_tail(law: NormLaw) -> None:
    """log P(R > r) is the logarithm of `sf` where that is a float, 0 at 0, −∞ at ∞, and falls where `sf` is none."""
    law = _precise(law)
    r = np.concatenate([law.quantile([1e-12, 0.1, 0.5]), law.upper_quantile([0.3, 1e-6])])
    require_close(law.log_sf(r), np.log(law.sf(r)), "log P(R > r)", rel=1e-10, abs_=1e-15)
    require_close(law.log_sf([0.0, math.inf]), [0.0, -math.inf], "log P(R > 0) and log P(R > ∞)")
    far = law.log_sf(float(law.upper_quantile(1e-250)) * np.array([1.0, 1.5, 3.0, 30.0]))
    falls = far[1:][np.isfinite(far[1:])] < far[:-1][np.isfinite(far[1:])]
    require(falls.all(), f"expected log P(R > r) to fall; got {far.tolist()}")


NORM_LAWS: tuple[Callable[[NormLaw], None], ...] = (
    density_integrates_to_the_cdf,
    tails_add_up,
    quantiles_invert_both_tails,
    single_precision_follows_double,
    derivatives_match_finite_differences,
    profile_has_limits_and_no_nan,
    samples_follow_the_cdf,
    restricted_samples_are_uniform_in_mass,
    profile_modes_are_its_maxima,
    configuration_and_state_rebuild_it,
    rescaling_is_that_of_the_norm,
    log_tail_is_the_logarithm_of_the_tail,
)
"""Every law of a law of the norm; each raises AssertionError where it is broken."""
