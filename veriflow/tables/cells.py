"""Columns of a table as numbers, or the sentence that says which cells are none and what to do about them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, types

from ..errors import DataError
from .text import NUMBERS, PART, WORDS, is_thousands, parts_of

Column: TypeAlias = "NDArray[Any] | pa.ChunkedArray"

_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
_ADVICE = {
    "text": "leave such columns out, name one as the label (options columns and label), or code them as numbers",
    "dates": "write them as numbers, such as seconds or days since some day, or leave them out (option columns)",
}
_SHOWN, _MOST_FAULTY = 12, 1000

MOST_CLASSES = 2**20
"""Of a label."""


def finite_numbers(
    columns: dict[str, Column], rows: NDArray[np.intp] | None, first_row: int, decimal: str
) -> NDArray[np.float64]:
    """Some rows of columns as float64 numbers ``[rows, columns]``.

    Args:
        columns: the cells by name; they are taken out one by one, so that no two forms of all cells are there at once.
        rows: places of the rows to take, None for all.
        first_row: number of the first of all rows in the file, for sentences.
        decimal: the decimal mark of texts.

    Raises:
        DataError: columns of text or dates, with an example each; else the first cell that is no finite number.
    """
    count = len(next(iter(columns.values()))) if rows is None else rows.size
    values = np.empty((count, len(columns)))
    columns_of: defaultdict[str, list[str]] = defaultdict(list)
    cell, faulty = "", 0
    for place, name in enumerate(list(columns)):
        column = columns.pop(name)
        if rows is not None:
            column = column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))
        for start, numbers in _parts(column, decimal):
            values[start : start + numbers.size, place] = numbers
            odd = np.flatnonzero(~np.isfinite(numbers))
            if start == 0 and odd.size == numbers.size and (found := _foreign(column)):
                kind, example = found
                columns_of[kind].append(f"{name!r} ({example!r})")
            elif odd.size and not cell:
                row = start + int(odd[0])
                number = (row if rows is None else int(rows[row])) + first_row
                cell = _sentence(name, number, _cell_text(column, row))
            faulty += bool(odd.size)
            if faulty:
                break
        if faulty == _MOST_FAULTY:
            break
    if columns_of:
        listed = [f"{kind} in {_shown(names)}: {_ADVICE[kind]}" for kind, names in columns_of.items()]
        raise DataError(f"expected columns of numbers; got {'; and '.join(listed)}")
    if cell:
        raise DataError(cell)
    return values


def coded(column: Column) -> tuple[list[Any], NDArray[np.intp]]:
    """The distinct cells of a column, a missing one as None or NaN, and the place of each cell among them.

    Raises:
        DataError: more than `MOST_CLASSES` distinct ones.
    """
    if isinstance(column, np.ndarray):
        distinct, places = np.unique(column, return_inverse=True)
        _check_classes(distinct.size)
        return distinct.tolist(), places.reshape(-1)
    known: dict[Any, int] = {}
    parts = [np.empty(0, dtype=np.intp)]
    for chunk in column.chunks:
        is_packed = types.is_dictionary(chunk.type)
        for start in range(0, len(chunk), len(chunk) if is_packed else PART):
            part = chunk if is_packed else chunk.slice(start, PART).dictionary_encode()
            _check_classes(len(part.dictionary))
            own = [known.setdefault(cell, len(known)) for cell in (*part.dictionary.to_pylist(), None)]
            _check_classes(len(known) - 1)
            parts.append(np.array(own)[_places(part)])
    return list(known), np.concatenate(parts)


def _check_classes(count: int) -> None:
    if count > MOST_CLASSES:
        raise DataError(f"expected a label of at most {MOST_CLASSES} classes; got more")


def _parts(column: Column, decimal: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The cells as float64, NaN where they are no numbers: the place of the first, and some; texts a million at a time."""
    if isinstance(column, np.ndarray) or not _is_text(column.type):
        yield 0, _numbers(column, decimal)
        return
    words = _words(column)
    for number, part in enumerate(parts_of(column)):
        yield number * PART, _text_numbers(part, decimal, words)


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _numbers(column: Column, decimal: str) -> NDArray[np.float64]:
    """Cells other than texts as float64, NaN where they are no numbers."""
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    kind = column.type
    if types.is_dictionary(kind):
        parts = [_coded_numbers(chunk, decimal) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.empty(0)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        whole: NDArray[np.float64] = compute.cast(column, pa.float64(), safe=False).to_numpy()
        return whole
    return np.full(len(column), np.nan)


def _coded_numbers(chunk: pa.DictionaryArray, decimal: str) -> NDArray[np.float64]:
    texts = pa.chunked_array([chunk.dictionary])
    values = _text_numbers(texts, decimal, _words(texts)) if _is_text(texts.type) else _numbers(texts, decimal)
    return np.append(values, np.nan)[_places(chunk)]


def _places(chunk: pa.DictionaryArray) -> NDArray[np.intp]:
    """Where each cell is in the dictionary, −1 for a missing one."""
    places: NDArray[np.intp] = compute.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False).astype(np.intp)
    return places


def _words(column: pa.ChunkedArray) -> Mapping[str, float] | None:
    """The two words of `WORDS`, in any case of letters, that a column of texts holds throughout, if it does."""
    first = _cell_text(column, 0).lower() if len(column) else ""
    words = next((pair for pair in WORDS if first in pair), None)
    if words is None:
        return None
    parts = map(_lowered, parts_of(column))
    return words if all(compute.all(compute.is_in(part, pa.array(list(words)))).as_py() for part in parts) else None


def _lowered(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return compute.utf8_lower(compute.utf8_trim_whitespace(texts))


def _text_numbers(texts: pa.ChunkedArray, decimal: str, words: Mapping[str, float] | None) -> NDArray[np.float64]:
    """Texts as numbers, NaN where they are none."""
    if words is not None:
        places: NDArray[np.int32] = compute.index_in(_lowered(texts), pa.array(list(words))).to_numpy()
        return np.array(list(words.values()), dtype=np.float64)[places]
    if decimal == "." or not compute.any(compute.match_substring(texts, ".")).as_py():
        pointed = texts if decimal == "." else compute.replace_substring(texts, decimal, ".")
        with suppress(pa.ArrowInvalid):
            quick: NDArray[np.float64] = compute.cast(pointed, pa.float64()).to_numpy()
            return quick
    texts = compute.utf8_trim_whitespace(texts)
    fits = compute.match_substring_regex(texts, f"^({NUMBERS[decimal]})$")
    numbers = compute.if_else(fits, texts, pa.scalar(None, texts.type))
    if decimal != ".":
        numbers = compute.replace_substring(numbers, decimal, ".")
    cast: NDArray[np.float64] = compute.cast(numbers, pa.float64()).to_numpy()
    return cast


def _foreign(column: Column) -> tuple[str, str] | None:
    """What a column that begins without numbers holds, of `_ADVICE`, and an example; None where it should hold numbers."""
    if isinstance(column, np.ndarray) or not (example := _example(column)):
        return None
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_temporal(kind) or _DATE.fullmatch(example):
        return "dates", example
    if types.is_floating(kind) or re.fullmatch(r"[\d.,' eE+-]*|nan|inf", example):
        return None
    return "text", example


def _example(column: pa.ChunkedArray) -> str:
    """A cell with something in it, among the first million; empty where there is none."""
    cells = column.slice(0, PART).drop_null()
    if types.is_dictionary(cells.type) and cells.num_chunks:
        cells = pa.chunked_array([cells.chunk(0).dictionary])
    if _is_text(cells.type):
        cells = cells.filter(compute.not_equal(compute.utf8_trim_whitespace(cells), ""))
    return _cell_text(cells, 0) if len(cells) else ""


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
