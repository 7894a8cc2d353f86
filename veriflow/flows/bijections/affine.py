"""Affine bijections x = W z + shift."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import ModelError
from .base import Bijection


class AffineBijection(Bijection):
    """``x = W z + shift`` with an invertible W ``[dim, dim]`` that can be solved against."""

    def shift(self) -> Tensor:
        """The image of zero, ``[dim]``."""
        return self.matrix().new_zeros(self.dim)

    @abstractmethod
    def matrix(self) -> Tensor:
        """W, shape ``[dim, dim]``."""

    @abstractmethod
    def solve(self, columns: Tensor) -> Tensor:
        """W⁻¹ applied to ``columns`` ``[dim, k]``."""

    @abstractmethod
    def logdet(self) -> Tensor:
        """log|det W|, a scalar."""

    @override
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.own(z) @ self.matrix().T + self.shift(), self.logdet()

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        columns = (self.own(x) - self.shift()).reshape(-1, self.dim).T
        return self.solve(columns).T.reshape(x.shape), -self.logdet()


class LU(AffineBijection):
    """z = L U (x − offset), that is W = (L U)⁻¹: L unit lower and U upper triangular with a positive diagonal.

    The factors are those of the direction data → latent, in which a flow is trained, so that training multiplies and
    only sampling solves. They live in one matrix: L strictly below the diagonal, U strictly above it, log u_ii on it.
    The log-determinant is minus the sum of the diagonal, which is what the determinant prior speaks of
    (arXiv 2510.09452, eq. 9). The map starts at the identity.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.factors = nn.Parameter(torch.zeros(dim, dim))
        self.offset = nn.Parameter(torch.zeros(dim))

    @property
    def log_diagonal(self) -> Tensor:
        """log u_ii, shape ``[dim]``."""
        return self.factors.diagonal()

    def _upper(self) -> Tensor:
        return self.factors.triu(1) + self.log_diagonal.exp().diag()

    def _inverse_matrix(self) -> Tensor:
        upper = self._upper()
        return torch.addmm(upper, self.factors.tril(-1), upper)

    @override
    def shift(self) -> Tensor:
        return self.offset

    @override
    def matrix(self) -> Tensor:
        eye = torch.eye(self.dim, dtype=self.factors.dtype, device=self.factors.device)
        inner = torch.linalg.solve_triangular(self.factors, eye, upper=False, unitriangular=True)
        solved: Tensor = torch.linalg.solve_triangular(self._upper(), inner, upper=True)
        return solved

    @override
    def solve(self, columns: Tensor) -> Tensor:
        return self._inverse_matrix() @ columns

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (self.own(x) - self.offset) @ self._inverse_matrix().T, -self.logdet()

    @override
    def logdet(self) -> Tensor:
        return -self.log_diagonal.sum()


class Householder(AffineBijection):
    """W = H(v_1) ⋯ H(v_k), reflections H(v) = I − 2 v vᵀ / vᵀv: a learnable orthogonal matrix.

    The vectors start alike in pairs, so an even number of reflections starts at the identity.

    Raises:
        ModelError: fewer than one reflection.
    """

    def __init__(self, dim: int, reflections: int) -> None:
        super().__init__()
        if reflections < 1:
            raise ModelError(f"expected at least one reflection; got {reflections}")
        self.dim = dim
        starts = torch.randn((reflections + 1) // 2, dim)
        self.vectors = nn.Parameter(starts.repeat_interleave(2, dim=0)[:reflections])

    def _reflect(self, columns: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        for v in vectors:
            columns = columns - torch.outer(v, (2 / (v @ v)) * (v @ columns))
        return columns

    @override
    def matrix(self) -> Tensor:
        eye = torch.eye(self.dim, dtype=self.vectors.dtype, device=self.vectors.device)
        return self._reflect(eye, self.vectors.unbind()[::-1])

    @override
    def solve(self, columns: Tensor) -> Tensor:
        return self._reflect(columns, self.vectors.unbind())

    @override
    def logdet(self) -> Tensor:
        return self.vectors.new_zeros(())


class Permutation(AffineBijection):
    """A fixed random reordering of the coordinates."""

    order: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("order", torch.randperm(dim).to(torch.get_default_dtype()))

    @override
    def matrix(self) -> Tensor:
        return torch.eye(self.dim, dtype=self.order.dtype, device=self.order.device)[self.order.long()]

    @override
    def solve(self, columns: Tensor) -> Tensor:
        return columns[self.order.long().argsort()]

    @override
    def logdet(self) -> Tensor:
        return self.order.new_zeros(())


class AffineProduct(AffineBijection):
    """The composition of affine bijections, the first one applied to z first."""

    def __init__(self, parts: Sequence[AffineBijection]) -> None:
        super().__init__()
        self.dim = parts[0].dim
        self.parts = nn.ModuleList(parts)

    def __iter__(self) -> Iterator[AffineBijection]:
        return (part for part in self.parts if isinstance(part, AffineBijection))

    @override
    def shift(self) -> Tensor:
        first, *others = self
        total = first.shift()
        for part in others:
            total = part.matrix() @ total + part.shift()
        return total

    @override
    def matrix(self) -> Tensor:
        first, *others = self
        total = first.matrix()
        for part in others:
            total = part.matrix() @ total
        return total

    @override
    def solve(self, columns: Tensor) -> Tensor:
        for part in reversed(list(self)):
            columns = part.solve(columns)
        return columns

    @override
    def logdet(self) -> Tensor:
        return torch.stack([part.logdet() for part in self]).sum()


class Standardisation(AffineBijection):
    """x = mean + deviation · z, fixed numbers taken from data: preprocessing as the last bijection of a flow.

    They stay in float64, whatever dtype the rest of a flow is turned into: a time of 1.7e9 s has no place in float32.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(dim, dtype=torch.float64))

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Standardisation:
        """What torch moves and casts modules by: the numbers move, and are not cast."""
        exact = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in exact.items():
            setattr(self, name, tensor.to(getattr(self, name).device))
        return self

    def set(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the means and standard deviations ``[dim]`` of the data.

        Raises:
            ModelError: another length, or a deviation that is not positive and finite.
        """
        if mean.shape != self.mean.shape or deviation.shape != self.deviation.shape:
            raise ModelError(
                f"expected means and deviations of length {self.dim}; got {len(mean)} and {len(deviation)}"
            )
        if not (mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()):
            raise ModelError("expected finite means and positive deviations; got others")
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    @override
    def shift(self) -> Tensor:
        return self.mean

    @override
    def matrix(self) -> Tensor:
        return self.deviation.diag()

    @override
    def solve(self, columns: Tensor) -> Tensor:
        return columns / self.deviation[:, None]

    @override
    def logdet(self) -> Tensor:
        return self.deviation.log().sum()

    @override
    def forward_and_logdet(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.own(z) * self.deviation + self.mean, self.logdet()

    @override
    def inverse_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (self.own(x) - self.mean) / self.deviation, -self.logdet()
