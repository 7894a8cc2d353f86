"""Composition of bijections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import ModelError
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

    @override
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        logdets = []
        for part in self:
            z, logdet = part.forward_and_logdet(z)
            logdets.append(logdet)
        return z, torch.stack(logdets).sum()

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdets = []
        for part in reversed(list(self)):
            x, logdet = part.inverse_and_logdet(x)
            logdets.append(logdet)
        return x, torch.stack(logdets).sum()
