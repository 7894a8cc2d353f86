"""Models and tables that commands read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from veriflow.errors import DataError, ModelError, StorageError
from veriflow.flows.flow import USFlow
from veriflow.tables.table import read_table
from veriflow.tables.text import Dialect

from .output import say


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


def read_rows(
    table: Path, flow: USFlow, label: str | None = None, keep_class: str | None = None, dialect: Dialect | None = None
) -> Tensor:
    """The columns of the table that the flow is about, in its order, in float64 ``[n, dim]``; says what was found in the file.

    Raises:
        DataError: as `read_table`; a column of the flow that is not there; a row so far out that the flow's numbers overflow.
    """
    found = read_table(table, label=label, keep_class=keep_class, columns=flow.features, **asdict(dialect or Dialect()))
    rows = torch.as_tensor(found.values)
    with torch.no_grad():
        far = (~flow.norm(rows).isfinite()).nonzero().flatten().tolist()
        deviations = flow.deviations().numpy()
    if far and found.rows is not None:
        cells = found.values[far[0]]
        worst = int(np.argmax(np.abs(cells / deviations)))
        raise DataError(
            f"expected numbers within the flow's range; got {cells[worst]:g} in column {found.features[worst]!r}, "
            f"row {found.rows[far[0]]}"
        )
    say_notes(found.notes)
    return rows


def say_notes(notes: Iterable[str]) -> None:
    """Say on stderr what was found in a table and might surprise."""
    for note in notes:
        say(f"note: {note}")


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
