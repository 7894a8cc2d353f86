"""The objective of training: its value and its gradient are autograd's, for every flow, base and prior."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from veriflow.density.radial import BASES, make_base
from veriflow.flows.flow import USFlow
from veriflow.training.objective import Objective


@st.composite
def flows(draw):
    dim = draw(st.integers(1, 7))
    name = draw(st.sampled_from(sorted(BASES)))
    base = make_base(name, dim, {"laplace": 1, "normal": 2}.get(name) or draw(st.sampled_from([1, 2, math.inf])))
    torch.manual_seed(draw(st.integers(0, 1000)))
    flow = USFlow(
        dim,
        blocks=draw(st.integers(0, 3)) if dim > 1 else 0,
        hidden=draw(st.lists(st.integers(1, 9), max_size=3)),
        base=base,
        householder=draw(st.sampled_from([0, 0, 2])),
        permute=draw(st.sampled_from([False, False, True])),
    ).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    flow.standardise(torch.linspace(-1, 2, dim).double(), torch.linspace(0.5, 3, dim).double())
    return flow


@given(flow=flows(), prior_sigma=st.sampled_from([None, 0.3, 2.0]), sizes=st.lists(st.integers(1, 20), max_size=3))
def test_value_and_gradient_are_autograds(flow, prior_sigma, sizes):
    rows = flow.sample((30,))
    for parameter in flow.parameters():
        parameter.grad = torch.zeros_like(parameter)
    objective = Objective(flow, rows, prior_sigma)
    for size in [*sizes, 8, 8]:
        chosen = torch.randint(0, len(rows), (size,))
        expected_nll = -flow.log_prob(rows[chosen]).mean()
        expected = expected_nll
        if prior_sigma is not None:
            expected = expected - flow.determinant_log_prior(prior_sigma) / len(rows)
        gradients = torch.autograd.grad(expected, list(flow.parameters()), allow_unused=True)
        for parameter in flow.parameters():
            parameter.grad.zero_()
        loss, nll = objective(chosen)
        assert nll.item() == pytest.approx(expected_nll.item(), rel=1e-12, abs=1e-12)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
        for parameter, gradient in zip(flow.parameters(), gradients, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            for parameter in flow.parameters():  # as the optimiser does: in place
                parameter.add_(parameter.grad, alpha=-1e-4)


def test_rows_that_are_not_numbers_give_a_loss_that_is_none():
    flow = USFlow(3, blocks=2)
    for parameter in flow.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for bad in (math.nan, math.inf, -math.inf):
        rows = torch.randn(4, 3)
        rows[2, 1] = bad
        loss, nll = Objective(flow, rows, 1.0)(torch.arange(4))
        assert not loss.isfinite()
        assert not nll.isfinite()
