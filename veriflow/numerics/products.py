"""Products of stacks of vectors with vectors and with matrices: arrays of numpy, or tensors of torch."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .arrays import Array, Matrix


def dot(rows: Array, vector: Array) -> Array:
    """``rows [..., n, m] · vector [..., m]``, shape ``[..., n]``; where both have as many axes, row by row."""
    if rows.ndim == vector.ndim:
        found: Array = (
            np.einsum("...i,...i->...", rows, vector) if isinstance(rows, np.ndarray) else (rows * vector).sum(-1)
        )
    elif vector.ndim == 1:
        found = rows @ vector
    else:
        found = (rows @ vector[..., None])[..., 0]
    return found


def times(vectors: Array, weight: Matrix) -> Array:
    """``vectors [..., m] @ weight [m, k]``, for arrays also with sparse weights."""
    if not isinstance(vectors, np.ndarray):
        return vectors.matmul(weight)
    flat = vectors.reshape(-1, weight.shape[0])
    product = (weight.T @ flat.T).T if sparse.issparse(weight) else flat @ weight
    return np.asarray(product).reshape(*vectors.shape[:-1], weight.shape[1])
