"""What every radial base obeys: log densities, samples and masses of boxes are those of one density."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable

import numpy as np
import torch

from ..density.radial import RadialBase, base_from_config
from .norm_laws import check_norm_law, quadrature
from .requirements import require, require_close, seeded

_DRAWN = 2000


def check_base(base: RadialBase) -> None:
    """Run a base through all of `BASE_LAWS`, and its law of the norm through `NORM_LAWS`.

    Raises:
        AssertionError: the first that it breaks, in a sentence.
    """
    check_norm_law(base.law)
    for obeys in BASE_LAWS:
        obeys(base)


def density_integrates_to_one(base: RadialBase) -> None:
    """∫ p(z) dz = 1 in polar coordinates, in the plane; not asked in other dimensions."""
    if base.dim != 2:
        return
    base = copy.deepcopy(base).double()
    _, norms, weights = map(torch.from_numpy, quadrature(base.law))
    angle = (torch.arange(100, dtype=torch.float64) + 0.5) * math.pi / 200
    rays = torch.stack([angle.cos(), angle.sin()], -1)
    rays = rays / base.norm(rays)[:, None]
    with torch.no_grad():
        density = base.log_prob(norms[..., None, None] * rays).exp()
    along = (density * (weights * norms)[..., None]).sum((0, 1))
    total = 4 * (along * rays.square().sum(-1)).sum().item() * math.pi / 200
    require_close(total, 1, "a density that integrates to one", abs_=1e-3)


def centre_has_no_nan_and_a_zero_gradient(base: RadialBase) -> None:
    """At z = 0 the gradient with respect to z is zero, and none with respect to a parameter is NaN."""
    base = copy.deepcopy(base)
    z = torch.zeros(2, base.dim, dtype=next(iter(base.state_dict().values())).dtype, requires_grad=True)
    gradients = torch.autograd.grad(base.log_prob(z).sum(), [z, *base.parameters()], allow_unused=True)
    require(gradients[0] is None or not gradients[0].any(), "expected a gradient of zero at the centre; got another")
    odd = any(bool(gradient.isnan().any()) for gradient in gradients if gradient is not None)
    require(not odd, "expected gradients without NaN at the centre; got some")


_ALL_COORDINATES = 64
"""Dimensions above which gradients are compared along random directions, and not coordinate by coordinate."""


def gradient_matches_finite_differences(base: RadialBase) -> None:
    """The gradient of the log density with respect to z is that of finite differences."""
    base = copy.deepcopy(base).double()
    with seeded(3):
        z = (0.5 * base.sample((3,))).requires_grad_()
    is_fast = base.dim > _ALL_COORDINATES
    is_right = torch.autograd.gradcheck(
        base.log_prob, z, rtol=1e-4, atol=1e-6, raise_exception=False, fast_mode=is_fast
    )
    require(is_right, "expected the gradient that finite differences have; got another")


def samples_have_the_law_of_the_norm_and_all_signs(base: RadialBase) -> None:
    """Norms of samples follow the law of the norm, and half of the first coordinates are positive."""
    with seeded(base.dim):
        z = base.sample((_DRAWN // 2, 2))
    require(z.shape == (_DRAWN // 2, 2, base.dim), f"expected {_DRAWN // 2} × 2 samples; got shape {tuple(z.shape)}")
    norms = base.norm(z).double().numpy()
    for mass in (0.2, 0.5, 0.8):
        share, spread = (norms <= base.law.quantile(mass)).mean(), math.sqrt(mass * (1 - mass) / _DRAWN)
        require_close(share, mass, "the share of samples below a quantile of the norm", abs_=4 * spread)
    positive = (z[..., 0] > 0).double().mean().item()
    require_close(positive, 0.5, "the share of positive coordinates", abs_=2 / math.sqrt(_DRAWN))


def boxes_have_the_mass_of_their_samples(base: RadialBase) -> None:
    """P(lower ≤ z ≤ upper), where it has a closed form, is the share of samples in the box; in up to 16 dimensions."""
    if base.dim > 16:
        return
    base = copy.deepcopy(base).double()
    with seeded(base.dim):
        z = base.sample((_DRAWN,)).numpy()
    spread = np.abs(z).mean(axis=0)
    lower, upper = np.stack([-2 * spread, 0 * spread]), np.stack([2 * spread, 3 * spread])
    laws = base.law.simple_laws()
    each = [law.box_masses(base.p, lower, upper) for law in laws]
    known = [masses for masses in each if masses is not None]
    if len(known) < len(laws):
        return
    masses = base.law.weights() @ np.stack(known)
    shares = np.array([((z >= a) & (z <= b)).all(axis=1).mean() for a, b in zip(lower, upper, strict=True)])
    require_close(shares, masses, "the share of samples in a box", abs_=2.5 / math.sqrt(_DRAWN))


def configuration_and_state_rebuild_it(base: RadialBase) -> None:
    """`config`, as JSON, and the state make the same base again."""
    again = base_from_config(json.loads(json.dumps(base.config())), base.dim)
    again.to(next(iter(base.state_dict().values())).dtype).load_state_dict(base.state_dict())
    with seeded(4):
        z = base.sample((5,))
    with torch.no_grad():
        require(torch.equal(again.log_prob(z), base.log_prob(z)), "expected the same log densities again; got others")
    require(again.p == base.p, f"expected the norm {base.p}; got {again.p}")


BASE_LAWS: tuple[Callable[[RadialBase], None], ...] = (
    density_integrates_to_one,
    centre_has_no_nan_and_a_zero_gradient,
    gradient_matches_finite_differences,
    samples_have_the_law_of_the_norm_and_all_signs,
    boxes_have_the_mass_of_their_samples,
    configuration_and_state_rebuild_it,
)
"""Every law of a radial base beside those of its law of the norm; each raises AssertionError where it is broken."""
