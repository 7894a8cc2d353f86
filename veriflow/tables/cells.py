"""Columns of a table as numbers, or the sentence that says which cells are none and what to do about them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, types

from ..errors import DataError
from .text import NUMBERS, WORDS, is_thousands

Column: TypeAlias = "NDArray[Any] | pa.ChunkedArray"

_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
_ADVICE = {
    "text": "leave such columns out, name one as the label (options columns and label), or code them as numbers",
    "dates": "write them as numbers, such as seconds or days since some day, or leave them out (option columns)",
}
_SHOWN = 12


def finite_numbers(
    columns: Mapping[str, Column], rows: NDArray[np.intp], first_row: int, decimal: str
) -> NDArray[np.float64]:
    """Some rows of columns as float64 numbers ``[rows, columns]``.

    Args:
        columns: the cells by name.
        rows: places of the rows to take.
        first_row: number of the first of all rows in the file, for sentences.
        decimal: the decimal mark of texts.

    Raises:
        DataError: columns of text or dates, with an example each; else the first cell that is no finite number.
    """
    values = np.empty((rows.size, len(columns)), order="F")  # takes memory as its columns are filled
    columns_of: defaultdict[str, list[str]] = defaultdict(list)
    cells: list[str] = []
    for place, (name, column) in enumerate(columns.items()):
        taken = (
            column
            if rows.size == len(column)
            else column[rows]
            if isinstance(column, np.ndarray)
            else column.take(pa.array(rows))
        )
        values[:, place] = numbers = _numbers(taken, decimal)
        odd = np.flatnonzero(~np.isfinite(numbers))
        if not odd.size:
            continue
        texts = (_cell_text(taken, i) for i in odd.tolist())
        if odd.size == rows.size and (example := next(filter(None, texts), "")) and (kind := _kind(taken, example)):
            columns_of[kind].append(f"{name!r} ({example!r})")
        elif not cells:
            cells.append(_sentence(name, rows[odd[0]] + first_row, _cell_text(taken, odd[0])))
    if columns_of:
        found = [f"{kind} in {_shown(names)}: {_ADVICE[kind]}" for kind, names in columns_of.items()]
        raise DataError(f"expected columns of numbers; got {'; and '.join(found)}")
    if cells:
        raise DataError(cells[0])
    return np.ascontiguousarray(values)


def _numbers(column: Column, decimal: str) -> NDArray[np.float64]:
    """The cells as float64, NaN where they are no numbers."""
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    kind = column.type
    if types.is_dictionary(kind):
        parts = [_coded_numbers(chunk, decimal) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.empty(0)
    if types.is_string(kind) or types.is_large_string(kind):
        return _text_numbers(column, decimal)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        whole: NDArray[np.float64] = compute.cast(column, pa.float64(), safe=False).to_numpy()
        return whole
    return np.full(len(column), np.nan)


def _coded_numbers(chunk: pa.DictionaryArray, decimal: str) -> NDArray[np.float64]:
    values = np.append(_numbers(pa.chunked_array([chunk.dictionary]), decimal), np.nan)
    places: NDArray[np.intp] = compute.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False).astype(np.intp)
    return values[places]


def _text_numbers(column: pa.ChunkedArray, decimal: str) -> NDArray[np.float64]:
    """Texts as numbers; a column of two words, such as true and false in any case, as one and zero."""
    if decimal == ".":
        with suppress(pa.ArrowInvalid):
            quick: NDArray[np.float64] = compute.cast(column, pa.float64()).to_numpy()
            return quick
    texts = compute.utf8_trim_whitespace(column)
    fits = compute.match_substring_regex(texts, f"^({NUMBERS[decimal]})$")
    numbers = compute.if_else(fits, texts, pa.scalar(None, texts.type))
    if numbers.null_count == len(texts):
        lower = compute.utf8_lower(texts)
        for words in WORDS:
            if compute.all(compute.is_in(lower, pa.array(list(words))), min_count=0).as_py():
                return np.array([words[word] for word in lower.to_pylist()])
    if decimal != ".":
        numbers = compute.replace_substring(numbers, decimal, ".")
    cast: NDArray[np.float64] = compute.cast(numbers, pa.float64()).to_numpy()
    return cast


def _kind(column: Column, example: str) -> str:
    """What a column without a number holds, of `_ADVICE`; nothing where it should hold numbers."""
    if isinstance(column, np.ndarray):
        return ""
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_temporal(kind) or _DATE.fullmatch(example):
        return "dates"
    return "" if types.is_floating(kind) or re.fullmatch(r"[\d.,' eE+-]*|nan|inf", example) else "text"


def _cell_text(column: Column, place: int) -> str:
    cell = column[place] if isinstance(column, np.ndarray) else column[place].as_py()
    return "" if cell is None else str(cell).strip()[:80]


def _sentence(name: str, row: int, cell: str) -> str:
    if is_thousands(cell):
        return f"expected numbers without thousands separators; got {cell!r} in column {name!r}, row {row}"
    return f"expected a finite number in column {name!r}, row {row}; got {cell!r}"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
