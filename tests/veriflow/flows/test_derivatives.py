"""Derivatives of densities of any order, and torch's transforms, over the table of flows."""

import pytest
import torch
from flow_table import FLOWS, make_flow
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

from veriflow.density.radial import make_base

every_flow = pytest.mark.parametrize("name", FLOWS)


@every_flow
def test_the_hessian_over_a_normal_base_is_that_of_the_latents(name):
    flow = make_flow(name)
    flow.base = make_base("normal", flow.dim).double()
    x = flow.sample().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(flow.latent, x)
    expected = -2 * jacobian.T @ jacobian / flow.base.law.scale**2
    assert torch.allclose(torch.autograd.functional.hessian(flow.log_prob, x), expected, atol=1e-10)
    assert torch.allclose(hessian(flow.log_prob)(x.detach()), expected, atol=1e-10)


@every_flow
def test_second_derivatives_match_finite_differences_of_the_first(name):
    flow = make_flow(name)
    x = flow.sample(3).requires_grad_()
    parameters = [p for p in flow.bijection.parameters() if p.requires_grad]
    assert torch.autograd.gradgradcheck(lambda x, *_: flow.log_prob(x), (x, *parameters), fast_mode=True, atol=1e-4)


@every_flow
def test_forward_and_reverse_mode_agree_over_batches(name):
    flow = make_flow(name)
    x = flow.sample(4)
    batched = vmap(flow.log_prob)(x)
    assert torch.allclose(batched, flow.log_prob(x), atol=1e-12)
    assert torch.allclose(vmap(jacfwd(flow.log_prob))(x), vmap(jacrev(flow.log_prob))(x), atol=1e-10)
    assert torch.allclose(vmap(jacfwd(flow.latent))(x), vmap(jacrev(flow.latent))(x), atol=1e-10)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(flow.log_prob(dual)).tangent
    assert torch.allclose(tangent, vmap(grad(flow.log_prob))(x).sum(-1), atol=1e-10)


@every_flow
def test_gradients_of_parameters_for_each_row(name):
    flow = make_flow(name).requires_grad_(True)
    x = flow.sample(3)
    bijection = flow.bijection
    parameters = dict(bijection.named_parameters())

    class Latent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bijection = bijection

        def forward(self, row):
            return self.bijection.inverse_and_logdet(row)[0].square().sum()

    module = Latent()

    def loss(values, row):
        return functional_call(module, {f"bijection.{n}": v for n, v in values.items()}, (row,))

    rows = vmap(grad(loss), (None, 0))({n: p.detach() for n, p in parameters.items()}, x)
    for name_of, parameter in parameters.items():
        for k in range(3):
            (expected,) = torch.autograd.grad(module(x[k]), parameter, allow_unused=True)
            expected = torch.zeros_like(parameter) if expected is None else expected
            assert torch.allclose(rows[name_of][k], expected, atol=1e-9)


@every_flow
def test_autocast_changes_nothing(name):
    flow = make_flow(name, torch.float32)
    x = flow.sample(5)
    z = flow.latent(x)
    expected = [flow.log_prob(x), z, flow(z)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, expected, [flow.log_prob(x), flow.latent(x), flow(z)]))


@every_flow
def test_densities_end_at_infinity(name):
    flow = make_flow(name)
    x = flow.sample(6)
    x[0, 0], x[1, -1], x[2, 0] = torch.inf, -torch.inf, 1e300
    x[3, 0] = torch.nan
    x.requires_grad_()
    value = flow.log_prob(x)
    assert value[:2].tolist() == [-torch.inf] * 2
    assert value[2] < -1e290
    assert value[3].isnan()
    assert value[4:].isfinite().all()
    assert (flow.score(x)[:3] > 1 - 1e-15).all()
    assert flow.log_tail_mass(x)[:2].tolist() == [-torch.inf] * 2
    assert flow.level_set(0.9).contains(x)[:3].tolist() == [False] * 3
    finite_or_infinite = flow.log_prob(x[[0, 1, 4, 5]]).sum()
    gradients = torch.autograd.grad(finite_or_infinite, [p for p in flow.parameters() if p.requires_grad])
    assert all(gradient.isfinite().all() for gradient in gradients)
