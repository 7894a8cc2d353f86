"""Norm-2 cones in linear programs: outer approximations by tangent planes, each exact in floats, refined where needed.

The cone ‖z‖₂ ≤ n is the same as Σ sᵢ ≤ n with shares sᵢ n ≥ zᵢ², and each of these is the intersection of the halfspaces
sᵢ ≥ 2 a zᵢ − a² n over all slopes a, since (zᵢ − a n)² ≥ 0: Vielma, Dunning, Huchette, Lubin, *Extended formulations in
mixed integer conic quadratic programming*, Mathematical Programming Computation 2017. Any tangents leave a relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from veriflow.numerics.arrays import Indices, Vector

GRID = 2.0**-14
"""Slopes are multiples of it: their squares are exact, and none is so small that HiGHS takes it for zero (1e-9)."""

MISS = 1e-8
"""A tangent that a solution violates by more is added, relative to norms above one; HiGHS meets rows up to 1e-9."""

BESIDE = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
"""Where tangents are added, in units of the distance in slopes to the nearest one that is there: fewer rounds are needed."""


@dataclass(frozen=True, eq=False)
class Cone:
    """``‖v[inputs]‖₂ ≤ v[norm]``, by ``Σ v[shares] ≤ v[norm]`` and tangents that link shares and inputs."""

    inputs: Indices
    shares: Indices
    norm: int

    def first_tangents(self, columns: int) -> sparse.coo_array:
        """A few tangents for each input, about the sizes that inputs of a norm have."""
        dim = len(self.inputs)
        slopes = _on_grid(np.array([0.5, 1.0, 2.0, dim**0.5]) / dim**0.5)
        slopes = np.unique(np.concatenate([slopes, -slopes]))
        return self._tangents(np.arange(dim).repeat(len(slopes)), np.tile(slopes, dim), columns)

    def violated_tangents(self, solution: Vector) -> sparse.coo_array:
        """Tangents at and near a solution's inputs, for those that the solution violates; none where it lies in the cone."""
        z, norm = solution[self.inputs], max(float(solution[self.norm]), 1e-300)
        slopes = _on_grid(z / norm)
        misses = slopes * (2 * z - slopes * norm) - solution[self.shares]
        outside = float(np.linalg.norm(z)) > norm * (1 + 2.0**-30)
        places = np.flatnonzero((misses > MISS * max(1.0, norm)) & outside)
        # the tangent at slope b is n (b - z/n)² below z²/n: none that is there is nearer than this, for it would not be missed
        near = np.sqrt(misses[places] / norm)[:, None] * BESIDE + slopes[places, None]
        return self._tangents(places.repeat(len(BESIDE)), _on_grid(near).ravel(), len(solution))

    def _tangents(self, places: Indices, slopes: Vector, columns: int) -> sparse.coo_array:
        """Rows ``2 a z − a² n − s``, at most zero ``[n, columns]``, for some inputs and the slope a of each."""
        values = np.concatenate([2 * slopes, -(slopes**2), -np.ones(len(slopes))])
        at = np.concatenate([self.inputs[places], np.full(len(places), self.norm), self.shares[places]])
        rows = np.tile(np.arange(len(places)), 3)
        return sparse.coo_array((values, (rows, at)), shape=(len(places), columns))


def _on_grid(slopes: Vector) -> Vector:
    return np.asarray(np.clip(np.round(slopes / GRID) * GRID, -1.0, 1.0))
