"""Rows of numbers in the forms that people have them in, as tensors that have lost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError

if TYPE_CHECKING:
    from .table import Table

Rows: TypeAlias = "Tensor | npt.ArrayLike | Table"
"""A tensor, an array, nested sequences of numbers, or a table with named columns, such as a DataFrame (which is array-like)."""


def as_tensor(rows: Rows, features: Sequence[str]) -> Tensor:
    """The rows as a tensor ``[..., features]``: a float tensor as it is, everything else in float64.

    The columns of a DataFrame or `Table` are found by the features' names; others may hold anything. Where the features
    have no names of their own (x0, x1, …) and the columns others, they count from the left.

    Raises:
        DataError: what holds other than real numbers, or a column that is not there.
    """
    if isinstance(rows, Tensor):
        if rows.is_complex():
            raise DataError(f"expected real numbers; got {rows.dtype}")
        return rows if rows.is_floating_point() else rows.double()
    names = getattr(rows, "features", getattr(rows, "columns", None))
    values = getattr(rows, "values", rows)
    if names is not None:
        values = np.asarray(values)[..., _places([str(name) for name in names], features)]
    return torch.tensor(_numbers(values))


def _numbers(rows: object) -> npt.NDArray[np.float64]:
    try:
        array = (
            np.ma.filled(rows.astype(np.float64), np.nan) if isinstance(rows, np.ma.MaskedArray) else np.asarray(rows)
        )
        if array.dtype.kind not in "biufO" or any(
            isinstance(entry, str) for entry in array.flat if array.dtype == object
        ):
            raise DataError(f"expected rows of numbers; got {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"expected rows of numbers; got {type(rows).__name__} that is none ({error})") from None


def _places(names: list[str], features: Sequence[str]) -> list[int]:
    missing = [name for name in features if name not in names]
    if not missing:
        return [names.index(name) for name in features]
    if len(names) == len(features) and list(features) == [f"x{i}" for i in range(len(features))]:
        return list(range(len(names)))
    raise DataError(f"expected a column for each of {', '.join(features)}; got none for {missing[0]!r}")
