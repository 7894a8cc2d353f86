"""Masses of boxes against arbitrary precision, partitions, level sets and samples."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import torch

from veriflow.density.box_masses import box_masses, check_box_masses
from veriflow.density.halfspace_masses import masses_beyond
from veriflow.density.mixtures import MixtureLaw
from veriflow.density.radial import make_base
from veriflow.errors import RegionError
from veriflow.numerics.statistics import clopper_pearson

BASES = [
    ("exponential", 1),
    ("gamma-mixture", 1),
    ("exponential", math.inf),
    ("gamma-mixture", math.inf),
    ("normal", 2),
    ("uniform-ball", math.inf),
]


def mixed_base(name, p, dim):
    """A base whose mixture, if it is one, has unequal weights."""
    base = make_base(name, dim, p)
    if isinstance(base.law, MixtureLaw):
        with torch.no_grad():
            base.law.logits.copy_(torch.linspace(-1, 1, len(base.law.logits)))
    return base


def precise_mass(base, lower, upper):
    """The mass by the definitions."""
    law = base.law
    weights = law.weights() if isinstance(law, MixtureLaw) else [1.0]
    return mp.fsum(
        mp.mpf(float(w)) * _precise(base, part, lower, upper)
        for w, part in zip(weights, law.simple_laws(), strict=True)
    )


def _precise(base, law, lower, upper):
    dim, ends = base.dim, [(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(lower, upper, strict=True)]
    if base.p == 1:
        scale = mp.mpf(law.scale)

        def below(x):
            return mp.exp(x / scale) / 2 if x < 0 else 1 - mp.exp(-x / scale) / 2

        return mp.fprod(below(b) - below(a) for a, b in ends)
    if base.p == 2:
        deviation = mp.mpf(law.scale) / mp.sqrt(2)
        left = [(-b, -a) if a > 0 else (a, b) for a, b in ends]  # digits of a number near 1 are lost to its distance
        return mp.fprod(mp.ncdf(b / deviation) - mp.ncdf(a / deviation) for a, b in left)

    def share(radius):
        return mp.fprod(max(min(b, radius) - max(a, -radius), 0) / (2 * radius) for a, b in ends)

    if hasattr(law, "radius"):
        return share(mp.mpf(law.radius.item()))
    # a mixture of uniform cubes whose radius has the law Gamma(dim + 1, θ)
    scale = mp.mpf(law.scale)
    factor = 1 / ((2 * scale) ** dim * mp.factorial(dim) * scale)

    def inside(radius):
        return mp.fprod(max(min(b, radius) - max(a, -radius), 0) for a, b in ends)

    places = sorted({abs(v) for pair in ends for v in pair} | {mp.mpf(0)})
    first = max(max(a, -b, 0) for a, b in ends)  # the cubes before meet no point of the box
    pieces = [place for place in places if place >= first]
    total = mp.quad(lambda r: mp.exp(-r / scale) * inside(r), pieces) if len(pieces) > 1 else mp.mpf(0)
    return factor * (total + scale * mp.exp(-places[-1] / scale) * inside(places[-1]))


def boxes_of_all_sizes(rng, dim, count):
    """Wide, narrow and far ones, with zero inside, at an end and outside."""
    middle = rng.normal(size=(count, dim)) * 10.0 ** rng.uniform(-2, 1.2, (count, 1))
    width = 10.0 ** rng.uniform(-6, 1, (count, dim))
    lower, upper = middle - width, middle + width
    lower[::4, 0], upper[::4, 0] = 0.0, width[::4, 0]
    return lower, upper


@pytest.mark.parametrize(("name", "p"), BASES)
@pytest.mark.parametrize("dim", [1, 3])
def test_masses_are_right_in_arbitrary_precision(name, p, dim):
    base, rng = mixed_base(name, p, dim), np.random.default_rng(dim)
    lower, upper = boxes_of_all_sizes(rng, dim, 10)
    with mp.workdps(30 if p == math.inf else 60):
        for mass, a, b in zip(box_masses(base, lower, upper), lower, upper, strict=True):
            truth = precise_mass(base, a, b)
            assert abs(mp.mpf(float(mass)) - truth) <= mp.mpf("1e-12") * truth + mp.mpf("1e-290")


@pytest.mark.parametrize(("name", "p"), BASES)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_partition_of_space_has_mass_one(name, p, dim):
    rng = np.random.default_rng(dim)
    cuts = [np.sort([-np.inf, np.inf, *rng.normal(size=3)]) for _ in range(dim)]
    cells = np.array([list(zip(*parts, strict=True)) for parts in itertools.product(*map(itertools.pairwise, cuts))])
    masses = box_masses(mixed_base(name, p, dim), cells[:, 0], cells[:, 1])
    assert (masses >= 0).all()
    assert masses.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["exponential", "gamma-mixture", "uniform-ball"])
def test_a_cube_is_a_level_set_of_the_infinity_norm(name):
    base = mixed_base(name, math.inf, 30)
    radii = base.law.quantile([0.01, 0.5, 0.99])
    masses = box_masses(base, *(np.outer(sign * radii, np.ones(30)) for sign in (-1, 1)))
    assert masses == pytest.approx([0.01, 0.5, 0.99], rel=1e-11)


@pytest.mark.parametrize(("name", "p"), BASES)
def test_masses_are_frequencies(name, p):
    base, rng, trials = mixed_base(name, p, 3), np.random.default_rng(2), 40_000
    corners = np.sort(rng.normal(size=(2, 6, 3)), axis=0)
    torch.manual_seed(0)
    z = base.sample([trials]).double().numpy()
    for mass, low, high in zip(box_masses(base, *corners), *corners, strict=True):
        share = clopper_pearson(int(((z >= low) & (z <= high)).all(axis=1).sum()), trials, 1 - 1e-7)
        assert share.low <= mass <= share.high


@pytest.mark.parametrize(
    ("name", "p"), [("exponential", 2), ("weibull", 1), ("free-gamma-mixture", 1), ("lognormal", 2)]
)
def test_bases_without_closed_forms_are_refused(name, p):
    with pytest.raises(RegionError, match="masses in closed form"):
        check_box_masses(make_base(name, 2, p))


@pytest.mark.parametrize(("lower", "upper"), [([[0, 0]], [[1]]), ([[1, 0]], [[0, 1]]), ([[math.nan, 0]], [[1, 1]])])
def test_boxes_that_make_no_sense_are_refused(lower, upper):
    with pytest.raises(RegionError, match="expected box ends"):
        box_masses(make_base("exponential", 2), np.array(lower, float), np.array(upper, float))


def random_cuts(base, seed, count=24):
    """Boxes, forms, and levels between the least and the greatest value of a form in its box."""
    rng = np.random.default_rng(seed)
    middle, width = rng.normal(size=(count, base.dim)), 10.0 ** rng.uniform(-1, 0.5, (count, base.dim))
    lower, upper, rows = middle - width, middle + width, rng.normal(size=(count, 2, base.dim))
    reach = (np.abs(rows) * (upper - lower)[:, None]).sum(axis=-1)
    return lower, upper, rows, reach, rng.uniform(0.1, 0.9, (count, 2)) * reach


@pytest.mark.parametrize(("name", "p"), BASES)
@pytest.mark.parametrize("dim", [1, 2, 4])
def test_both_sides_of_a_hyperplane_are_in_the_box_and_fill_it_nearly(name, p, dim):
    base = mixed_base(name, p, dim)
    lower, upper, rows, reach, levels = random_cuts(base, dim)
    masses = box_masses(base, lower, upper)[:, None]
    both = masses_beyond(base, lower, upper, rows, levels) + masses_beyond(base, lower, upper, -rows, reach - levels)
    assert (both <= masses * (1 + 1e-12)).all()
    if base.p != math.inf or name == "uniform-ball":
        assert (both >= masses * (1 - 0.12 * (dim - 1) - 1e-9)).all()
    assert masses_beyond(base, lower, upper, rows, -levels) == pytest.approx(np.repeat(masses, 2, axis=1))
    assert not masses_beyond(base, lower, upper, rows, reach * 1.001).any()


@pytest.mark.parametrize(("name", "p"), [pair for pair in BASES if pair[1] != math.inf])
def test_a_cut_along_an_axis_leaves_a_box(name, p):
    base = mixed_base(name, p, 3)
    lower, upper, _, _, _ = random_cuts(base, 3)
    middle = lower + 0.3 * (upper - lower)
    for axis in range(3):
        rows = np.zeros((len(lower), 1, 3))
        rows[..., axis] = -2.0
        below = upper.copy()
        below[:, axis] = middle[:, axis]
        found = masses_beyond(base, lower, upper, rows, 2 * (upper - middle)[:, axis, None])
        assert found[:, 0] == pytest.approx(box_masses(base, lower, below), rel=1e-9)


@pytest.mark.parametrize(("name", "p"), BASES)
def test_no_more_is_beyond_a_hyperplane_than_samples_say(name, p):
    base, trials = mixed_base(name, p, 3), 40_000
    torch.manual_seed(1)
    z = base.sample([trials]).double().numpy()
    lower, upper, rows, _, levels = random_cuts(base, 7)
    found = masses_beyond(base, lower, upper, rows, levels)
    for low, high, forms, level, bound in zip(lower, upper, rows, levels, found, strict=True):
        least = np.minimum(forms * low, forms * high).sum(axis=-1)
        inside = ((z >= low) & (z <= high)).all(axis=1)[:, None] & (z @ forms.T >= least + level)
        for count, mass in zip(inside.sum(axis=0), bound, strict=True):
            assert mass <= clopper_pearson(int(count), trials, 1 - 1e-7).high
