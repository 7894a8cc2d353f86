"""What commands read: models and tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..data import read_table
from ..errors import ModelError, StorageError
from ..flow import USFlow


def check_folder(output: Path) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        StorageError: a folder, a file in a folder that is not there, or what cannot be written to.
    """
    needed = [output] if output.exists() else []
    if not output.exists() or output.is_file():
        needed.append(Path(os.path.realpath(output)).parent)
    if output.is_dir() or not all(os.access(place, os.W_OK) for place in needed):
        raise StorageError(f"expected a file in a folder that can be written to; got {str(output)!r}")


def read_rows(table: Path, flow: USFlow, label: str | None = None, keep_class: str | None = None) -> Tensor:
    """The columns of the table that the flow is about, in its order and dtype, ``[n, dim]``.

    Raises:
        DataError: as `read_table`; a column of the flow that is not there.
    """
    values = read_table(table, label=label, keep_class=keep_class, columns=flow.features).values
    return torch.as_tensor(values).to(next(flow.parameters()).dtype)


def split_list(text: str | None) -> list[str] | None:
    """The parts of a text with commas."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def whole_numbers(parts: Iterable[str], option: str) -> tuple[int, ...]:
    """The parts as whole numbers.

    Raises:
        ModelError: a part that is none.
    """
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise ModelError(f"expected whole numbers with commas for {option}; got {','.join(parts)!r}") from None
