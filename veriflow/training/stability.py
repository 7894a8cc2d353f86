"""A penalty on ReLUs that are not stable over a level set: differentiable bounds of a flow's pre-activations.

A solver has to split, or to relax, every ReLU whose input may be on either side of zero in the region of a query. The
bounds here are those of `piecewise.bounds` for z → x, in torch and without its account of rounding: backward substitution
through the layers of all blocks before, each unstable ReLU between two lines (Zhang et al., NeurIPS 2018, theorem 3.2), or,
over an L1 ball, as a convex function at the ball's vertices. Those of the first layer are exact: the dual norm.

Source of training for stable ReLUs: Xiao et al., *Training for Faster Adversarial Robustness Verification via Inducing ReLU
Stability*, ICLR 2019, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flows.bijections.coupling import Layers, ResidualBijection
from ..flows.flow import USFlow
from .recalibration import likely_scale

MARGIN = 0.1
"""Without it units would end where the data's pull and the penalty's balance: at the edge, a little unstable."""


class Stability:
    """The penalty ``weight`` · Σ over hidden units of max(0, 1 + m − |c| / ρ), where a unit's input is in c ± ρ on the ball.

    A term is 0 where its unit is stable with a share m (`MARGIN`) of ρ to spare, and 1 + m where zero is in the middle. So
    the sum is about the number of unstable units, and ``weight`` what one of them costs in nats. It does not change with
    the scale of a unit's input.

    Args:
        flow: what is trained.
        weight: nats for each unit.
        mass: of the latent ball, as it is at the last `measure`.
        rows: data points ``[n, dim]`` that nothing is fitted to.
    """

    def __init__(self, flow: USFlow, weight: float, mass: float, rows: Tensor) -> None:
        self._flow = flow
        self._blocks = [part for part in flow.parts() if isinstance(part, ResidualBijection)]
        self.weight, self.mass, self._rows = weight, mass, rows
        self.measure()

    def measure(self) -> None:
        """Take the radius of the ball of the mass from the base's law as it is now, scaled as the rows say."""
        law = self._flow.base.law
        with torch.no_grad():
            norms = self._flow.base.norm(self._flow.latent(self._rows))
        self.radius = float(law.quantile(self.mass)) * likely_scale(law, norms)

    def value(self) -> Tensor:
        """The penalty, a scalar in nats."""
        bounds = hidden_bounds([block.residual_layers() for block in self._blocks], self._flow.base.p, self.radius)
        shares = [_unstable_share(lower, upper).sum() for lower, upper in bounds]
        return self.weight * sum(shares, next(self._flow.parameters()).new_zeros(()))

    @torch.enable_grad()
    def add_gradient(self) -> Tensor:
        """The penalty, detached; its gradient is added to the ``grad`` of the parameters, in place."""
        value = self.value()
        if value.requires_grad:
            with torch.no_grad():
                torch.autograd.backward(value)
        return value.detach()


def _unstable_share(lower: Tensor, upper: Tensor) -> Tensor:
    """max(0, 1 + m − |c| / ρ) for the middle c and the radius ρ of each interval."""
    radius = upper - lower
    return torch.relu(1 + MARGIN - (upper + lower).abs() / radius.clamp_min(torch.finfo(radius.dtype).tiny))


@dataclass(frozen=True)
class _Hidden:
    """A ReLU layer whose units are bounded: what its lines and its convex functions need, arrays ``[units]``.

    ``peaks`` ``[units, vertices]`` are the values of convex functions above the outputs at the vertices, over an L1 ball.
    """

    weight: Tensor
    bias: Tensor
    on: Tensor
    below: Tensor
    slope: Tensor
    offset: Tensor
    peaks: Tensor | None


def hidden_bounds(blocks: list[Layers], p: float, radius: float) -> list[tuple[Tensor, Tensor]]:
    """Lower and upper bounds ``[units]`` of the input of every ReLU of a chain of residual blocks, over ‖z‖_p ≤ radius.

    They hold but for rounding, and gradients flow through all of them.

    Args:
        blocks: the layers of each block, see `ResidualBijection.residual_layers`.
        p: 1, 2 or infinity.
        radius: of the ball of latents.
    """
    found: list[tuple[Tensor, Tensor]] = []
    before: list[tuple[list[_Hidden], Tensor, Tensor]] = []
    for *hidden, (last, shift) in blocks:
        done: list[_Hidden] = []
        for weight, bias in hidden:
            layer, lower, upper = _bounded(weight, bias, done, before, p, radius)
            found.append((lower, upper))
            done.append(layer)
        before.append((done, last, shift))
    return found


def _bounded(
    weight: Tensor,
    bias: Tensor,
    within: list[_Hidden],
    before: list[tuple[list[_Hidden], Tensor, Tensor]],
    p: float,
    radius: float,
) -> tuple[_Hidden, Tensor, Tensor]:
    """A layer behind others of its block and whole blocks, and the bounds of its inputs."""
    rows = torch.cat([weight, -weight])
    way = _Backward(torch.cat([bias, -bias]), p)
    rows = way.through(within, rows)
    for hidden, last, shift in reversed(before):
        way.constant = way.constant + rows @ shift
        rows = rows + way.through(hidden, rows @ last)
    size = len(bias)
    peaks = None
    if p == 1:
        values = way.constant[:, None] + radius * torch.cat([rows, -rows], dim=1) + way.at_vertices
        least = values.min(dim=1).values
        peaks = torch.relu(-values[size:])
    else:
        least = way.constant - radius * torch.linalg.vector_norm(rows, 2 if p == 2 else 1, dim=1)
    lower, upper = least[:size], -least[size:]
    with torch.no_grad():
        on, unstable = lower >= 0, (lower < 0) & (upper > 0)
        below = (on | (unstable & (upper > -lower))).to(lower)
    slope = torch.where(unstable, upper / torch.where(unstable, upper - lower, 1.0), on.to(lower))
    offset = torch.where(unstable, -slope * lower, 0.0)
    return _Hidden(weight, bias, on.to(lower), below, slope, offset, peaks), lower, upper


class _Backward:
    """Rows on their way back to the latent: a constant ``[n]`` and values ``[n, vertices]`` that stay behind."""

    def __init__(self, constant: Tensor, p: float) -> None:
        self.constant = constant
        self.p = p
        self.at_vertices: Tensor | float = 0.0

    def through(self, layers: list[_Hidden], rows: Tensor) -> Tensor:
        """From rows over the outputs of ReLU layers, last first, to rows over the input of the first one."""
        for layer in reversed(layers):
            positive, negative = torch.relu(rows), -torch.relu(-rows)
            if layer.peaks is None:
                self.constant = self.constant + negative @ layer.offset
                rows = positive * layer.below + negative * layer.slope
            else:
                stable = negative * layer.on
                self.at_vertices = self.at_vertices + (negative - stable) @ layer.peaks
                rows = positive * layer.below + stable
            self.constant = self.constant + rows @ layer.bias
            rows = rows @ layer.weight
        return rows
