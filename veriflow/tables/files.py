"""Tables in files of each kind, as columns that are not looked into yet; nothing in them is executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pyarrow import types

from ..errors import DataError, StorageError
from ..files.array_files import Archive, array_from_npy
from ..files.whole_files import open_file, read_bytes
from ..wording import perhaps
from .cells import Column
from .text import MOST_BYTES, Dialect, check_size, read_text, unreadable

MOST_UNPACKED = 2**29
"""Bytes of a Parquet table's columns, which may pack any number of equal cells into a few."""

_DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, AttributeError)
"""What pyarrow raises on damaged files."""

_ARRAY_PAIRS = (
    ("X", "y"),
    ("x", "y"),
    ("X_train", "y_train"),
    ("x_train", "y_train"),
    ("X_test", "y_test"),
    ("x_test", "y_test"),
)


@dataclass(frozen=True, eq=False)
class RawTable:
    """What is in a table's file.

    Attributes:
        columns: the cells of the columns by name, but for the label.
        rows: how many there are.
        first_row: number of the first row in the file.
        classes: the class of each row, or None.
        decimal: the decimal mark of texts.
        notes: sentences about what was found and might surprise.
    """

    columns: dict[str, Column]
    rows: int
    first_row: int = 1
    classes: Column | None = None
    decimal: str = "."
    notes: tuple[str, ...] = ()


def read_raw(path: Path, label: str | None, chosen: Sequence[str] | None, dialect: Dialect) -> RawTable:
    """The table in a file, by the ending of its name.

    Args:
        path: the file.
        label: the column, or the array, of classes.
        chosen: the columns that are wanted, all but the label by default.
        dialect: what is known of a file of text.

    Raises:
        DataError: a file that is missing, of another format, damaged or too large; names that are empty, repeated or
            not there; two ways to read it.
    """
    ending = next((ending for ending in READERS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise DataError(f"expected a file ending in {', '.join(READERS)}; got {str(path)!r}")
    if READERS[ending] is not _read_text and dialect != Dialect():
        raise DataError(f"expected no separator, decimal mark or header for a {ending} file; got one for {str(path)!r}")
    try:
        return READERS[ending](path, label, chosen, dialect)
    except StorageError as error:
        raise DataError(str(error)) from error


def _read_text(path: Path, label: str | None, chosen: Sequence[str] | None, dialect: Dialect) -> RawTable:
    text = read_text(path, dialect, label)
    check_names(text.names)
    columns: dict[str, Column] = dict(zip(text.names, text.columns, strict=True))
    classes = _without_label(columns, label)
    decimal = dialect.decimal or text.decimal_mark(list(columns) if chosen is None else chosen, repr(str(path)))
    return RawTable(columns, len(text.columns[0]), text.first_row, classes, decimal, tuple(text.notes))


def _read_parquet(path: Path, label: str | None, chosen: Sequence[str] | None, _: Dialect) -> RawTable:
    try:
        with open_file(path, MOST_BYTES) as stream, pyarrow.parquet.ParquetFile(stream) as file:
            schema, texts = file.schema_arrow, []
            index = (schema.pandas_metadata or {}).get("index_columns", [])
            names = [name for name in schema.names if name not in index]
            check_names(names)
            wanted = [name for name in names if chosen is None or name in (*chosen, label)]
            _check_parquet(file, schema, wanted, path)
            texts = [name for name in wanted if types.is_string(schema.field(name).type)]
            stream.seek(0)
            with pyarrow.parquet.ParquetFile(stream, read_dictionary=texts) as again:  # equal texts stay packed
                table = again.read(columns=wanted, use_threads=False)
    except DataError:
        raise
    except (*_DAMAGE, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    columns: dict[str, Column] = {name: table.column(name) for name in wanted}
    return RawTable(columns, table.num_rows, classes=_without_label(columns, label))


def _check_parquet(file: pyarrow.parquet.ParquetFile, schema: pa.Schema, wanted: Sequence[str], path: Path) -> None:
    """Refuse what takes too much memory, or holds more than one number in a cell, before it is read."""
    if nested := [name for name in wanted if types.is_nested(schema.field(name).type)]:
        raise DataError(
            f"expected columns of numbers; got lists or records in {listed(nested)}: give each entry a column of its own"
        )
    rows, groups = file.metadata.num_rows, range(file.metadata.num_row_groups)
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    check_size(rows, len(wanted), path)
    if not 0 <= size <= MOST_UNPACKED:
        raise DataError(f"expected at most {MOST_UNPACKED} bytes of columns in {str(path)!r}; got {size}")


def _read_npy(path: Path, label: str | None, _: Sequence[str] | None, __: Dialect) -> RawTable:
    if label is not None:
        raise DataError(f"expected no label for a .npy file, which holds one array; got {label!r}")
    with _named(path):
        array = array_from_npy(read_bytes(path, MOST_BYTES))
    return _array_table(array, None, None, path)


def _read_npz(path: Path, label: str | None, _: Sequence[str] | None, __: Dialect) -> RawTable:
    with _named(path):
        archive = Archive(read_bytes(path, MOST_BYTES), MOST_BYTES)
        pair = next((p for p in _ARRAY_PAIRS if p[0] in archive and label in (None, p[1])), ("X", label or "y"))
        if pair[0] not in archive or (label is not None and label not in archive):
            raise DataError(f"expected arrays {pair[0]!r} and {pair[1]!r} in {str(path)!r}; got {listed(archive)}")
        classes, features = map(archive.get, (pair[1], "features"))
        return _array_table(archive[pair[0]], features, classes, path)


def _array_table(
    array: NDArray[Any], features: NDArray[Any] | None, classes: NDArray[Any] | None, path: Path
) -> RawTable:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"expected an array of numbers of shape [rows, d] in {str(path)!r}; "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    rows, dim = array.shape
    check_size(rows, dim, path)
    names = [f"x{i}" for i in range(dim)] if features is None else [str(name) for name in features.ravel()[: dim + 1]]
    check_names(names)
    if len(names) != dim or (features is not None and features.size != dim):
        raise DataError(
            f"expected {dim} feature names in {str(path)!r}; got {0 if features is None else features.size}"
        )
    if classes is not None and classes.shape not in {(rows,), (rows, 1)}:
        raise DataError(f"expected one label for each of {rows} rows; got labels of shape {list(classes.shape)}")
    columns: dict[str, Column] = dict(zip(names, array.T, strict=True))
    return RawTable(columns, rows, classes=None if classes is None else classes.ravel())


READERS: dict[str, Callable[[Path, str | None, Sequence[str] | None, Dialect], RawTable]] = {
    ".csv": _read_text,
    ".csv.gz": _read_text,
    ".tsv": _read_text,
    ".tsv.gz": _read_text,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
    ".npy": _read_npy,
}
"""Endings of files and what reads them."""


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in what is said about arrays in it."""
    try:
        yield
    except StorageError as error:
        if str(path) in str(error):
            raise
        raise unreadable(path, str(error).rpartition("; got: ")[2]) from error


def _without_label(columns: dict[str, Column], label: str | None) -> Column | None:
    """The cells of the label's column, which is taken out."""
    if label is None:
        return None
    if label not in columns:
        raise DataError(f"expected a label column among {listed(columns)}; got {label!r}{perhaps(label, columns)}")
    return columns.pop(label)


def check_names(names: Sequence[str]) -> None:
    """Raise DataError for names that are none, empty or repeated."""
    if not names:
        raise DataError("expected at least one column of features; got none")
    if "" in names:
        raise DataError(
            f"expected a name for every column; got none for column {list(names).index('') + 1} (numbers of rows have no place "
            "in a table)"
        )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"expected column names that differ; got {name!r} {count} times")


def listed(names: Iterable[str]) -> str:
    """Names in quotes, the first twelve."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "") or "none"
