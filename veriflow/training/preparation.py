"""Rows before training: standardised, dequantised, split into training and validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


def standardisation(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation ``[d]`` of each column of ``values`` ``[rows, d]``.

    Sums are over differences to the first row, which lose nothing to a large mean.

    Raises:
        DataError: a column that is constant, or too large or too narrow for such statistics.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        differences = values - values[0]
        mean = values[0] + differences.mean(axis=0)
        deviation = differences.std(axis=0)
    unusable = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(deviation) & (deviation > 0)))
    if unusable.size:
        raise DataError(
            f"expected columns with a positive finite deviation; got {deviation[unusable[0]]} in column {unusable[0]}"
        )
    return mean, deviation


def short_standardisation(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and deviations ``[d]`` for a flow's standardisation, rounded to float32 where that is precise enough.

    It is for a mean that moves by at most a quarter of its deviation: the flow learns the rest. Other means, such as times
    of 1.7e9 ± 5 s, stay in float64. A deviation out of the range of float32 becomes infinite or zero.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        short_mean, short = (numbers.astype(np.float32).astype(np.float64) for numbers in (mean, deviation))
        return np.where(np.abs(short_mean - mean) <= deviation / 4, short_mean, mean), short


def unresolved_shares(values: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share ``[d]`` of each column's distinct values that float32 merges with others once they are standardised."""
    shares = []
    for column, scale in zip(values.T, deviation, strict=True):
        distinct = np.unique(column)
        merged = np.unique(((distinct - column.mean()) / scale).astype(np.float32))
        shares.append(1 - merged.size / distinct.size)
    return np.array(shares)


def dequantise(values: NDArray[np.float64], columns: Sequence[int], seed: int) -> NDArray[np.float64]:
    """Rows ``[n, d]`` with seeded uniform noise from −1/2 to 1/2 added in the columns, so that rounding undoes it.

    Whole numbers have no density; the density of the noisy rows, integrated over a unit cube, is their probability
    (Theis, van den Oord and Bethge, *A note on the evaluation of generative models*, ICLR 2016, section 3.1).

    Raises:
        DataError: a column that holds other than whole numbers.
    """
    noisy = np.array(values, dtype=np.float64)
    noise = np.random.default_rng(seed)
    for column in columns:
        if odd := np.flatnonzero(noisy[:, column] != np.round(noisy[:, column])).tolist():
            raise DataError(f"expected whole numbers in column {column}; got {noisy[odd[0], column]} in row {odd[0]}")
        noisy[:, column] += noise.uniform(-0.5, 0.5, len(noisy))
    return noisy


def split_rows(n: int, validation: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers for training and for validation: a random split of 0 … n−1 that the seed determines.

    ``validation`` is a share; round(n · validation) rows validate, and where it is positive at least one does.

    Raises:
        DataError: a share outside [0, 1), or one that leaves no row to train on.
    """
    if not 0 <= validation < 1:
        raise DataError(f"expected a validation share from 0 to below 1; got {validation}")
    held_out = max(round(n * validation), 1) if validation else 0
    if held_out >= n:
        raise DataError(f"expected a validation share that leaves rows to train on; got {validation} of {n} rows")
    order = np.random.default_rng(seed).permutation(n)
    return order[held_out:], order[:held_out]
