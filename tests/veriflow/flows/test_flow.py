"""Laws of bijections and flows, over one table of flows."""

import math

import pytest
import torch
from flow_table import FLOWS, make_flow
from torch.distributions import Distribution

from veriflow.density.radial import BASES, make_base
from veriflow.errors import ModelError
from veriflow.flows.bijections.affine import LU, AffineProduct, Householder, Permutation, Standardisation
from veriflow.flows.bijections.chain import Chain
from veriflow.flows.bijections.coupling import Conjugate, CouplingBlock
from veriflow.flows.flow import USFlow
from veriflow.piecewise.evaluate import evaluate
from veriflow.testing import check_bijection


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_inverse_after_forward_is_the_identity(name, dtype, tolerance):
    flow = make_flow(name, dtype)
    z = torch.randn(3, 4, flow.dim, dtype=dtype)
    x = flow(z)
    assert x.dtype == torch.float64
    assert flow.latent(x).dtype == flow.log_prob(x).dtype == dtype
    assert x.shape == z.shape
    assert (flow.latent(x) - z).abs().max() < tolerance
    assert (flow(flow.latent(x)) - x).abs().max() < 10 * tolerance


@pytest.mark.parametrize("name", FLOWS)
def test_the_log_determinant_is_autograds_and_the_same_everywhere(name):
    flow = make_flow(name)
    for _ in range(3):
        z = torch.randn(flow.dim, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(flow.forward, z)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(flow.log_volume(), abs=1e-10)
        x = flow(z).detach()
        back = torch.autograd.functional.jacobian(flow.latent, x)
        assert torch.linalg.slogdet(back)[1].item() == pytest.approx(-flow.log_volume(), abs=1e-10)


@pytest.mark.parametrize("name", FLOWS)
def test_gradients_are_right_and_reach_every_parameter(name):
    flow = make_flow(name)
    x = flow.sample((5,)).requires_grad_()
    names, values = zip(*flow.named_parameters(), strict=True)

    def log_prob(x, *values):
        return torch.func.functional_call(flow, dict(zip(names, values, strict=True)), (x,))

    flow.forward, kept = flow.log_prob, flow.forward  # functional_call calls forward
    assert torch.autograd.gradcheck(log_prob, (x, *values), fast_mode=True)
    flow.forward = kept
    flow.log_prob(x).sum().backward()
    assert [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ["default", "deep conditioners", "affine conditioners"])
def test_what_happens_between_a_value_and_its_gradient_does_no_harm(name):
    flow = make_flow(name)
    x = flow.sample((5,)).requires_grad_()
    inputs = [x, *flow.bijection.parameters()]
    expected = torch.autograd.grad((2 * flow.latent(x)).sum(), inputs)
    value = flow.latent(x).mul_(2).sum()
    flow.latent(x + 1).sum().backward()
    for _ in range(2):
        assert all(map(torch.equal, expected, torch.autograd.grad(value, inputs, retain_graph=True)))
    with torch.no_grad():
        inputs[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, inputs)


@pytest.mark.parametrize("name", FLOWS)
def test_a_fresh_flow_is_the_standardisation(name):
    flow = USFlow(**FLOWS[name]).double()
    mean, deviation = torch.linspace(-1, 2, flow.dim).double(), torch.linspace(0.5, 3, flow.dim).double()
    flow.standardise(mean, deviation)
    z = torch.randn(10, flow.dim, dtype=torch.float64)
    assert torch.allclose(flow(z), mean + deviation * z, atol=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_the_graph_is_the_flow_in_both_directions(name):
    flow = make_flow(name)
    z = torch.randn(50, flow.dim, dtype=torch.float64)
    x = flow(z).detach()
    assert (evaluate(flow.graph(), z)["x"] - x).abs().max() < 1e-5
    assert (evaluate(flow.graph("inverse"), x)["z"] - z).abs().max() < 1e-5
    assert 0 <= flow.rounding_deviation() < 1e-4
    assert 0 <= flow.rounding_deviation(direction="inverse") < 1e-3


@pytest.mark.parametrize("base", BASES)
def test_a_flow_is_a_torch_distribution_over_every_base(base):
    flow = USFlow(3, blocks=1, base=make_base(base, 3))
    assert isinstance(flow, Distribution)
    assert flow.event_shape == (3,)
    torch.manual_seed(0)
    x = flow.sample((4, 5))
    assert x.shape == (4, 5, 3)
    assert flow.log_prob(x).shape == (4, 5)
    assert not x.requires_grad
    again = USFlow.from_config(flow.config())
    again.load_state_dict(flow.state_dict())
    assert torch.equal(again.log_prob(x), flow.log_prob(x))


def test_the_density_integrates_to_one():
    flow = make_flow("default")
    with torch.no_grad():
        points = flow.sample((20_000,))
        low, high = points.amin(0) - 5, points.amax(0) + 5
        axes = [torch.linspace(float(a), float(b), 600, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        grid = torch.cartesian_prod(*axes)
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        assert float(flow.log_prob(grid).exp().sum()) * cell == pytest.approx(1, abs=2e-3)


def test_the_score_of_samples_is_uniform():
    flow = make_flow("deep conditioners")
    torch.manual_seed(0)
    scores = flow.score(flow.sample((4000,)))
    for mass in (0.1, 0.5, 0.9):
        share = (scores <= mass).double().mean().item()
        assert abs(share - mass) < 4 * math.sqrt(mass * (1 - mass) / 4000)


def test_the_determinant_prior_is_that_of_a_normal_log_determinant():
    flow = USFlow(3)
    with torch.no_grad():
        flow.lu.factors.fill_diagonal_(0.5)
    assert flow.determinant_log_prior(2.0).item() == pytest.approx(-0.5 * 3 * (0.5 / (2 / 3)) ** 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: USFlow(1),
        lambda: USFlow(0),
        lambda: USFlow(3, blocks=-1),
        lambda: USFlow(3, hidden=(4, 0)),
        lambda: USFlow(3, hidden=(4.0,)),
        lambda: USFlow(3, blocks=10**30),
        lambda: USFlow(3, hidden=(4, 10**30)),
        lambda: USFlow(3, householder=10**30),
        lambda: USFlow(20_000, blocks=0),
        lambda: USFlow(3, features=["a"]),
        lambda: USFlow(3, base=make_base("normal", 2)),
        lambda: USFlow(3, base=7),
        lambda: USFlow(3).sample(-1),
        lambda: USFlow(3).sample((2, True)),
        lambda: Householder(3, 0),
        lambda: Chain([LU(3), LU(4)]),
        lambda: USFlow(3).log_prob(torch.zeros(5, 2)),
        lambda: USFlow(3).latent(torch.tensor(1.0)),
        lambda: USFlow(2).standardise(torch.zeros(2), torch.tensor([1.0, 0.0])),
        lambda: USFlow(2).standardise(torch.zeros(3), torch.ones(3)),
        lambda: USFlow.from_config({"dim": 2}),
        lambda: USFlow.from_config({**USFlow(2).config(), "surprise": 1}),
    ],
)
def test_bad_input_is_refused_in_a_sentence(build):
    with pytest.raises(ModelError, match=r"expected .*; got "):
        build()


@pytest.mark.parametrize(
    "bijection",
    [
        LU(4),
        Householder(4, 3),
        Permutation(4),
        Standardisation(4),
        CouplingBlock(4, (5,), 0),
        CouplingBlock(4, (5,), 1),
        Conjugate(Permutation(4), CouplingBlock(4, (5,), 0)),
        AffineProduct([Permutation(4), Householder(4, 1), LU(4)]),
        Chain([CouplingBlock(4, (), 0), LU(4), Standardisation(4)]),
    ],
    ids=lambda b: type(b).__name__,
)
def test_a_bijection_obeys_what_the_kit_asks_of_every_bijection(bijection):
    check_bijection(bijection)
