"""Types of arrays, whatever their shape, which the docstrings give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Vector: TypeAlias = NDArray[np.float64]
Single: TypeAlias = NDArray[np.float32]
Matrix: TypeAlias = Any  # Vector or scipy.sparse.csr_array, which ships no types
Indices: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]
Signs: TypeAlias = NDArray[np.int8]
Array = TypeVar("Array", Vector, Single, "Tensor")
"""What computes alike in numpy, in both precisions, and in torch."""
