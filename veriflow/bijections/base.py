"""The abstract bijection."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """A uniformly scaling bijection of ℝ^dim, latent z → data x: its log|det| is the same everywhere.

    Both directions take any leading shape ``[..., dim]`` and return the log-determinant of *their own* direction as a
    scalar tensor, so the two sum to zero. On Uniformly Scaling Flows (arXiv 2510.09452), definition 1.
    """

    dim: int

    @abstractmethod
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The data point φ(z) and log|det ∂φ/∂z|."""

    @abstractmethod
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent point φ⁻¹(x) and log|det ∂φ⁻¹/∂x|."""
