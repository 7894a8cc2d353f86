"""Level sets: exact masses by quadrature that knows nothing of them, and the algebra of sets on a scaling flow."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from veriflow.density.level_sets import calibrated_level_set, lower_level_set, upper_level_set
from veriflow.density.mixtures import MixtureLaw
from veriflow.density.radial import BASES, RadialBase, exponential, make_base, uniform_ball
from veriflow.density.radial_sets import interval_mass, radial_level_set, radial_set_above
from veriflow.density.simple_laws import GammaLaw, LogNormalLaw, WeibullLaw
from veriflow.errors import ModelError, RegionError

DIMS = (1, 2, 7, 64, 1000)
MASSES = (1e-6, 0.3, 0.9, 1 - 1e-6)
SHELLED = {
    "two gammas": lambda: MixtureLaw([GammaLaw(7, 0.1, 60.0), GammaLaw(7, 0.1, 300.0)]),
    "ball and two gammas": lambda: MixtureLaw([GammaLaw(7, 0.05), GammaLaw(7, 0.02, 200.0), GammaLaw(7, 0.1, 300.0)]),
    "close gammas": lambda: MixtureLaw([GammaLaw(2, 0.1, 40.0), GammaLaw(2, 0.1, 60.0), GammaLaw(2, 0.1, 90.0)]),
    "weibull": lambda: WeibullLaw(3, 2.0, 11.0),
    "weibulls of 64": lambda: MixtureLaw([WeibullLaw(64, 2.0, 200.0), WeibullLaw(64, 2.1, 30.0)]),
    "log-normal": lambda: LogNormalLaw(2, 1.0, 0.5),
    "log-normals of 1000": lambda: MixtureLaw([LogNormalLaw(1000, 30.0, 0.01), LogNormalLaw(1000, 33.0, 0.002)]),
    "gammas of 1000": lambda: MixtureLaw([GammaLaw(1000, 0.1, 3000.0), GammaLaw(1000, 0.3, 1100.0)]),
    "nearly decreasing": lambda: GammaLaw(5, 1.0, 5.001),
}


class Scaling:
    """x = scale·z, as a flow."""

    def __init__(self, base, scale=3.0):
        self.base, self.scale = base, scale

    def latent(self, x):
        return x / self.scale

    def forward(self, z):
        return z * self.scale

    def log_volume(self):
        return self.base.dim * math.log(self.scale)

    def log_prob(self, x):
        return self.base.log_prob(self.latent(x)) - self.log_volume()


def quadrature(law, intervals):
    """P(R in the intervals) by Gauss-Legendre panels between many quantiles, from the profile alone."""
    masses = np.concatenate([np.geomspace(1e-13, 0.05, 40), np.linspace(0.06, 0.5, 40)])
    quantiles = [f(masses) for simple in law.simple_laws() for f in (simple.quantile, simple.upper_quantile)]
    grid = np.unique(np.concatenate([[0.0], *quantiles]))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = 0.0
    for inner, outer in intervals:
        outer = min(outer, grid[-1])  # noqa: PLW2901 - the mass beyond is 1e-13
        ends = np.unique(np.concatenate([[inner, outer], grid[(grid > inner) & (grid < outer)]]))
        half = (ends[1:] - ends[:-1])[:, None] / 2
        r = (ends[1:] + ends[:-1])[:, None] / 2 + half * nodes
        total += (half * weights * np.exp(law.profile(r) + (law.dim - 1) * np.log(r))).sum()
    return total


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", [name for name in BASES if name != "lognormal-mixture"])
def test_mass_to_set_to_mass(name, dim):
    law = make_base(name, dim).law.double()
    masses = MASSES if law.is_decreasing else (0.9,)  # the extremes are SHELLED's
    for mass in masses:
        intervals, threshold = radial_level_set(law, mass)
        assert interval_mass(law, intervals) == pytest.approx(mass, rel=0, abs=1e-12)
        assert quadrature(law, intervals) == pytest.approx(mass, rel=0, abs=1e-9)
        ends = [end for interval in intervals for end in interval if end > 0]
        assert law.profile(ends) == pytest.approx(threshold, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", SHELLED)
@pytest.mark.parametrize("mass", [1e-6, 0.7, 1 - 1e-6])
def test_shells_are_exactly_where_the_profile_is_high(name, mass):
    law = SHELLED[name]().double()
    intervals, threshold = radial_level_set(law, mass)
    assert quadrature(law, intervals) == pytest.approx(mass, rel=0, abs=1e-9)
    quantiles = np.linspace(1e-5, 1 - 1e-5, 4000)
    dense = np.unique(np.concatenate([simple.quantile(quantiles) for simple in law.simple_laws()]))
    ends = np.array(intervals)
    inside = ((dense[:, None] >= ends[:, 0]) & (dense[:, None] <= ends[:, 1])).any(1)
    profile = law.profile(dense)
    clear = np.abs(profile - threshold) > 1e-9 * max(1, abs(threshold))
    assert (inside == (profile >= threshold))[clear].all()
    again = radial_set_above(law, threshold)
    if mass > 1e-3:  # nearer the top the mass moves with the last digit of the threshold
        assert interval_mass(law, again.intervals) == pytest.approx(mass, abs=1e-9)


def test_shell_counts_grow_and_merge():
    law = SHELLED["ball and two gammas"]().double()
    counts = [len(radial_level_set(law, mass).intervals) for mass in (0.05, 0.6, 0.999)]
    assert counts == [1, 2, 3]
    assert len(radial_level_set(SHELLED["two gammas"]().double(), 0.6).intervals) == 2
    assert len(radial_level_set(SHELLED["close gammas"]().double(), 1 - 1e-6).intervals) == 1


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0.05, 5), st.floats(0.2, 8)), min_size=1, max_size=3),
    st.floats(0.001, 0.999),
)
def test_any_gamma_mixture_has_the_exact_mass(dim, components, mass):
    law = MixtureLaw([GammaLaw(dim, scale, shape * dim) for scale, shape in components]).double()
    intervals, threshold = radial_level_set(law, mass)
    assert interval_mass(law, intervals) == pytest.approx(mass, rel=0, abs=1e-12)
    middles = np.array([(a + b) / 2 for a, b in intervals])
    gaps = np.array([(a[1] + b[0]) / 2 for a, b in itertools.pairwise(intervals)])
    assert (law.profile(middles) >= threshold - 1e-9).all()
    assert (law.profile(gaps) <= threshold + 1e-9).all()


def test_the_tie_of_the_uniform_ball_is_the_concentric_ball():
    base = uniform_ball(3, 2).double()
    level_set = upper_level_set(Scaling(base), mass=0.25)
    assert level_set.radius == pytest.approx(float(base.law.radius) * 0.25 ** (1 / 3), rel=1e-14)
    assert level_set.log_density_threshold == pytest.approx(
        -math.log(4 / 3 * math.pi * (3 * float(base.law.radius)) ** 3)
    )


def test_interval_mass_keeps_small_numbers_of_both_tails():
    law = GammaLaw(1, 1.0).double()
    assert interval_mass(law, ((0.0, 1e-20),)) == pytest.approx(1e-20, rel=1e-12)
    assert interval_mass(law, ((100.0, math.inf),)) == pytest.approx(math.exp(-100), rel=1e-12)
    assert interval_mass(law, ((100.0, 101.0), (200.0, math.inf))) == pytest.approx(
        math.exp(-100) - math.exp(-101), rel=1e-12
    )
    assert interval_mass(law, ()) == 0


FLOWS = {
    "ball": lambda: Scaling(exponential(3).double()),
    "box": lambda: Scaling(make_base("gamma-mixture", 5, math.inf).double()),
    "shells": lambda: Scaling(RadialBase(2, SHELLED["two gammas"]().double())),
    "one shell": lambda: Scaling(make_base("lognormal", 2).double()),
}
every_flow = pytest.mark.parametrize("flow", [build() for build in FLOWS.values()], ids=FLOWS)


@every_flow
@pytest.mark.parametrize("mass", [0.01, 0.7])
def test_upper_and_lower_sets_split_space_by_density(flow, mass):
    upper, lower = upper_level_set(flow, mass=mass), lower_level_set(flow, mass=1 - mass)
    torch.manual_seed(6)
    x = flow.forward(flow.base.sample((50, 40)))
    dense = flow.log_prob(x) >= upper.log_density_threshold
    assert dense.any()
    assert not dense.all()
    assert torch.equal(upper.contains(x), dense)
    assert torch.equal(lower.contains(x), ~dense)
    assert torch.equal(upper.complement().contains(x), ~dense)
    twice = upper.complement().complement()
    assert dataclasses.replace(twice, mass=mass) == upper
    assert twice.mass == pytest.approx(mass, rel=1e-12)
    assert (upper.side, lower.side, upper.complement().mass) == ("upper", "lower", pytest.approx(1 - mass))
    assert lower.intervals[-1][1] == math.inf
    assert abs(dense.double().mean().item() - mass) < 4 * math.sqrt(mass * (1 - mass) / 2000)


@every_flow
@pytest.mark.parametrize("build", [upper_level_set, lower_level_set])
def test_samples_lie_in_the_set_and_follow_the_flow(flow, build):
    level_set, part = build(flow, mass=0.3), build(flow, mass=0.1)
    torch.manual_seed(7)
    x = level_set.sample((40, 50))
    assert x.shape == (40, 50, flow.base.dim)
    assert level_set.contains(x).all()
    share = part.contains(x).double().mean().item()  # a third of the mass
    assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / 2000)
    assert abs((x[..., 0] > 0).double().mean().item() - 0.5) < 2 / math.sqrt(2000)
    assert level_set.sample().shape == (flow.base.dim,)


@every_flow
def test_the_three_ways_to_name_a_set_agree(flow):
    by_mass = upper_level_set(flow, mass=0.4)
    by_density = upper_level_set(flow, log_density=by_mass.log_density_threshold)
    assert by_density.mass == pytest.approx(0.4, abs=1e-9)
    assert np.array(by_density.intervals) == pytest.approx(np.array(by_mass.intervals), rel=1e-9)
    below = lower_level_set(flow, log_density=by_mass.log_density_threshold)
    assert below.mass == pytest.approx(0.6, abs=1e-9)
    if by_mass.is_ball:
        by_radius = upper_level_set(flow, radius=by_mass.radius)
        assert by_radius.mass == pytest.approx(0.4, abs=1e-12)
        assert by_radius.log_density_threshold == pytest.approx(by_mass.log_density_threshold, rel=1e-12)
        assert lower_level_set(flow, radius=by_mass.radius).mass == pytest.approx(0.6, abs=1e-12)
    else:
        with pytest.raises(RegionError, match="expected a level set that is one ball; got"):
            _ = by_mass.radius


def test_a_ball_that_is_no_density_level_set_reports_its_least_density():
    flow = Scaling(RadialBase(2, GammaLaw(2, 1.0, 5.0)))
    ball = upper_level_set(flow, radius=4.0)
    assert ball.is_ball
    assert ball.log_density_threshold == -math.inf
    law = MixtureLaw([GammaLaw(7, 0.05), GammaLaw(7, 0.02, 200.0)]).double()
    ball = upper_level_set(Scaling(RadialBase(2, law)), radius=4.0)
    r = np.linspace(1e-3, 4.0, 20001)
    shift = ball.flow.base.log_sphere_area + ball.flow.log_volume()
    assert ball.log_density_threshold + shift == pytest.approx(law.profile(r).min(), abs=1e-4)


def test_single_precision_sets_hold_single_precision_points():
    flow = Scaling(make_base("gamma-mixture", 4))
    level_set = upper_level_set(flow, mass=0.5)
    torch.manual_seed(8)
    x = level_set.sample((1000,))
    assert x.dtype == torch.float32
    norms = flow.base.norm(flow.latent(x))
    assert (norms <= level_set.radius * (1 + 1e-6)).all()
    assert level_set.contains(x).double().mean() > 0.99
    assert level_set.p == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected exactly one of mass, radius and log_density; got "),
        ({"mass": 0.5, "radius": 1.0}, "expected exactly one of mass, radius and log_density; got "),
        ({"mass": 0.0}, "expected a mass between 0 and 1, both excluded; got 0.0"),
        ({"mass": 1.0}, "expected a mass between 0 and 1, both excluded; got 1.0"),
        ({"mass": math.nan}, "expected a mass between 0 and 1, both excluded; got nan"),
        ({"radius": 0.0}, "expected a positive finite radius; got 0.0"),
        ({"radius": math.inf}, "expected a positive finite radius; got inf"),
        ({"log_density": 99.0}, "expected a log density below the largest of the flow; got "),
        ({"log_density": math.nan}, "expected a log density below the largest of the flow; got "),
    ],
)
@pytest.mark.parametrize("build", [upper_level_set, lower_level_set])
def test_impossible_sets_are_refused(build, options, message):
    with pytest.raises(RegionError, match=message):
        build(Scaling(exponential(2)), **options)


def test_extremes_are_refused_or_answered_but_never_loop():
    spiked = GammaLaw(1, 1.0, 1e-3)  # the quantile of mass 1e-6 is 1e-6000
    with pytest.raises(RegionError, match="expected a mass that a positive double has as radius; got 1e-06"):
        radial_level_set(spiked, 1e-6)
    with pytest.raises(RegionError, match="expected a mass that a positive double has as radius; got 1e-06"):
        radial_level_set(MixtureLaw([spiked, GammaLaw(1, 1.0, 9.0)]), 1e-6)
    wide = radial_level_set(LogNormalLaw(1000, 1.0, 1.0), 0.5)  # the mode exp(−1000) is no double
    assert wide.intervals == ((0.0, pytest.approx(1.0)),)


def test_a_set_without_mass_has_no_samples():
    whole = upper_level_set(Scaling(exponential(2)), mass=0.5)
    with pytest.raises(RegionError, match="expected a level set of positive mass; got "):
        dataclasses.replace(whole, intervals=()).sample(3)


def test_points_of_another_shape_are_refused():
    with pytest.raises(ModelError, match="expected float latents"):
        upper_level_set(Scaling(exponential(2)), mass=0.5).contains(torch.zeros(4, 3))


def test_the_calibrated_radius_is_the_conformal_quantile():
    flow = Scaling(exponential(2).double())
    norms = torch.arange(1.0, 100.0, dtype=torch.float64)[
        torch.randperm(99, generator=torch.Generator().manual_seed(0))
    ]
    x = 3 * torch.stack([norms, torch.zeros(99)], -1)
    calibration = calibrated_level_set(flow, x, 0.9, confidence=0.99)
    assert calibration.level_set.radius == 90  # ⌈100·0.9⌉, though 100·0.9 and its like are no exact doubles
    assert (calibration.rows, calibration.confidence) == (99, 0.99)
    exact = scipy.stats.binomtest(90, 99, alternative="greater").proportion_ci(0.99, method="exact").low
    assert calibration.coverage_lower_bound == pytest.approx(exact, rel=1e-9)
    assert calibration.level_set.contains(x).sum() == 90


def test_the_coverage_bound_holds_as_often_as_promised():
    flow, kept = Scaling(exponential(2).double()), 0
    torch.manual_seed(9)
    for _ in range(200):
        calibration = calibrated_level_set(flow, flow.forward(flow.base.sample((60,))), 0.9, confidence=0.8)
        kept += calibration.level_set.mass >= calibration.coverage_lower_bound
    assert abs(kept / 200 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 200)


@pytest.mark.parametrize(("mass", "needed"), [(0.9, 9), (0.99, 99), (0.5, 1), (0.7, 3)])
def test_too_few_rows_are_refused_with_the_number_needed(mass, needed):
    flow = Scaling(exponential(2))
    torch.manual_seed(0)
    x = flow.base.sample((needed,))
    assert calibrated_level_set(flow, x, mass).level_set.contains(x).all()
    with pytest.raises(
        RegionError, match=f"expected at least {needed} held-out rows for a mass of {mass}; got {needed - 1}"
    ):
        calibrated_level_set(flow, x[1:], mass)
    with pytest.raises(RegionError, match="expected held-out rows of shape"):
        calibrated_level_set(flow, x[0], mass)
    with pytest.raises(RegionError, match="expected a confidence between 0 and 1"):
        calibrated_level_set(flow, x, mass, confidence=1.0)
