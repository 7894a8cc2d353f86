"""A penalty on ReLUs that are not stable over a level set: differentiable bounds of a flow's pre-activations.

A solver has to split, or to relax, every ReLU whose input may be on either side of zero in the region of a query. The
bounds here are those of `piecewise.bounds` for z → x, in torch and without its account of rounding: backward substitution
through the layers of all blocks before, each unstable ReLU between two lines (Zhang et al., NeurIPS 2018, theorem 3.2), or,
over an L1 ball, as a convex function at the ball's vertices. Those of the first layer are exact: the dual norm.

Source of training for stable ReLUs: Xiao et al., *Training for Faster Adversarial Robustness Verification via Inducing ReLU
Stability*, ICLR 2019, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..flows.bijections.coupling import Layers, ResidualBijection
from ..flows.flow import USFlow
from ..piecewise.bounds.bounded_units import BoundedUnits, least_mean
from ..piecewise.bounds.relaxation import AffineRelaxation, BackwardPass, ReluRelaxation
from ..piecewise.graph import Relu
from .recalibration import likely_scale

MARGIN = 0.1
"""Without it units would end where the data's pull and the penalty's balance: at the edge, a little unstable."""

LATENT = "z"


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


def hidden_bounds(blocks: list[Layers], p: float, radius: float) -> list[tuple[Tensor, Tensor]]:
    """Lower and upper bounds ``[units]`` of the input of every ReLU of a chain of residual blocks, over ‖z‖_p ≤ radius.

    They hold but for rounding, and gradients flow through all of them.

    Args:
        blocks: the layers of each block, see `ResidualBijection.residual_layers`.
        p: 1, 2 or infinity.
        radius: of the ball of latents.
    """
    nodes = _nodes(blocks)
    maps = {node.output: node for node in nodes if not isinstance(node, Relu)}
    units: dict[str, BoundedUnits] = {}
    for relu in nodes:
        if isinstance(relu, Relu):
            back = _BallPass(maps, units, relu.input)
            back.run(nodes)
            units[relu.input] = back.bounded(p, radius)
    return [(found.lower, found.upper) for found in units.values()]


def _nodes(blocks: list[Layers]) -> list[AffineRelaxation[Tensor] | Relu]:
    """The blocks ``z + V relu(… relu(W z + b)) + c`` as affine maps and ReLUs."""
    nodes: list[AffineRelaxation[Tensor] | Relu] = []
    stream = LATENT
    for block, (*hidden, (last, shift)) in enumerate(blocks):
        tensor = stream
        for layer, (weight, bias) in enumerate(hidden):
            name = f"{block}.{layer}"
            nodes += [AffineRelaxation(name, ((tensor, weight),), bias), Relu(f"{name}+", name)]
            tensor = f"{name}+"
        nodes.append(AffineRelaxation(f"{block}", ((stream, None), (tensor, last)), shift))
        stream = f"{block}"
    return nodes


class _BallPass(BackwardPass[Tensor]):
    """Backward substitution to a ball of latents from the entries of a map's output, and from minus these."""

    def __init__(
        self, maps: Mapping[str, AffineRelaxation[Tensor]], units: Mapping[str, BoundedUnits], tensor: str
    ) -> None:
        start = [(name, torch.cat([weight, -weight])) for name, weight in maps[tensor].terms]
        super().__init__(maps, start, torch.cat([maps[tensor].bias, -maps[tensor].bias]))
        self.units = units

    def relaxed(self, relu: Relu, rows: Tensor) -> ReluRelaxation[Tensor]:
        """By chords, or over an L1 ball by the convex functions alone."""
        found = self.units[relu.input]
        if found.peaks is None:
            return ReluRelaxation(found.below, found.slope, found.offset)
        return ReluRelaxation(found.below, None, None, found.on, found.peaks)

    def bounded(self, p: float, radius: float) -> BoundedUnits:
        """The units of which the entries are the inputs: by the ball's vertices, or the dual norm."""
        rows, constant = self.coefficients[LATENT], self.constant
        if p != 1:
            bounds = constant - radius * torch.linalg.vector_norm(rows, 2 if p == 2 else 1, dim=1)
            return BoundedUnits.of(bounds, lambda bounds: bounds)
        values = constant[:, None] + radius * torch.cat([rows, -rows], dim=1)
        values = values if self.at_vertices is None else values + self.at_vertices
        return BoundedUnits.of(values, lambda values: least_mean(values, None))
