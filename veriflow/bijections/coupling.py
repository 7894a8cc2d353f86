"""The block of a USFlow: an additive coupling between an affine map and its inverse."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from ..conditioners import ReLUMLP
from ..errors import ModelError
from .affine import AffineBijection
from .base import Bijection

Context = Any  # what torch hands to both directions of an autograd function
Layers = list[tuple[Tensor, Tensor]]


class ResidualBijection(Bijection):
    """A bijection B(x) = x + g(x) with a ReLU network g that reads only what the step leaves alone.

    Then B⁻¹(y) = y − g(y), and the volume is preserved.
    """

    def residual_layers(self) -> Layers:
        """Weight ``[out, in]`` and bias ``[out]`` of every layer of g; a ReLU stands between two layers."""
        raise NotImplementedError


class CouplingBlock(ResidualBijection):
    """B = A⁻¹ ∘ C ∘ A, with the masked additive coupling C(u) = u + (1−m) ⊙ f(m ⊙ u).

    m keeps the first half of the coordinates (``parity`` 0) or the second half (``parity`` 1). Let k and c be the kept
    and the changed coordinates. Of an LU map A only one factor matters here: written in blocks over (k, c),
    A_k = L_kk U_kk [I, S] with S = U_kk⁻¹ U_kc, and A⁻¹ sends a change of c to [−S; I] U_cc⁻¹ L_cc⁻¹; the square factors
    and the shift are absorbed by the first and the last layer of f. So A is kept as its unit upper triangular part, the
    shear A = [[I, S], [0, I]]: the same functions as with a full LU map, with fewer parameters, nothing to invert and
    determinant one to the last bit. The block is the residual step

        B(x) = x + [−S; I] f(x_k + S x_c),        B⁻¹(y) = y − [−S; I] f(y_k + S y_c).

    Source: On Uniformly Scaling Flows (arXiv 2510.09452), section 4.

    Args:
        dim: number of coordinates, at least two.
        hidden: widths of the conditioner's hidden layers.
        parity: which half the mask keeps.

    Raises:
        ModelError: fewer than two dimensions.
    """

    def __init__(self, dim: int, hidden: tuple[int, ...], parity: int) -> None:
        super().__init__()
        if dim < 2:
            raise ModelError(f"expected at least two dimensions for a coupling; got {dim}")
        self.dim = dim
        half = dim // 2
        first, second = slice(0, half), slice(half, dim)
        self.kept, self.changed = (first, second) if parity % 2 == 0 else (second, first)
        kept = half if parity % 2 == 0 else dim - half
        self.shear = nn.Parameter(torch.zeros(kept, dim - kept))
        self.conditioner = ReLUMLP(kept, dim - kept, hidden)

    @override
    def residual_layers(self) -> Layers:
        layers = self.conditioner.layers()
        eye = torch.eye(self.dim, dtype=self.shear.dtype, device=self.shear.device)
        read = eye[self.kept] + self.shear @ eye[self.changed]
        write = eye[:, self.changed] - eye[:, self.kept] @ self.shear
        layers[0] = (layers[0][0] @ read, layers[0][1])
        weight, bias = layers[-1]
        layers[-1] = (write @ weight, write @ bias)
        return layers

    @override
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return run_blocks([self], z, 1), z.new_zeros(())

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return run_blocks([self], x, -1), x.new_zeros(())


def run_blocks(blocks: Sequence[CouplingBlock], x: Tensor, sign: int) -> Tensor:
    """``x ± g(x)`` for one block after the other, ``[..., dim]``: forward with sign 1, inverse (last block first) with −1."""
    parameters: list[Tensor] = []
    halves: list[tuple[slice, slice, int]] = []
    for block in blocks:
        layers = block.conditioner.layers()
        halves.append((block.kept, block.changed, len(layers)))
        parameters.append(block.shear)
        parameters += itertools.chain.from_iterable(layers)
    flat = x.reshape(-1, x.shape[-1])
    out: Tensor = _ResidualSteps.apply(flat, sign, halves, *parameters)  # type: ignore[no-untyped-call]
    return out.reshape(x.shape)


class _ResidualSteps(torch.autograd.Function):
    """x + sign · [−S; I] f(x_k + S x_c), block after block, its gradient written by hand: training time is spent here."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, sign: int, halves: list[tuple[slice, slice, int]], *parameters: Tensor
    ) -> Tensor:
        saved: list[Tensor] = []
        place = 0
        for kept, changed, depth in halves:
            shear = parameters[place]
            x_kept, x_changed = x[:, kept], x[:, changed]
            h = torch.addmm(x_kept, x_changed, shear.T)
            saved += (x_changed, h)
            for layer in range(place + 1, place + 2 * depth - 1, 2):
                h = torch.addmm(parameters[layer + 1], h, parameters[layer].T).relu_()
                saved.append(h)
            place += 2 * depth + 1
            change = torch.addmm(parameters[place - 1], h, parameters[place - 2].T)
            saved.append(change)
            x = torch.empty_like(x)
            torch.addmm(x_kept, change, shear.T, alpha=-sign, out=x[:, kept])
            torch.add(x_changed, change, alpha=sign, out=x[:, changed])
        ctx.save_for_backward(*parameters, *saved)
        ctx.sign, ctx.halves = sign, halves
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        tensors, sign = ctx.saved_tensors, ctx.sign
        place = sum(2 * depth + 1 for _, _, depth in ctx.halves)
        here = len(tensors)
        results: list[Tensor | None] = [None] * place
        for kept, changed, depth in reversed(ctx.halves):
            place -= 2 * depth + 1
            here -= depth + 2
            shear, x_changed, change = tensors[place], tensors[here], tensors[here + depth + 1]
            grad_kept, grad_changed = grad[:, kept], grad[:, changed]
            flowing = torch.addmm(grad_changed, grad_kept, shear, beta=sign, alpha=-sign)
            grad_shear = torch.mm(grad_kept.T, change).mul_(-sign)
            for layer in reversed(range(depth)):
                weight, h = place + 1 + 2 * layer, tensors[here + 1 + layer]
                results[weight] = torch.mm(flowing.T, h)
                results[weight + 1] = flowing.sum(0)
                flowing = torch.mm(flowing, tensors[weight])
                if layer:
                    flowing = torch.ops.aten.threshold_backward(flowing, h, 0)
            results[place] = grad_shear.addmm_(flowing.T, x_changed)
            grad_x = torch.empty_like(grad)
            torch.add(grad_kept, flowing, out=grad_x[:, kept])
            torch.addmm(grad_changed, flowing, shear, out=grad_x[:, changed])
            grad = grad_x
        return grad, None, None, *results


class Conjugate(ResidualBijection):
    """M⁻¹ ∘ B ∘ M for an affine bijection M: a residual step seen in other coordinates."""

    def __init__(self, affine: AffineBijection, block: ResidualBijection) -> None:
        super().__init__()
        self.dim = block.dim
        self.affine = affine
        self.block = block

    @override
    def residual_layers(self) -> Layers:
        layers = self.block.residual_layers()
        (weight, bias), matrix = layers[0], self.affine.matrix()
        layers[0] = (weight @ matrix, bias + weight @ self.affine.shift())
        weight, bias = layers[-1]
        solved = self.affine.solve(torch.cat([weight, bias[:, None]], dim=1))
        layers[-1] = (solved[:, :-1], solved[:, -1])
        return layers

    @override
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        inner, logdet = self.block.forward_and_logdet(self.affine.forward_and_logdet(z)[0])
        return self.affine.inverse_and_logdet(inner)[0], logdet

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner, logdet = self.block.inverse_and_logdet(self.affine.forward_and_logdet(x)[0])
        return self.affine.inverse_and_logdet(inner)[0], logdet
