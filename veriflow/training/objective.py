"""The loss that training minimises, and its gradient."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..density.mixtures import MixtureLaw
from ..density.radial import RadialBase
from ..flows.bijections.base import Bijection
from ..flows.bijections.coupling import CouplingBlock
from ..flows.bijections.fused_passes import CouplingsPass, LaplaceMixturePass, LUPass
from ..flows.flow import USFlow
from .stability import Stability


class Objective:
    """Mean NLL − log prior / n over batches of n training rows, plus the penalty on unstable ReLUs, and its gradient.

    Gradients come from `fused_passes` for coupling blocks, the LU map and Laplace mixtures, and from autograd for the rest.
    They are written into the parameters' ``grad``, which must be there and zero before each call. Neither parameters nor
    gradients may move in memory.

    Args:
        flow: what is trained, standardised.
        rows: the training rows ``[n, dim]``.
        prior_sigma: deviation of log|det| under the determinant prior; None for no prior.
        stability: the penalty on unstable ReLUs; None for none.
    """

    @torch.no_grad()
    def __init__(
        self, flow: USFlow, rows: Tensor, prior_sigma: float | None, stability: Stability | None = None
    ) -> None:
        standardisation, _, *self._blocks = reversed(flow.parts())
        standard, logdet = standardisation.inverse_and_logdet(rows)
        self._rows = flow.lu.own(standard)
        factors, offset = flow.lu.factors, flow.lu.offset
        places = _place(factors), _place(offset)
        self._lu = LUPass((factors, offset), places)
        self._log_diagonal, self._grad_log_diagonal = factors.diagonal(), places[0].diagonal()
        self._precision = flow.determinant_precision(prior_sigma) / len(rows) if prior_sigma is not None else 0.0
        self._base, constant = _base_pass(flow.base)
        self._constant = constant - float(logdet)
        self._stability = stability
        self._passes: dict[int, list[CouplingsPass | _AutogradPass]] = {}

    @torch.no_grad()
    def __call__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the mean NLL, scalars, of the rows with these numbers; leaves the gradient of the loss."""
        z = self._lu.forward(self._rows.index_select(0, chosen))
        if len(z) not in self._passes:
            self._passes[len(z)] = self._make_passes(len(z))
        passes = self._passes[len(z)]
        for step in passes:
            z = step.forward(z)
        value, grad = self._base.value_and_gradient(z)
        for step in reversed(passes):
            grad = step.backward(grad)
        self._lu.backward(grad)
        nll = value - self._log_diagonal.sum() + self._constant
        self._grad_log_diagonal.sub_(1).add_(self._log_diagonal, alpha=self._precision)
        loss = nll + 0.5 * self._precision * self._log_diagonal.square().sum()
        return loss if self._stability is None else loss + self._stability.add_gradient(), nll

    def _make_passes(self, rows: int) -> list[CouplingsPass | _AutogradPass]:
        """From the LU map to the latent points, for batches of a size."""
        passes: list[CouplingsPass | _AutogradPass] = []
        for couplings, run in itertools.groupby(self._blocks, lambda block: isinstance(block, CouplingBlock)):
            if couplings:
                steps = [block.coupling() for block in run if isinstance(block, CouplingBlock)]
                fused = CouplingsPass(steps, -1, self._rows.new_empty(rows, self._rows.shape[1]))
                fused.write_gradients_to([_place(p) for step in steps for p in step.parameters])
                passes.append(fused)
            else:
                passes += [_AutogradPass(block) for block in run]
        return passes


class _AutogradPass:
    """A bijection that preserves the volume, from data to latent, through autograd."""

    def __init__(self, bijection: Bijection) -> None:
        self.bijection = bijection

    @torch.enable_grad()
    def forward(self, x: Tensor) -> Tensor:
        self.x = x.detach().requires_grad_()
        self.z, _ = self.bijection.inverse_and_logdet(self.x)
        return self.z.detach()

    def backward(self, grad: Tensor) -> Tensor:
        torch.autograd.backward(self.z, grad)
        return _place(self.x)


class _AutogradBase:
    """The mean of −log p(z) through autograd."""

    def __init__(self, base: RadialBase) -> None:
        self.base = base

    @torch.enable_grad()
    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        value = -self.base.log_prob(z).mean()
        torch.autograd.backward(value)
        return value.detach(), _place(z)


def _base_pass(base: RadialBase) -> tuple[LaplaceMixturePass | _AutogradBase, float]:
    """A pass that gives the mean of −log p(z) up to a constant, and that constant."""
    if base.p == 1 and isinstance(base.law, MixtureLaw) and (scales := base.law.exponential_scales()):
        parameters = [base.law.logits, *scales]
        mixture = LaplaceMixturePass(parameters, [_place(p) for p in parameters], base.dim)
        return mixture, math.lgamma(base.dim) + base.log_sphere_area
    return _AutogradBase(base), 0.0


def _place(parameter: Tensor) -> Tensor:
    """The tensor that takes a parameter's gradient; a scratch one where the parameter is frozen."""
    return torch.empty_like(parameter) if parameter.grad is None else parameter.grad
