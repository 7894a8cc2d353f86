"""Tables in and out: CSV, Parquet and numpy files as float64 arrays with named columns, every cell checked."""

from __future__ import annotations

import io
import logging
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
from numpy.typing import NDArray

from .errors import DataError
from .files import write_atomically
from .wording import perhaps, shortened

_log = logging.getLogger(__name__)

_ARRAY_PAIRS = (
    ("X", "y"),
    ("x", "y"),
    ("X_train", "y_train"),
    ("x_train", "y_train"),
    ("X_test", "y_test"),
    ("x_test", "y_test"),
)
_UNREADABLE = (
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What pandas, pyarrow and numpy raise on damaged files."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers with named columns, and perhaps a class for each row.

    Attributes:
        values: finite float64 numbers ``[rows, d]``.
        features: the d column names.
        labels: the class of each row as text ``[rows]`` (whole numbers without a point: "1"), or None.
    """

    values: NDArray[np.float64]
    features: tuple[str, ...]
    labels: NDArray[np.str_] | None = None

    def __repr__(self) -> str:
        return f"Table({len(self.values)} rows, features {shortened(', '.join(self.features))})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels, numbers first and by value; empty where there are no labels."""
        return () if self.labels is None else _ordered_classes(self.labels)

    def check_variation(self) -> None:
        """What a table must pass before a density is fitted to it.

        Raises:
            DataError: columns that hold one value only, named: they have no density.
        """
        columns = zip(self.features, self.values.T, strict=True)
        if constant := [name for name, column in columns if (column == column[0]).all()]:
            raise DataError(
                f"expected every column to vary, as a density needs; got one value only in {_listed(constant)}"
            )


def read_table(
    path: str | Path,
    *,
    label: str | None = None,
    keep_class: str | None = None,
    columns: Sequence[str] | None = None,
) -> Table:
    """Read a table from ``.csv``, ``.parquet``, ``.npz`` or ``.npy``; nothing in the file is executed.

    A CSV file starts with a row of column names. In an ``.npz`` archive the rows are the array X or x (also X_train,
    x_train), the labels y (y_train), and an optional array ``features`` names the columns; else they are x0, x1, ….
    True and False count as 1 and 0.

    Args:
        path: the file.
        label: name of the column of classes, which is then no feature; in an archive, of the array of classes
            (``"y_test"`` picks X_test or x_test).
        keep_class: keep only rows of this class, compared as a number where it is one ("1" is 1.0), else as text.
        columns: names of the features to use, in this order; all by default.

    Raises:
        DataError: a file that is missing, of another format or damaged; columns or classes that are not there; repeated
            or empty column names; a cell that is not a finite number; no rows. Rows are counted as in the file: from 1,
            the row of names included, blank lines not.
    """
    source = Path(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz, ".npy": _read_npy}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise DataError(f"expected a file ending in {_listed(readers)}; got {str(source)!r}")
    if not source.is_file():
        raise DataError(f"expected a file at {str(source)!r}; got {'a folder' if source.is_dir() else 'none'}")
    frame, classes, first_row = reader(source, label)
    names = list(frame.columns)
    chosen = names if columns is None else list(columns)
    _check_names(chosen)
    if missing := [name for name in chosen if name not in names]:
        raise DataError(f"expected columns among {_listed(names)}; got {missing[0]!r}{perhaps(missing[0], names)}")

    rows = np.arange(len(frame))
    labels = None if classes is None else _label_texts(classes, first_row)
    if keep_class is not None:
        if labels is None:
            raise DataError(f"expected labels to choose class {keep_class!r} by; got a table without")
        rows = np.flatnonzero(labels == _class_text(keep_class))
        if not rows.size:
            classes = _ordered_classes(labels)
            meant = perhaps(keep_class, classes)
            raise DataError(f"expected a class among {_listed(classes)}; got {keep_class!r}{meant}")
        labels = labels[rows]
    if not rows.size:
        raise DataError("expected at least one row; got none")
    values = np.empty((rows.size, len(chosen)))
    for position, name in enumerate(chosen):
        column = frame.iloc[rows, names.index(name)]
        values[:, position] = _finite_numbers(column, name, rows + first_row)
    table = Table(values, tuple(chosen), labels)
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
    _check_names(features)
    frame = pd.DataFrame(array, columns=list(features))
    stream = io.BytesIO()
    match target.suffix.lower():
        case ".csv":
            frame.to_csv(stream, index=False, lineterminator="\n")
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), stream)
        case ".npz":
            np.savez(stream, X=array, features=np.array(features, dtype=np.str_))
        case ".npy":
            np.save(stream, array)
        case _:
            raise DataError(f"expected a file ending in .csv, .parquet, .npz, .npy; got {str(target)!r}")
    write_atomically(target, stream.getvalue())


def standardisation(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation ``[d]`` of each column of ``values`` ``[rows, d]``.

    Raises:
        DataError: a column that is constant, or too large or too narrow for float64 statistics.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean, deviation = values.mean(axis=0), values.std(axis=0)
    unusable = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(deviation) & (deviation > 0)))
    if unusable.size:
        raise DataError(
            f"expected columns with a positive finite deviation; got {deviation[unusable[0]]} in column {unusable[0]}"
        )
    return mean, deviation


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


_Read = tuple[pd.DataFrame, Sequence[Any] | None, int]
"""Columns of features, the class of each row, the number of the first row."""


def _read_csv(path: Path, label: str | None) -> _Read:
    with _readable(path):
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    frame = cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis="columns")
    return *_without_label(frame, label), 2


def _read_parquet(path: Path, label: str | None) -> _Read:
    with _readable(path), pyarrow.parquet.ParquetFile(path) as file:
        frame = file.read().to_pandas()
    return *_without_label(frame, label), 1


def _read_npy(path: Path, label: str | None) -> _Read:
    if label is not None:
        raise DataError(f"expected no label for a .npy file, which holds one array; got {label!r}")
    with _readable(path), path.open("rb") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    return _array_frame(array, None, path), None, 1


def _read_npz(path: Path, label: str | None) -> _Read:
    with _readable(path), path.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
        names = archive.files
        pair = next((p for p in _ARRAY_PAIRS if p[0] in names and label in (None, p[1])), ("X", label or "y"))
        if pair[0] not in names or (label is not None and label not in names):
            raise DataError(f"expected arrays {pair[0]!r} and {pair[1]!r} in {str(path)!r}; got {_listed(names)}")
        classes, features = (archive[name] if name in names else None for name in (pair[1], "features"))
        frame = _array_frame(archive[pair[0]], features, path)
    if classes is None:
        return frame, None, 1
    if classes.shape not in {(len(frame),), (len(frame), 1)}:
        raise DataError(f"expected one label for each of {len(frame)} rows; got labels of shape {list(classes.shape)}")
    return frame, classes.ravel().tolist(), 1


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"expected a readable {path.suffix} file in {str(path)!r}; got: {reason}") from error


def _without_label(frame: pd.DataFrame, label: str | None) -> tuple[pd.DataFrame, Sequence[Any] | None]:
    names = [str(name) for name in frame.columns]
    _check_names(names)
    frame = frame.set_axis(names, axis="columns")
    if label is None:
        return frame, None
    if label not in names:
        raise DataError(f"expected a label column among {_listed(names)}; got {label!r}{perhaps(label, names)}")
    return frame.drop(columns=label), frame[label].tolist()


def _array_frame(array: NDArray[Any], features: NDArray[Any] | None, path: Path) -> pd.DataFrame:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"expected an array of numbers of shape [rows, d] in {str(path)!r}; "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    names = [f"x{i}" for i in range(array.shape[1])] if features is None else [str(name) for name in features.ravel()]
    _check_names(names)
    if len(names) != array.shape[1]:
        raise DataError(f"expected {array.shape[1]} feature names in {str(path)!r}; got {len(names)}")
    return pd.DataFrame(array, columns=names)


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise DataError("expected at least one column of features; got none")
    if "" in names:
        raise DataError(f"expected a name for every column; got none for column {list(names).index('') + 1}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"expected column names that differ; got {name!r} {count} times")


def _finite_numbers(column: pd.Series[Any], name: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The column as float64, refused with the number of the row that is no finite number."""
    if column.dtype.kind in "biuf":
        numbers: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
    else:
        numbers = np.array([_number(cell) for cell in column.tolist()])
    if (odd := np.flatnonzero(~np.isfinite(numbers))).size:
        cell = column.tolist()[odd[0]]
        raise DataError(f"expected a finite number in column {name!r}, row {rows[odd[0]]}; got {str(cell)[:80]!r}")
    return numbers


def _number(cell: object) -> float:
    """The cell as a number, NaN where it is none."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _label_texts(classes: Sequence[Any], first_row: int) -> NDArray[np.str_]:
    missing = pd.Series(classes, dtype=object).isna()
    texts = ["" if none else _class_text(cell) for cell, none in zip(classes, missing, strict=True)]
    if "" in texts:
        raise DataError(f"expected a label in every row; got none in row {first_row + texts.index('')}")
    return np.array(texts, dtype=np.str_)


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

    return tuple(sorted(set(labels.tolist()), key=order))


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "") or "none"
