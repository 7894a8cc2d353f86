"""The units of a ReLU with bounds on their inputs, in torch: gradients flow through bounds and lines.

They hold but for rounding; `veriflow.piecewise.bounds.tensor_bounds` has the lines of proofs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BoundedUnits:
    """Bounds on the inputs of the units, and the lines around them, ``[..., size]``.

    Attributes:
        lower: on the inputs.
        upper: likewise.
        on: 1 for units that are never negative, else 0.
        unstable: which may be on either side of zero.
        slope: of the chord; for the others, of what they compute.
        offset: of the chord.
        peaks: values ``[..., size, count]`` at the vertices of convex functions above the outputs, over such a region.
    """

    lower: Tensor
    upper: Tensor
    on: Tensor
    unstable: Tensor
    slope: Tensor
    offset: Tensor
    peaks: Tensor | None

    @classmethod
    def of(cls, values: Tensor, least: Callable[[Tensor], Tensor]) -> BoundedUnits:
        """From lower bounds on all inputs and on minus all inputs, ``[..., 2·size]``, or their values ``[..., 2·size, count]``.

        ``least`` makes bounds of values at vertices.
        """
        bounds = least(values)
        size = bounds.shape[-1] // 2
        lower, upper = bounds[..., :size], -bounds[..., size:]
        peaks = None if values is bounds else (-values[..., size:, :]).relu()
        with torch.no_grad():
            on, unstable = (lower >= 0).to(lower), (lower < 0) & (upper > 0)
        slope = torch.where(unstable, upper / torch.where(unstable, upper - lower, 1.0), on)
        offset = torch.where(unstable, -slope * lower, 0.0)
        return cls(lower, upper, on, unstable, slope, offset, peaks)

    @cached_property
    def below(self) -> Tensor:
        """Slopes of lines below: 0 or 1, whichever leaves the smaller triangle, without gradients."""
        with torch.no_grad():
            return (self.on.bool() | (self.unstable & (self.upper > -self.lower))).to(self.lower)


def least_mean(values: Tensor, shares: Tensor | None) -> Tensor:
    """The least value that values ``[..., count]`` at vertices allow, as in `veriflow.piecewise.bounds.crown`."""
    if shares is None:
        return values.amin(-1)
    dim = len(shares)
    centre, ends = values[..., 0], torch.minimum(values[..., 1 : dim + 1], values[..., dim + 1 :])
    least: Tensor = centre + (ends - centre.unsqueeze(-1)).clamp_max(0).sort(dim=-1).values @ shares
    return least
