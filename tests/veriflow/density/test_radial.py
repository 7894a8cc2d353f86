"""Radial bases against known densities, quadrature and moments, over the table BASES × p × dimensions."""

import doctest
import itertools
import math

import pytest
import scipy.integrate
import torch
from torch.distributions import Distribution, Independent, Laplace, Normal, Uniform

import veriflow.density.radial
from veriflow.density.radial import BASES, RadialBase, base_from_config, exponential, make_base, normal, uniform_ball
from veriflow.density.simple_laws import GammaLaw
from veriflow.errors import ModelError
from veriflow.testing import BASE_LAWS

DIMS = (1, 2, 7, 64, 1000)
NORMS = (1, 2, math.inf)
ONE_NORM = {"laplace": 1, "normal": 2}
EVERY_BASE = [(name, dim, p) for name, dim, p in itertools.product(BASES, DIMS, NORMS) if p == ONE_NORM.get(name, p)]
every_base = pytest.mark.parametrize(("name", "dim", "p"), EVERY_BASE)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("constructor", "coordinate"),
    [
        (exponential, Laplace(torch.zeros((), dtype=torch.float64), math.sqrt(0.5))),
        (normal, Normal(torch.zeros((), dtype=torch.float64), 1.0)),
        (uniform_ball, Uniform(torch.tensor(-math.sqrt(3), dtype=torch.float64), math.sqrt(3))),
    ],
)
def test_known_densities(constructor, coordinate, dim, dtype):
    torch.manual_seed(dim)
    z = torch.cat([3 * torch.rand(20, dim, dtype=dtype) - 1.5, torch.zeros(1, dim, dtype=dtype)])
    exact = coordinate.log_prob(z.double()).sum(-1)
    # A new base rounds its scale to float32 in either dtype.
    torch.testing.assert_close(constructor(dim).to(dtype).log_prob(z).double(), exact, rtol=1e-6, atol=1e-6 * dim)


def test_the_laplace_density_of_scale_one_is_exact_to_rounding():
    base = RadialBase(1, GammaLaw(3, 1.0)).double()
    z = torch.tensor([[0.1, -2.0, 0.0], [3.0, 1.0, -0.2]], dtype=torch.float64)
    exact = Laplace(torch.zeros((), dtype=torch.float64), 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(base.log_prob(z), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("p", "volumes"), [(1, (2, 2, 4 / 3)), (2, (2, math.pi, 4 / 3 * math.pi)), (math.inf, (2, 4, 8))]
)
def test_the_sphere_has_the_area_of_geometry(p, volumes):
    for dim, volume in enumerate(volumes, start=1):
        assert exponential(dim, p).log_sphere_area == pytest.approx(math.log(dim * volume), rel=1e-14)


@every_base
@pytest.mark.parametrize("obeys", BASE_LAWS, ids=lambda law: law.__name__)
def test_a_base_obeys_what_the_kit_asks_of_every_base(name, dim, p, obeys):
    obeys(make_base(name, dim, p))


@pytest.mark.parametrize(("name", "dim", "p"), [case for case in EVERY_BASE if case[1] == 1])
def test_the_density_of_one_coordinate_integrates_to_one(name, dim, p):
    base = make_base(name, dim, p).double()
    far = float(base.law.upper_quantile(1e-7))

    def density(*z):
        return base.log_prob(torch.tensor(z, dtype=torch.float64)).exp().item()

    halves = [scipy.integrate.quad(density, *ends, limit=200)[0] for ends in ((-far, 0), (0, far))]
    assert sum(halves) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_directions_have_the_moments_of_the_cone_measure(p, dim):
    torch.manual_seed(5)
    u = exponential(dim, p).double().directions(torch.Size([5000]))
    torch.testing.assert_close(torch.linalg.vector_norm(u, p, -1), torch.ones(5000, dtype=torch.float64))
    second = {1: 2 / (dim * (dim + 1)), 2: 1 / dim, math.inf: (dim + 2) / (3 * dim)}[p]
    squares = u[:, 0] ** 2
    assert abs(squares.mean().item() - second) <= 4 * squares.std().item() / math.sqrt(5000) + 1e-12


@every_base
def test_a_new_base_expects_standardised_data(name, dim, p):
    torch.manual_seed(1)
    law, coordinate = make_base(name, dim, p).law, Laplace(0, math.sqrt(0.5)) if p == 1 else Normal(0, 1)
    norms = torch.linalg.vector_norm(coordinate.sample((400, dim)), p, -1)
    if name == "uniform-ball":  # it must have unit variance itself, whatever falls outside
        norms = torch.linalg.vector_norm(make_base(name, dim, p).sample((400,)), p, -1)
    assert 0.02 < law.cdf(norms.median().item()) < 0.98


@pytest.mark.parametrize("p", NORMS)
def test_a_uniform_ball_has_unit_variance(p):
    torch.manual_seed(2)
    z = uniform_ball(5, p).sample((20000,))
    assert z.var(0).tolist() == pytest.approx([1] * 5, abs=0.05)


def test_mixture_components_start_distinct_and_around_the_single_law():
    scales = [law.log_scale.item() for law in make_base("gamma-mixture", 9, 1, components=3).law.simple_laws()]
    assert scales == sorted(set(scales))
    assert scales[1] == pytest.approx(exponential(9).law.log_scale.item(), rel=1e-5)
    assert make_base("gamma-mixture", 9, components=1).law.simple_laws()[0].log_scale.item() == pytest.approx(scales[1])


def test_a_base_is_a_torch_distribution_and_a_module():
    base = make_base("gamma-mixture", 3)
    assert isinstance(base, Distribution)
    assert isinstance(base, torch.nn.Module)
    assert (base.batch_shape, base.event_shape, base.has_rsample) == ((), (3,), False)
    assert Independent(base, 0).log_prob(torch.zeros(4, 3)).shape == (4,)
    assert base.support.check(torch.zeros(3))
    assert {name for name, _ in base.named_parameters()} >= {"law.logits", "law.components.0.log_scale"}
    assert base.double().sample().dtype == torch.float64
    with pytest.raises(NotImplementedError):
        base.expand((2,))


@pytest.mark.parametrize("z", [torch.zeros(()), torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64)])
def test_latents_of_another_shape_are_refused(z):
    with pytest.raises(ModelError, match=r"expected float latents of shape \(\.\.\., 3\); got "):
        exponential(3).log_prob(z)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_base("cauchy", 2), "expected one of the bases exponential, .*; got 'cauchy'"),
        (lambda: make_base("normal", 2, 1), "expected p = 2 for a normal base; got p = 1"),
        (lambda: make_base("laplace", 2, 2), "expected p = 1 for a Laplace base; got p = 2"),
        (lambda: make_base("exponential", 2, 3), "expected a norm p of 1, 2 or infinity; got 3"),
        (lambda: make_base("exponential", 2, components=3), "expected for the base .*; got .*components"),
        (lambda: make_base("gamma-mixture", 2, components=0), "expected 1 to 1024 components; got 0"),
        (lambda: make_base("normal", 0), "expected a positive whole number of dimensions; got 0"),
        (lambda: make_base("lognormal", 0), "expected a positive whole number of dimensions; got 0"),
        (lambda: make_base("weibull-mixture", -1), "expected a positive whole number of dimensions; got -1"),
        (lambda: make_base("uniform-ball", 2.5), "expected a positive whole number of dimensions; got 2.5"),
        (lambda: base_from_config({"p": 2}, 2), "expected a base's configuration with p and law; got "),
        (lambda: base_from_config({"p": [1], "law": {"law": "chi"}}, 2), "expected a norm p of 1, 2 or infinity; got"),
        (lambda: base_from_config({"p": 2, "law": {"law": "x"}}, 2), "expected the configuration of a norm law; got "),
    ],
)
def test_impossible_bases_are_refused(build, message):
    with pytest.raises(ModelError, match=message):
        build()


def test_the_example_in_the_docstring_runs():
    result = doctest.testmod(veriflow.density.radial)
    assert result.attempted > 0
    assert result.failed == 0
