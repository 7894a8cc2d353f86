"""Columns that are linear functions of others: the rows then lie in a subspace, to which no density over the space is bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from ..numerics.arrays import Vector

TOLERANCE = 1e-6
"""Largest deviation from a linear function, relative to the column's own, that still counts as one: float32 keeps that."""

MORE_ROWS = 64
_SHOWN = 6


def linear_dependences(values: Vector, features: Sequence[str]) -> list[str]:
    """Equations such as ``'c' = 2·'a' + 1``, one for each column that is a linear function of columns before it.

    Found by the triangular factor of some of the rows, as many as there are columns and a few more, and believed where they
    hold in all rows. None are looked for in fewer rows.

    Args:
        values: rows ``[n, d]``, no column constant.
        features: the names of the columns.
    """
    rows, dim = values.shape
    if rows < dim + MORE_ROWS:
        return []
    middle = values[0] + (values - values[0]).mean(axis=0)
    scale = np.abs(values - middle).max(axis=0)
    chosen = np.linspace(0, rows - 1, min(rows, dim + 4 * MORE_ROWS)).astype(int)
    standard = (values[chosen] - middle) / scale
    standard = standard - standard.mean(axis=0)
    (triangle,) = scipy.linalg.qr(standard, mode="r")
    lengths = np.linalg.norm(standard, axis=0)
    depends = np.abs(np.diagonal(triangle)) <= TOLERANCE * lengths
    if not depends.any():
        return []
    free = np.flatnonzero(~depends)
    basis, factor = scipy.linalg.qr(standard[:, free], mode="economic")
    found = []
    for column in np.flatnonzero(depends).tolist():
        before = int((free < column).sum())
        weights = scipy.linalg.solve_triangular(factor[:before, :before], basis[:, :before].T @ standard[:, column])
        used = np.flatnonzero(np.abs(weights) > TOLERANCE)
        sources = free[used]
        factors = weights[used] * scale[column] / scale[sources]
        rest = (values - middle)[:, column] - (values - middle)[:, sources] @ factors
        if np.abs(rest).max() <= TOLERANCE * scale[column]:
            constant = middle[column] - factors @ middle[sources]
            size = abs(middle[column]) + np.abs(factors) @ np.abs(middle[sources]) + scale[column]
            found.append(_equation(column, sources.tolist(), factors, constant, size, features))
    return found


def _equation(
    column: int, sources: Sequence[int], factors: Vector, constant: float, size: float, features: Sequence[str]
) -> str:
    """The equation in words, with numbers to six digits; for factors of −1 alone as a sum that is constant."""
    offset = 0.0 if abs(constant) <= TOLERANCE * size else constant
    if np.allclose(factors, -1, rtol=TOLERANCE, atol=0):
        names = [repr(features[place]) for place in sorted([*sources, column])]
        return f"{' + '.join(_few(names))} = {offset:.6g}"
    terms = [
        f"{'' if abs(c - 1) <= TOLERANCE else f'{c:.6g}·'}{features[i]!r}"
        for i, c in zip(sources, factors, strict=True)
    ]
    text = " + ".join(_few(terms)) + (f" + {offset:.6g}" if offset else "")
    return f"{features[column]!r} = {text}".replace("+ -", "− ").replace("= -1·", "= −").replace("− 1·", "− ")


def _few(parts: Sequence[str]) -> list[str]:
    return [*parts[:_SHOWN], *(["…"] if len(parts) > _SHOWN else [])]
