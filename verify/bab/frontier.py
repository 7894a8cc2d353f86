"""The frontier of a search as arrays: to be kept in a file, and to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from veriflow.errors import StorageError

from ..witness.verdict import Witness

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Frontier:
    """The open domains of a search, and what it has counted by then.

    Attributes:
        kind: of domains: signs of ReLU units, boxes of a region, or boxes in the order of their least norm.
        arrays: entries of all domains ``[open, …]`` by name, and numbers ``[]``.
    """

    kind: str
    arrays: Arrays

    def stacks(self, like: Arrays) -> dict[str, NDArray[Any]]:
        """The arrays over domains that ``like`` names, which has the same types and shapes but for the number of domains.

        Raises:
            StorageError: arrays that are missing, of other types, shapes or different numbers of domains, or hold NaN.
        """
        found = {name: self.arrays.get(name, np.zeros(())) for name in like}
        for name, wanted in like.items():
            array = found[name]
            if array.ndim != wanted.ndim or array.dtype != wanted.dtype or array.shape[1:] != wanted.shape[1:]:
                raise misfit(f"no {name}" if name not in self.arrays else f"{name} of shape {list(array.shape)}")
            if np.isnan(array).any():
                raise misfit(f"{name} that are no numbers")
        if len({len(array) for array in found.values()}) > 1:
            raise misfit("different numbers of parts")
        return found

    def number(self, name: str, least: float = 0.0) -> float:
        """A number that is not below the least one.

        Raises:
            StorageError: none of that name, or one below.
        """
        array = self.arrays.get(name, np.zeros(1))
        if array.ndim or not array >= least:
            raise misfit(f"no {name} from {least:g} on")
        return float(array)

    def count(self, name: str) -> int:
        """A number of things.

        Raises:
            StorageError: none of that name, or one that is negative or more than can be counted.
        """
        found = self.number(name)
        if not found < 2**53:
            raise misfit(f"no {name} below 2^53")
        return int(found)


class Search(Protocol):
    """The state of a search, as it reports it.

    Attributes:
        witness: a replayed violation.
        frontier: gives the frontier at the last report; None where nothing was bounded yet.
    """

    witness: Witness | None
    frontier: Callable[[], Frontier] | None


def numbers(**values: float) -> dict[str, NDArray[Any]]:
    """Numbers as arrays ``[]``, in float64."""
    return {name: np.array(value, dtype=np.float64) for name, value in values.items()}


def misfit(got: str) -> StorageError:
    """The error of a frontier that is not that of a search of the query."""
    return StorageError(f"expected a checkpoint with the open parts of this query's search; got {got}")
