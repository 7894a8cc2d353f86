"""The multipliers of a semidefinite bound, by a primal-dual interior-point method.

The bound t is maximised over multipliers θ for which ``Q(θ) − t e₀e₀ᵀ`` is positive semidefinite. Each product of two affine
functions is a matrix of rank two, so that the system for a step comes from inner products of these functions alone. Every
iterate is feasible: its bound holds. The other side, moments of points, becomes feasible on the way.

Sources: Helmberg, Rendl, Vanderbei and Wolkowicz, *An Interior-Point Method for Semidefinite Programming*, SIAM J. Optim. 6,
1996, section 2 (the direction); Mehrotra, *On the Implementation of a Primal-Dual Interior Point Method*, SIAM J. Optim. 2,
1992 (predictor and corrector); Benson, Ye and Zhang, *Solving Large-Scale Sparse Semidefinite Programs for Combinatorial
Optimization*, SIAM J. Optim. 10, 2000, section 2 (matrices of low rank).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from ...numerics.arrays import Vector
from ...runtime.deadline import check_deadline
from .sdp import SemidefiniteRelaxation

MOST_STEPS = 60

SHORTER, INSIDE = 0.85, 0.95
"""The factor of a backtracking line search for feasible steps, and the share of the longest feasible step that is taken."""

FAINT = 1e-4
"""The first multipliers of pairs, relative to those of the other constraints."""

CLOSE = 1e-7
"""Gap, as a share of the bound, at which the method ends."""


@dataclass(frozen=True, eq=False)
class Iterate:
    """An iterate of the method.

    Attributes:
        values: (θ, t), the multipliers of all constraints and the bound, ``[m + 1]``: always feasible.
        moments: the matrix of moments of x, the dual variable, ``[n, n]``: feasible in the limit.
        slacks: of the inequalities under the moments, ``[m + 1]``; zero for equalities.
        gap: the duality gap, once the moments are feasible.
        steps: how many were taken.
    """

    values: Vector
    moments: Vector
    slacks: Vector
    gap: float = np.inf
    steps: int = 0

    @property
    def bound(self) -> float:
        """t, a lower bound on the margin but for rounding."""
        return float(self.values[-1])


@dataclass(frozen=True, eq=False)
class _Direction:
    """Changes of an iterate, and of the matrix that its values give."""

    values: Vector
    matrix: Vector
    moments: Vector
    slacks: Vector


class InteriorPoint:
    """The method for one relaxation."""

    def __init__(self, relaxation: SemidefiniteRelaxation) -> None:
        self.relaxation, self.base = relaxation, relaxation.base.rows
        corner = sparse.csr_array(([1.0], ([0], [0])), shape=(1, len(self.base)))
        self.left = sparse.vstack([relaxation.left, corner], format="csr")
        self.right = sparse.vstack([relaxation.right, -corner], format="csr")
        self.sums = np.append(relaxation.sums, len(relaxation.equal))
        self.starts = np.searchsorted(self.sums, np.arange(self.sums[-1] + 1))
        self.signed = np.append(~relaxation.equal, False)

    def maximise(self, is_enough: Callable[[Iterate], bool]) -> Iterate:
        """The first iterate that is enough, or the last that there is."""
        now = self._start()
        while now.steps < MOST_STEPS and now.gap > CLOSE * abs(now.bound) and not is_enough(now):
            try:
                now = _System(self, now).solved()
            except (linalg.LinAlgError, ValueError):  # the latter where a number is not finite
                break
        return now

    def _start(self) -> Iterate:
        """Equal multipliers of all inequalities, zero for equalities, and the bound that they give."""
        values = self.signed * max(float(np.abs(self.relaxation.margin.rows).max()), 1e-100)
        values[-1 - len(self.relaxation.pairs) :] *= FAINT  # products of pairs may be concave
        matrix = self.relaxation.matrix(values)
        try:
            bound = matrix[0, 0] - matrix[0, 1:] @ linalg.cho_solve(linalg.cho_factor(matrix[1:, 1:]), matrix[1:, 0])
        except (linalg.LinAlgError, ValueError):
            bound = -np.inf  # no step begins there
        values[-1] = bound - 0.1 * abs(bound)
        return Iterate(values, np.eye(len(matrix)), self.signed * 1.0)

    def products(self, matrix: Vector) -> tuple[Vector, Vector, Vector]:
        """``a S a'``, ``b S a'`` and ``b S b'`` for all pairs of products ``a b`` and ``a' b'``."""
        check_deadline()
        inner = self.base @ matrix @ self.base.T
        left, right = (np.ascontiguousarray((side @ inner).T) for side in (self.left, self.right))
        return self.left @ left, self.right @ left, self.right @ right

    def values(self, matrix: Vector) -> Vector:
        """``Σ a S b`` for all constraints, ``[m + 1]``."""
        check_deadline()
        inner = self.base @ matrix @ self.base.T
        products = np.asarray(self.right.multiply(self.left @ inner).sum(axis=1)).ravel()
        return np.asarray(np.bincount(self.sums, products), dtype=np.float64)

    def summed(self, pairs: Vector) -> Vector:
        """A matrix over pairs of products, summed to one over pairs of constraints ``[m + 1, m + 1]``."""
        if len(self.starts) == len(self.sums):
            return pairs
        return np.asarray(np.add.reduceat(np.add.reduceat(pairs, self.starts, axis=0), self.starts, axis=1))


class _System:
    """The linear system for the steps from one iterate."""

    def __init__(self, method: InteriorPoint, now: Iterate) -> None:
        self.method, self.now = method, now
        self.matrix = method.relaxation.matrix(now.values)
        check_deadline()
        root = linalg.solve_triangular(linalg.cholesky(self.matrix, lower=True), np.eye(len(self.matrix)), lower=True)
        check_deadline()
        self.inverse = root.T @ root
        self.inverted = np.where(method.signed, 1 / np.where(method.signed, now.values, 1.0), 0.0)
        self.degrees = len(self.matrix) + int(method.signed.sum())
        self.mean = self._left(0.0, 0.0, None)
        if not self.mean > 0:
            raise linalg.LinAlgError("nothing is left to gain")
        first_aa, first_ba, first_bb = method.products(now.moments)
        aa, ba, bb = method.products(self.inverse)
        self.barrier = np.bincount(method.sums, ba.diagonal()) + self.inverted
        check_deadline()
        whole = first_ba * ba.T
        whole = whole + whole.T
        first_aa *= bb
        whole += first_aa
        first_bb *= aa
        whole += first_bb
        whole = method.summed(whole) / 4
        whole[np.diag_indices(len(whole))] += now.slacks * self.inverted + 1e-13 * whole.diagonal()
        check_deadline()
        self.factor = linalg.cho_factor(whole, lower=True, overwrite_a=True, check_finite=False)

    def solved(self) -> Iterate:
        """The next iterate, by Mehrotra's predictor and corrector."""
        ahead = self._direction(0.0, None)
        primal, dual = self._lengths(ahead, 1.0)
        share = min(max(self._left(primal, dual, ahead) / self.mean, 0.0), 1.0) ** (2 if min(primal, dual) < 0.6 else 3)
        step = self._direction(max(share, 1e-4) * self.mean, ahead)
        primal, dual = self._lengths(step, INSIDE)
        now = self.now
        return Iterate(
            now.values + dual * step.values,
            now.moments + primal * step.moments,
            now.slacks + primal * step.slacks,
            self.mean * self.degrees,
            now.steps + 1,
        )

    def _direction(self, goal: float, ahead: _Direction | None) -> _Direction:
        """Newton's direction to complementarity products of ``goal``, corrected by the second order of ``ahead``."""
        now, inverse, inverted = self.now, self.inverse, self.inverted
        side, of_moments, of_slacks = goal * self.barrier, goal * inverse - now.moments, goal * inverted - now.slacks
        side[-1] += 1
        if ahead is not None:
            second, seconds = ahead.moments @ ahead.matrix @ inverse, ahead.slacks * ahead.values * inverted
            second = (second + second.T) / 2
            side, of_moments, of_slacks = (
                side - self.method.values(second) - seconds,
                of_moments - second,
                of_slacks - seconds,
            )
        values = linalg.cho_solve(self.factor, side, check_finite=False)
        matrix = self.method.relaxation.change(values)
        check_deadline()
        moved = now.moments @ matrix @ inverse
        return _Direction(
            values, matrix, of_moments - (moved + moved.T) / 2, of_slacks - now.slacks * values * inverted
        )

    def _lengths(self, step: _Direction, share: float) -> tuple[float, float]:
        """The longest feasible steps of moments and slacks, and of values; ``share`` of them where they are below one."""
        now, signed = self.now, self.method.signed
        primal = min(_longest(now.moments, step.moments, share), _most(now.slacks[signed], step.slacks[signed], share))
        return primal, min(
            _longest(self.matrix, step.matrix, share), _most(now.values[signed], step.values[signed], share)
        )

    def _left(self, primal: float, dual: float, step: _Direction | None) -> float:
        """μ, the mean of the complementarity products, after a step."""
        now = self.now
        moments, matrix, slacks, values = now.moments, self.matrix, now.slacks, now.values
        if step is not None:
            moments, slacks = moments + primal * step.moments, slacks + primal * step.slacks
            matrix, values = matrix + dual * step.matrix, values + dual * step.values
        return (float((moments * matrix).sum()) + float(slacks @ values)) / self.degrees


def _longest(matrix: Vector, change: Vector, share: float) -> float:
    """A step length, by backtracking, that leaves a matrix positive definite."""
    length = 1.0
    while length > 1e-8:
        check_deadline()
        try:
            linalg.cholesky(matrix + length * change, lower=True, check_finite=False)
        except linalg.LinAlgError:
            length *= SHORTER
        else:
            return length if length == 1 else share * length
    raise linalg.LinAlgError("no step is left")


def _most(values: Vector, change: Vector, share: float) -> float:
    """The largest step length, up to one, that leaves numbers positive, times ``share``."""
    falling = change < 0
    with np.errstate(over="ignore"):
        return min(1.0, share * float((-values[falling] / change[falling]).min(initial=np.inf)))
