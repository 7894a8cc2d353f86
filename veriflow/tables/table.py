"""Tables in and out: text, Parquet and numpy files as float64 arrays with named columns, every cell checked."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from ..errors import DataError
from ..files.whole_files import write_atomically
from ..wording import perhaps, shortened
from .cells import Column, coded, finite_numbers
from .dependences import linear_dependences
from .files import check_names, listed, read_raw
from .text import Dialect, is_missing, row_of_names, rows_of_cells

_log = logging.getLogger(__name__)

_MOST_EQUATIONS = 8

_LARGEST_LABELS = 2**30  # bytes


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers with named columns, and perhaps a class for each row.

    Attributes:
        values: finite float64 numbers ``[rows, d]``.
        features: the d column names.
        labels: the class of each row as text ``[rows]`` (whole numbers without a point: "1"), or None.
        rows: the number of each row in its file ``[rows]``, or None.
        notes: sentences about what was found in the file and might surprise.
    """

    values: NDArray[np.float64]
    features: tuple[str, ...]
    labels: NDArray[np.str_] | None = None
    rows: NDArray[np.intp] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Table({len(self.values)} rows, features {shortened(', '.join(self.features))})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels, numbers first and by value; empty where there are no labels."""
        return () if self.labels is None else _ordered_classes(self.labels)

    def check_variation(self) -> None:
        """What a table must pass before a density is fitted to it.

        Raises:
            DataError: columns that hold one value only, named: they have no density; a number beyond those of float32.
        """
        largest = np.finfo(np.float32).max
        for name, column in zip(self.features, self.values.T, strict=True):
            if (far := np.flatnonzero(np.abs(column) > largest)).size:
                row = far[0]
                number = row + 1 if self.rows is None else self.rows[row]
                raise DataError(
                    f"expected numbers below {largest:.3g} in magnitude; got {column[row]:g} in column {name!r}, row {number}"
                )
        columns = zip(self.features, self.values.T, strict=True)
        if constant := [name for name, column in columns if (column == column[0]).all()]:
            raise DataError(
                f"expected every column to vary, as a density needs; got one value only in {listed(constant)}"
            )

    def dependences(self) -> list[str]:
        """What linear functions between columns do to a density, in a sentence that names them; empty where there are none."""
        if not (found := linear_dependences(self.values, self.features)):
            return []
        shown = "; ".join(found[:_MOST_EQUATIONS]) + ("; …" if len(found) > _MOST_EQUATIONS else "")
        return [
            f"{shown}: the rows lie in a space of {len(self.features) - len(found)} dimensions out of {len(self.features)}, on "
            "which a density can grow without bound, so that likelihoods and masses say little; leave such columns out"
        ]


def read_table(
    path: str | Path,
    *,
    label: str | None = None,
    keep_class: str | None = None,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
) -> Table:
    """Read a table from ``.csv``, ``.tsv``, ``.parquet``, ``.npz`` or ``.npy``; nothing in the file is executed.

    Text, which may be packed (``.csv.gz``), has commas, semicolons, tabs or bars between its cells, decimal points or commas,
    and a first row of column names or none: what is not told is found, or the file is refused where two readings make sense.
    In an ``.npz`` archive the rows are the array X or x (also X_train, x_train), the labels y (y_train), and an optional array
    ``features`` names the columns; where nothing does, they are x0, x1, …. True and false, yes and no count as 1 and 0.

    Args:
        path: the file.
        label: name of the column of classes, which is then no feature; in an archive, of the array of classes
            (``"y_test"`` picks X_test or x_test).
        keep_class: keep only rows of this class, compared as a number where it is one ("1" is 1.0), else as text.
        columns: names of the features to use, in this order; all by default.
        separator: what stands between cells of text: ",", ";", "|", a tab, or " " for any number of spaces.
        decimal: the decimal mark of text, "." or ",".
        header: whether the first row of text holds names.

    Raises:
        DataError: a file that is missing, of another format, damaged, too large or to be read in two ways; columns or classes
            that are not there; repeated or empty column names; columns of text or dates; a cell that is not a finite number;
            rows of different lengths, or none. Rows are counted as in the file: from 1, the row of names included, blank
            lines not.
    """
    raw = read_raw(Path(path), label, columns, Dialect(separator, decimal, header))
    chosen = list(raw.columns) if columns is None else list(columns)
    check_names(chosen)
    if missing := [name for name in chosen if name not in raw.columns]:
        raise DataError(
            f"expected columns among {listed(raw.columns)}; got {missing[0]!r}{perhaps(missing[0], raw.columns)}"
            + "".join(f" ({note})" for note in raw.notes)
        )
    rows = None
    labels = None if raw.classes is None else _label_texts(raw.classes, raw.first_row)
    if keep_class is not None:
        if labels is None:
            raise DataError(f"expected labels to choose class {keep_class!r} by; got a table without (option label)")
        rows = np.flatnonzero(labels == _class_text(keep_class))
        if not rows.size:
            classes = _ordered_classes(labels)
            raise DataError(
                f"expected a class among {listed(classes)}; got {keep_class!r}{perhaps(keep_class, classes)}"
            )
        labels = labels[rows]
    if not raw.rows:
        raise DataError("expected at least one row; got none")
    values = finite_numbers({name: raw.columns.pop(name) for name in chosen}, rows, raw.first_row, raw.decimal)
    numbers = np.arange(raw.first_row, raw.first_row + raw.rows) if rows is None else rows + raw.first_row
    table = Table(values, tuple(chosen), labels, numbers, raw.notes)
    _log.info("read %s: %r", path, table)
    return table


def write_table(path: str | Path, values: NDArray[np.floating[Any]], features: Sequence[str]) -> None:
    """Write ``values`` ``[rows, d]`` with the d column names, as the ending of ``path`` says, whole or not at all.

    `read_table` gives the same float64 numbers back, bit for bit; ``.npy`` holds no names.

    Raises:
        DataError: an unknown ending, or values and names that do not fit each other.
        StorageError: a file that cannot be written.
    """
    target = Path(path)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(features):
        raise DataError(f"expected values of shape [rows, {len(features)}]; got {list(array.shape)}")
    check_names(features)
    stream = io.BytesIO()
    match target.suffix.lower():
        case ".csv":
            stream.write((row_of_names(features) + rows_of_cells(array.tolist())).encode())
        case ".parquet":
            columns = [pa.array(column, from_pandas=True) for column in array.T]  # NaN is a null
            pyarrow.parquet.write_table(pa.table(columns, names=list(features)), stream)
        case ".npz":
            np.savez(stream, X=array, features=np.array(features, dtype=np.str_))
        case ".npy":
            np.save(stream, array)
        case _:
            raise DataError(f"expected a file ending in .csv, .parquet, .npz, .npy; got {str(target)!r}")
    write_atomically(target, stream.getvalue())


def _label_texts(column: Column, first_row: int) -> NDArray[np.str_]:
    distinct, places = coded(column)
    texts = ["" if is_missing(cell) else _class_text(cell) for cell in distinct]
    unlabelled = np.flatnonzero(np.array([text == "" for text in texts], dtype=np.bool_)[places])
    if unlabelled.size:
        raise DataError(f"expected a label in every row; got none in row {first_row + unlabelled[0]}")
    longest, most = max(map(len, texts), default=0), _LARGEST_LABELS // max(4 * len(places), 1)
    if longest > most:
        raise DataError(f"expected labels of at most {most} characters for {len(places)} rows; got one of {longest}")
    return np.array(texts, dtype=np.str_)[places]


def _number(cell: object) -> float:
    """The cell as a number, NaN where it is none."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _class_text(cell: object) -> str:
    """The label as text, whole numbers without a point."""
    number = _number(cell)
    if number.is_integer() and not isinstance(cell, bool):
        return str(int(number))
    return str(cell).strip()


def _ordered_classes(labels: NDArray[np.str_]) -> tuple[str, ...]:
    def order(text: str) -> tuple[bool, float, str]:
        number = _number(text)
        return np.isnan(number), number, text

    parts = (labels[start : start + 2**20].tolist() for start in range(0, len(labels), 2**20))
    return tuple(sorted(set().union(*parts), key=order))
