"""How much rounding in float64 can change sums of products."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ...numerics.arrays import Matrix, Vector

UNIT = 2.0**-52  # twice the unit roundoff, so that the error sums need no care of their own

TINY = 1e-160  # above all that underflow can lose, be it in a coefficient of the largest of tensors

LARGEST = 1e150
"""Tensors that may be larger have no bounds: what floats lose to overflow and underflow would not be accounted for."""


def rounding_share(terms: int) -> float:
    """γ of a sum of so many products, with room to spare: how much of its size rounding can change."""
    return (terms + 8) * UNIT


def dot(rows: Vector, vector: Vector) -> Vector:
    """``rows [..., n, m] · vector [..., m]``, shape ``[..., n]``."""
    return np.asarray((rows @ vector[..., None])[..., 0])


def times(vectors: Vector, weight: Matrix) -> Vector:
    """``vectors [..., m] @ weight [m, k]`` for dense or sparse weights."""
    flat = vectors.reshape(-1, weight.shape[0])
    product = (weight.T @ flat.T).T if sparse.issparse(weight) else flat @ weight
    return np.asarray(product).reshape(*vectors.shape[:-1], weight.shape[1])
