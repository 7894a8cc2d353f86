"""Composition of bijections."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from typing_extensions import override

from ..errors import ModelError
from .base import Bijection
from .coupling import CouplingBlock, run_blocks


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
        for couplings, run in itertools.groupby(self, lambda part: isinstance(part, CouplingBlock)):
            if couplings:
                z = run_blocks([part for part in run if isinstance(part, CouplingBlock)], z, 1)
                continue
            for part in run:
                z, logdet = part.forward_and_logdet(z)
                logdets.append(logdet)
        return z, sum(logdets, z.new_zeros(()))

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdets = []
        for couplings, run in itertools.groupby(reversed(list(self)), lambda part: isinstance(part, CouplingBlock)):
            if couplings:
                x = run_blocks([part for part in run if isinstance(part, CouplingBlock)], x, -1)
                continue
            for part in run:
                x, logdet = part.inverse_and_logdet(x)
                logdets.append(logdet)
        return x, sum(logdets, x.new_zeros(()))
