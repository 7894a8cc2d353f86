"""Numbers of few bits: whole numbers times one power of two."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_BITS = 24
"""Those of float32."""


def grid_steps(values: Tensor, bits: int) -> Tensor:
    """Powers of two ``[..., 1]``: the last axis is then from −2^(bits−1) to 2^(bits−1) of them.

    Values that lie on their grid but for a relative error well below 2^−bits have the same grid, or a finer one of half
    its step: it is safe to round again what was rounded and then moved a little.
    """
    largest = values.abs().amax(dim=-1, keepdim=True) * (1 - 2.0 ** -(bits + 1))
    exponent = torch.frexp(largest).exponent
    return torch.ldexp(torch.ones_like(largest), exponent - (bits - 1))


def on_grid(values: Tensor, steps: Tensor) -> Tensor:
    """The nearest multiples of the steps, which are broadcast; exact where the float type has the bits."""
    return torch.round(values / steps) * steps
