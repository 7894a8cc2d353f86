"""The abstract bijection."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...errors import ModelError


class Bijection(nn.Module, ABC):
    """A uniformly scaling bijection of ℝ^dim, latent z → data x: its log|det| is the same everywhere.

    Both directions take any leading shape ``[..., dim]`` and return the log-determinant of *their own* direction as a
    scalar tensor, so the two sum to zero. On Uniformly Scaling Flows (arXiv 2510.09452), definition 1.

    Points come in any float dtype and leave in that of the bijection's own numbers. Both directions raise ModelError for
    points of another shape.
    """

    dim: int

    @abstractmethod
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The data point φ(z) and log|det ∂φ/∂z|."""

    @abstractmethod
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent point φ⁻¹(x) and log|det ∂φ⁻¹/∂x|."""

    def own(self, points: Tensor) -> Tensor:
        """Points ``[..., dim]`` in the dtype of the bijection's numbers.

        Raises:
            ModelError: another shape.
        """
        if points.ndim < 1 or points.shape[-1] != self.dim:
            raise ModelError(f"expected points of shape [..., {self.dim}]; got {list(points.shape)}")
        number = next(itertools.chain(self.parameters(), self.buffers()), points)
        return points.to(number.dtype)
