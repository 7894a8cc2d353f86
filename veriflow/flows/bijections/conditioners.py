"""Conditioners: the networks inside couplings. All are piecewise affine, so that a flow can be verified."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError


class ReLUMLP(nn.Module):
    """A fully connected ReLU network, ``inputs → hidden[0] → … → outputs``; its last layer starts at zero.

    Raises:
        ModelError: a width below one.
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [inputs, *hidden, outputs]
        if min(widths) < 1:
            raise ModelError(f"expected widths of at least one; got {widths}")
        self.sizes = (inputs, outputs)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        last = self.linears[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight ``[out, in]`` and bias ``[out]`` of every layer; a ReLU stands between two layers."""
        return [(layer.weight, layer.bias) for layer in self.linears if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., outputs]`` at ``x`` ``[..., inputs]``."""
        *hidden, last = self.linears
        for layer in hidden:
            x = layer(x).relu()
        y: Tensor = last(x)
        return y
