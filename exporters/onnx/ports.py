"""The inputs and outputs of an ONNX file, and the last operations of its outputs that were taken off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .operators.importer import EndingKind, Shape


@dataclass(frozen=True, eq=False)
class Ending:
    """The last operation of an output, which is not piecewise affine and was taken off.

    The port's slice of the graph's output holds the operation's input, the logits, in the order of ``shape``.

    Attributes:
        kind: Sigmoid, Softmax, LogSoftmax or ArgMax.
        shape: of the logits.
        axis: along which the operation runs, None for Sigmoid, which works entry by entry.
        prefers_last: whether ArgMax takes the last of several largest entries, not the first.
        entries: the output, in its own shape, as positions in the operation's flat result; that result has the shape
            of the logits, for ArgMax without the axis.
        labels: for ArgMax, what the file has in place of the numbers 0, 1, …; empty where it has those.
    """

    kind: EndingKind
    shape: Shape
    axis: int | None
    prefers_last: bool
    entries: NDArray[np.int64]
    labels: tuple[int | str, ...] = ()


@dataclass(frozen=True, eq=False)
class Port:
    """One input or output of the file, and where it lies in the graph's flat input or output.

    Attributes:
        name: as in the file.
        shape: as in the file, with an open batch taken as 1.
        start: its first entry in the flat vector.
        size: number of its entries there: those of ``shape``, or of ``ending.shape``.
        ending: what was taken off an output, if anything; outputs of one ending share its logits.
    """

    name: str
    shape: Shape
    start: int
    size: int
    ending: Ending | None = None

    @property
    def slice(self) -> slice:
        """Its entries in the flat vector."""
        return slice(self.start, self.start + self.size)
