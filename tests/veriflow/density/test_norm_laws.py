"""The laws every norm law obeys, over the table of bases, those of the test-kit and, by mpmath, of their digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from veriflow.density.mixtures import MixtureLaw, norm_law_from_config
from veriflow.density.radial import BASES, make_base
from veriflow.density.simple_laws import BallLaw, ChiLaw, GammaLaw, LogNormalLaw, WeibullLaw
from veriflow.errors import ModelError, RegionError
from veriflow.numerics.bisection import bisect_doubles
from veriflow.testing import NORM_LAWS

DIMS = (1, 2, 7, 64, 1000)
EVERY_LAW = [(name, dim) for name in BASES for dim in DIMS]
every_law = pytest.mark.parametrize(("name", "dim"), EVERY_LAW)


def law_of(name, dim):
    return make_base(name, dim).law.double()


def exact_tails(law, r):
    """(P(R ≤ r), P(R > r)) of a simple law with 60 digits."""
    values = {name: mpmath.mpf(value.item()) for name, value in law.state_dict().items()}
    match law:
        case LogNormalLaw():
            deviation = (mpmath.log(r) - values["log_median"]) / mpmath.exp(values["log_sigma"])
            return mpmath.ncdf(deviation), mpmath.ncdf(-deviation)
        case BallLaw():
            inside = (mpmath.mpf(r) / values["radius"]) ** law.dim
            return inside, 1 - inside
    x, d = mpmath.mpf(r) / mpmath.exp(values["log_scale"]), law.dim
    shape = mpmath.exp(values["log_shape"]) if "log_shape" in values else None
    k, y = {
        GammaLaw: lambda: (shape or d, x),
        ChiLaw: lambda: (mpmath.mpf(d) / 2, x**2),
        WeibullLaw: lambda: (1, x**shape),
    }[type(law)]()
    return mpmath.gammainc(k, 0, y, regularized=True), mpmath.gammainc(k, y, regularized=True)


@every_law
@pytest.mark.parametrize("obeys", NORM_LAWS, ids=lambda law: law.__name__)
def test_a_law_obeys_what_the_kit_asks_of_every_law(name, dim, obeys):
    obeys(make_base(name, dim).law)


@every_law
def test_both_tails_agree_with_sixty_digits(name, dim):
    law = law_of(name, dim)
    weights = law.weights() if isinstance(law, MixtureLaw) else [1.0]
    with mpmath.workdps(60):
        for r in [*law.quantile([1e-12, 0.3]), *law.upper_quantile([1e-12, 0.3])]:
            tails = [exact_tails(component, r) for component in law.simple_laws()]
            below, above = (float(sum(w * t[i] for w, t in zip(weights, tails, strict=True))) for i in (0, 1))
            # One ulp of r is d ulps of the mass, and the tails of a law cannot be sharper than that.
            assert float(law.cdf(r)) == pytest.approx(below, rel=1e-11 + 1e-14 * dim)
            assert float(law.sf(r)) == pytest.approx(above, rel=1e-11 + 1e-14 * dim)


@pytest.mark.parametrize(
    ("law", "limit"),
    [
        (GammaLaw(3, 2.0), -3 * math.log(2) - math.log(2)),
        (GammaLaw(3, 2.0, shape=2.0), math.inf),
        (GammaLaw(3, 2.0, shape=4.0), -math.inf),
        (ChiLaw(2, 3.0), -2 * math.log(3)),
        (WeibullLaw(1, 2.0, shape=1.0), -math.log(2)),
        (WeibullLaw(2, 2.0, shape=0.5), math.inf),
        (WeibullLaw(2, 2.0, shape=5.0), -math.inf),
        (LogNormalLaw(5), -math.inf),
        (BallLaw(4, 2.0), math.log(4) - 4 * math.log(2)),
        (MixtureLaw([GammaLaw(3, 2.0), GammaLaw(3, 2.0)]), -3 * math.log(2) - math.log(2)),
        (MixtureLaw([GammaLaw(3, 2.0), GammaLaw(3, 2.0, shape=2.0)]), math.inf),
        (MixtureLaw([GammaLaw(3, 2.0), LogNormalLaw(3)]), -3 * math.log(2) - 2 * math.log(2)),
        (MixtureLaw([LogNormalLaw(3), LogNormalLaw(3)]), -math.inf),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_centre_has_the_limit_and_no_nan(law, limit, dtype):
    r = torch.tensor([0.0, 0.5, -1.0, math.inf, math.nan], dtype=dtype, requires_grad=True)
    profile = law.to(dtype).log_profile(r)
    assert profile[0].item() == pytest.approx(limit, rel=1e-6)
    assert profile[1].isfinite()
    assert profile[2:4].tolist() == [-math.inf, -math.inf]
    assert profile[4].isnan()
    gradients = torch.autograd.grad(profile[:4].sum(), [r, *law.parameters()], allow_unused=True)
    assert not any(g.isnan().any() for g in gradients if g is not None)


def test_an_overflowing_component_leaves_the_others_their_gradient():
    law = MixtureLaw([WeibullLaw(9, 1e-3, shape=40.0), GammaLaw(9, 1.0)])
    r = torch.tensor([5.0], requires_grad=True)
    law.log_profile(r).sum().backward()
    assert r.grad.item() == pytest.approx(-1, rel=1e-5)
    assert all(p.grad.isfinite().all() for p in law.parameters())


@pytest.mark.parametrize(
    ("law", "decreasing"),
    [
        (GammaLaw(5), True),
        (GammaLaw(5, shape=4.9), True),
        (GammaLaw(5, shape=5.1), False),
        (WeibullLaw(5, shape=4.9), True),
        (WeibullLaw(5, shape=5.1), False),
        (ChiLaw(7), True),
        (BallLaw(3), True),
        (LogNormalLaw(2), False),
        (MixtureLaw([GammaLaw(5), WeibullLaw(5, shape=2.0)]), True),
        (MixtureLaw([GammaLaw(5), WeibullLaw(5, shape=30.0)]), False),
    ],
)
def test_is_decreasing_says_whether_the_profile_falls(law, decreasing):
    grid = np.concatenate(
        [law.quantile(np.geomspace(1e-12, 0.5, 2000)), law.upper_quantile(np.linspace(0.4, 1e-6, 200))]
    )
    grid = np.unique(np.append(grid, law.profile_modes()))
    steps = np.diff(law.profile(grid))
    assert law.is_decreasing is decreasing
    assert (steps <= 1e-12).all() == decreasing


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"law": "cauchy"},
        {"law": "chi", "scale": 1},
        {"law": "gamma", "free_shape": 1},
        {"law": "ball", "radius": -1},
        {"law": "mixture", "components": []},
        {"law": "mixture", "components": ["chi"]},
        {"law": "mixture", "components": [{"law": "mixture", "components": [{"law": "chi"}]}]},
        {"law": "mixture", "components": [{"law": "ball", "radius": 1.0}]},
        {"law": "mixture", "components": [{"law": "chi"}] * 1025},
    ],
)
def test_a_foreign_configuration_is_refused(config):
    with pytest.raises(ModelError, match=r"expected .*; got "):
        norm_law_from_config(config, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GammaLaw(0),
        lambda: GammaLaw(2.0),
        lambda: GammaLaw(2, scale=0.0),
        lambda: WeibullLaw(2, shape=math.nan),
        lambda: LogNormalLaw(2, sigma=-1.0),
        lambda: MixtureLaw([GammaLaw(2), GammaLaw(3)]),
    ],
)
def test_an_impossible_law_is_refused(build):
    with pytest.raises(ModelError, match=r"expected .*; got "):
        build()


@pytest.mark.parametrize("mass", [-0.1, 1.1, math.nan])
def test_an_impossible_mass_is_refused(mass):
    with pytest.raises(RegionError, match=r"expected masses in \[0, 1\]; got"):
        GammaLaw(2).quantile([0.5, mass])


@given(st.lists(st.floats(min_value=0, allow_nan=False), min_size=1, max_size=5))
def test_bisection_finds_the_very_double(thresholds):
    target = np.array(thresholds)
    found = bisect_doubles(lambda r: r <= target, np.zeros_like(target), np.full_like(target, math.inf))
    assert (found == target).all()
    assert (bisect_doubles(lambda r: r < 0, target, np.full_like(target, math.inf)) == target).all()


@every_law
def test_the_log_of_the_tail_has_its_digits_where_the_tail_is_no_float(name, dim):
    law = law_of(name, dim)
    if name == "uniform-ball":
        assert law.log_sf(2 * law.radius.item()) == -math.inf
        return
    far = law.upper_quantile(1e-250) * np.array([1.0, 1.5, 3.0, 30.0])
    weights = law.weights() if isinstance(law, MixtureLaw) else [1.0]
    with mpmath.workdps(60):
        for r, found in zip(far, law.log_sf(far), strict=True):
            tails = [exact_tails(component, r)[1] for component in law.simple_laws()]
            exact = mpmath.log(sum(w * tail for w, tail in zip(weights, tails, strict=True)))
            assert float(found) == pytest.approx(float(exact), rel=1e-11)
    assert (np.diff(law.log_sf(far)) < 0).all()
    assert (law.sf(10 * far) == 0).any() or "lognormal" in name
