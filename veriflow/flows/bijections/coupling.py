"""The block of a USFlow: an additive coupling between an affine map and its inverse."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from ...errors import ModelError
from .affine import AffineBijection
from .base import Bijection
from .conditioners import ReLUMLP
from .fused_passes import Coupling

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

    def coupling(self) -> Coupling:
        """The block as a residual step."""
        layers = itertools.chain.from_iterable(self.conditioner.layers())
        return Coupling(self.kept, self.changed, [self.shear, *layers])

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
        return self._step(z, 1), z.new_zeros(())

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._step(x, -1), x.new_zeros(())

    def _step(self, x: Tensor, sign: int) -> Tensor:
        x = self.own(x)
        seen = x[..., self.kept] + linear(x[..., self.changed], self.shear)
        changed = x[..., self.changed] + sign * self.conditioner(seen)
        halves = (seen - linear(changed, self.shear), changed)
        return torch.cat(halves if self.kept.start == 0 else halves[::-1], dim=-1)


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
