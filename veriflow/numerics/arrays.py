"""Types of arrays, whatever their shape, which the docstrings give."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = Any  # Vector or scipy.sparse.csr_array, which ships no types
Indices: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]
Signs: TypeAlias = NDArray[np.int8]
