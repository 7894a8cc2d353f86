"""Hand-written values and gradients for the parts of a flow in which training spends its time.

A pass holds its parameters, the tensors that take their gradients, and views and buffers for batches of one size.
``forward`` takes a batch; ``backward`` takes the gradient of a loss with respect to the result of that forward, writes
the gradients with respect to the parameters and returns the one with respect to the batch. The next call overwrites what
a call returned. Passes run without autograd (``torch.no_grad``): training calls them (`objective`), and where users
differentiate through a flow there are plain operations of torch (`bijections`), which have derivatives of any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_relu_backward: Callable[..., Tensor] = torch.ops.aten.threshold_backward.grad_input


class Coupling(NamedTuple):
    """The residual step x + sign · [−S; I] f(x_k + S x_c) of a coupling block.

    ``parameters`` are S ``[k, c]`` and the weight ``[out, in]`` and bias ``[out]`` of every layer of the ReLU network f.
    """

    kept: slice
    changed: slice
    parameters: Sequence[Tensor]


class CouplingsPass:
    """The steps of couplings, one after the other, on batches of the shape ``[rows, dim]`` of ``like``."""

    @torch.no_grad()
    def __init__(self, couplings: Sequence[Coupling], sign: int, like: Tensor) -> None:
        self._x = x = torch.empty_like(like)
        self._steps: list[_CouplingStep] = []
        for coupling in couplings:
            self._steps.append(_CouplingStep(coupling, sign, x))
            x = self._steps[-1].y

    @torch.no_grad()
    def write_gradients_to(self, places: Sequence[Tensor]) -> None:
        """Make `backward` ready: ``places`` are for the gradients of all couplings' parameters, in their order."""
        self._grad = grad = torch.empty_like(self._x)
        scratch = functools.cache(lambda _, width: grad.new_empty(len(grad), width))
        end = len(places)
        for step in reversed(self._steps):
            start = end - 1 - 2 * len(step.layers)
            grad = step.write_gradients_to(places[start:end], grad, scratch)
            end = start

    def forward(self, x: Tensor) -> Tensor:
        """Where the steps lead from x, ``[rows, dim]``."""
        self._x.copy_(x)
        for step in self._steps:
            step.forward()
        return self._steps[-1].y

    def backward(self, grad: Tensor) -> Tensor:
        """The gradient with respect to x, ``[rows, dim]``."""
        self._grad.copy_(grad)
        for step in reversed(self._steps):
            step.backward()
        return self._steps[0].grad_x


class _CouplingStep:
    """One step from the buffer ``x`` to the buffer ``y``, and its gradient from a buffer to ``grad_x``."""

    def __init__(self, coupling: Coupling, sign: int, x: Tensor) -> None:
        self.sign, self.halves = sign, (coupling.kept, coupling.changed)
        self.shear, *layers = coupling.parameters
        self.shear_t = self.shear.T
        self.y = torch.empty_like(x)
        self.x_kept, self.x_changed = (x[:, half] for half in self.halves)
        self.y_kept, self.y_changed = (self.y[:, half] for half in self.halves)
        self.seen = self.x_kept.new_empty(self.x_kept.shape)
        self.layers = []
        h = self.seen
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            result = x.new_empty(len(x), len(bias))
            self.layers.append((h, weight, weight.T, bias, result))
            h = result

    def write_gradients_to(
        self, places: Sequence[Tensor], grad: Tensor, scratch: Callable[[int, int], Tensor]
    ) -> Tensor:
        """Takes the place for the gradient with respect to y, gives the one for the gradient with respect to x."""
        self.grad_x = torch.empty_like(grad)
        self.grad_y_kept, self.grad_y_changed = (grad[:, half] for half in self.halves)
        self.grad_x_kept, self.grad_x_changed = (self.grad_x[:, half] for half in self.halves)
        self.grad_y_kept_t, self.grad_x_kept_t = self.grad_y_kept.T, self.grad_x_kept.T
        self.grad_shear, *rest = places
        flows = [scratch(number, result.shape[1]) for number, (*_, result) in enumerate(self.layers)]
        self.layers_back = [
            (h, weight, flow, flow.T, below, grad_weight, grad_bias)
            for (h, weight, *_), flow, below, grad_weight, grad_bias in zip(
                self.layers, flows, [None, *flows[:-1]], rest[::2], rest[1::2], strict=True
            )
        ]
        self.layers_back.reverse()
        self.grad_change = flows[-1]
        return self.grad_x

    def forward(self) -> None:
        torch.addmm(self.x_kept, self.x_changed, self.shear_t, out=self.seen)
        for h, _, weight_t, bias, result in self.layers[:-1]:
            torch.addmm(bias, h, weight_t, out=result).relu_()
        h, _, weight_t, bias, change = self.layers[-1]
        torch.addmm(bias, h, weight_t, out=change)
        torch.add(self.x_changed, change, alpha=self.sign, out=self.y_changed)
        torch.addmm(self.seen, self.y_changed, self.shear_t, alpha=-1, out=self.y_kept)

    def backward(self) -> None:
        sign, shear = self.sign, self.shear
        torch.addmm(self.grad_y_changed, self.grad_y_kept, shear, beta=sign, alpha=-sign, out=self.grad_change)
        for h, weight, flow, flow_t, below, grad_weight, grad_bias in self.layers_back:
            torch.mm(flow_t, h, out=grad_weight)
            torch.sum(flow, 0, out=grad_bias)
            if below is not None:
                torch.mm(flow, weight, out=below)
                _relu_backward(below, h, 0, grad_input=below)
        torch.addmm(self.grad_y_kept, flow, weight, out=self.grad_x_kept)
        torch.mm(self.grad_x_kept_t, self.x_changed, out=self.grad_shear)
        self.grad_shear.addmm_(self.grad_y_kept_t, self.y_changed, alpha=-1)
        torch.addmm(self.grad_change, self.grad_x_kept, shear, beta=sign, out=self.grad_x_changed)


class LUPass:
    """z = L U (x − offset) with the factors as `LU` keeps them; there is no gradient with respect to x."""

    @torch.no_grad()
    def __init__(self, parameters: Sequence[Tensor], places: Sequence[Tensor]) -> None:
        self._factors, self._offset = parameters
        self._grad_factors, self._grad_offset = places
        self._log_diagonal, self._grad_diagonal = self._factors.diagonal(), self._grad_factors.diagonal()
        self._upper = torch.empty_like(self._factors)
        self._diagonal = self._upper.diagonal()

    def forward(self, x: Tensor) -> Tensor:
        """The latent points ``[rows, dim]``."""
        torch.triu(self._factors, 1, out=self._upper)
        torch.exp(self._log_diagonal, out=self._diagonal)
        self._lower = self._factors.tril(-1)
        self._matrix = torch.addmm(self._upper, self._lower, self._upper)
        self._centred = x - self._offset
        return torch.mm(self._centred, self._matrix.T)

    def backward(self, grad: Tensor) -> None:
        """Writes the gradients."""
        grad_matrix = torch.mm(grad.T, self._centred)
        torch.triu(torch.addmm(grad_matrix, self._lower.T, grad_matrix), out=self._grad_factors)
        self._grad_diagonal.mul_(self._diagonal)
        self._grad_factors.add_(torch.mm(grad_matrix, self._upper.T).tril_(-1))
        torch.mv(self._matrix.T, grad.sum(0), out=self._grad_offset).neg_()


class LaplaceMixturePass:
    """The mean over a batch of −log Σ_k w_k exp(−‖z‖₁/θ_k) / θ_k^dim; parameters: w's logits ``[k]``, then log θ_1, ….

    That is the default base's −log p(z) but for a constant.
    """

    def __init__(self, parameters: Sequence[Tensor], places: Sequence[Tensor], dim: int) -> None:
        self._logits, *self._log_scales = parameters
        self._grad_logits, *self._grad_log_scales = places
        self._dim = dim

    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, a scalar, and its gradient with respect to z ``[rows, dim]``."""
        log_scales = torch.stack(self._log_scales)
        log_weights = torch.log_softmax(self._logits, 0)
        rates = torch.exp(-log_scales)
        norms = z.abs().sum(1)
        constants = torch.sub(log_weights, log_scales, alpha=self._dim)
        terms = torch.addr(constants.unsqueeze(1), rates, norms, alpha=-1)
        shares = torch.softmax(terms, 0)
        share = shares.mean(1)
        torch.sub(log_weights.exp_(), share, out=self._grad_logits)
        rates.div_(len(z))
        grad_log_scales = share.mul_(self._dim).addcmul_(rates, torch.mv(shares, norms), value=-1)
        for place, grad in zip(self._grad_log_scales, grad_log_scales.unbind(), strict=True):
            place.copy_(grad)
        return -torch.logsumexp(terms, 0).mean(), z.sign().mul_(torch.mv(shares.T, rates).unsqueeze(1))
