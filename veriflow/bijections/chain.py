"""Composition of bijections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..errors import ModelError
from .base import Bijection


class Chain(Bijection):
    """φ = φ_n ∘ … ∘ φ_1, the first one applied to the latent z first.

    Raises:
        ModelError: no part, or parts of different dimensions.
    """

    def __init__(self, parts: Sequence[Bijection]) -> None:
        super().__init__()
        if len({part.dim for part in parts}) != 1:
            raise ModelError(f"expected parts of one dimension; got {[part.dim for part in parts]}")
        self.dim = parts[0].dim
        self.parts = nn.ModuleList(parts)

    def __iter__(self) -> Iterator[Bijection]:
        return (part for part in self.parts if isinstance(part, Bijection))

    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(())
        for part in self:
            z, logdet = part.forward_and_logdet(z)
            total = total + logdet
        return z, total

    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(())
        for part in reversed(list(self)):
            x, logdet = part.inverse_and_logdet(x)
            total = total + logdet
        return x, total
