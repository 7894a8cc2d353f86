"""Tables as text: encoding, separator, decimal mark and names are found, or asked for where two readings are possible."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from pyarrow import compute

from ..errors import DataError
from ..files.whole_files import read_bytes

MOST_BYTES, MOST_TEXT = 2**28, 2**27
"""Bytes of a table's file, and of text when it is unpacked."""

MOST_COLUMNS, MOST_ROWS, MOST_CELLS = 2**15, 2**25, 60_000_000
"""Of a table of any kind: half a gigabyte of float64; each column of text takes its own time and memory."""

PART = 2**20
"""Cells of a column that are looked at together."""

LONGEST_ROW = 2**24
"""Bytes of a row of text, with its quoted line ends."""

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}
"""What may stand between cells, with its name; a space, that is a run of them, is never guessed."""

_NUMBER = r"[+-]?([0-9]+{0}?[0-9]*|{0}[0-9]+)([eE][+-]?[0-9]+)?"
NUMBERS = {".": _NUMBER.format(r"\."), ",": _NUMBER.format(",")}
"""Patterns of numbers by decimal mark."""

WORDS = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0})
"""Pairs of words that a column may hold instead of numbers, in any case of letters."""

_THOUSANDS = "[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}"
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "inf", "+inf", "-inf", "infinity", "-infinity"}
_HEAD = 2**22
_SAMPLE, _SAMPLE_CELLS = 200, 2**16
_CONTROLS = bytes({*range(32)} - {*b"\t\n\r"})


@dataclass(frozen=True)
class Dialect:
    """How a table is written as text; what is None is found.

    Attributes:
        separator: what stands between cells: a character or its name in `SEPARATORS`.
        decimal: the decimal mark, a point or a comma.
        header: whether the first row holds the names of the columns.

    Raises:
        DataError: another separator or mark.
    """

    separator: str | None = None
    decimal: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        if self.separator is not None:
            named = {name: sign for sign, name in SEPARATORS.items()} | {r"\t": "\t"}
            sign = named.get(self.separator, self.separator)
            if sign not in SEPARATORS:
                raise DataError(f"expected a separator among {', '.join(SEPARATORS.values())}; got {self.separator!r}")
            object.__setattr__(self, "separator", sign)
        if self.decimal not in (None, ".", ","):
            raise DataError(f"expected a point or a comma as the decimal mark; got {self.decimal!r}")


@dataclass(frozen=True, eq=False)
class TextTable:
    """The cells of a table as texts.

    Attributes:
        columns: texts, as many in each.
        names: those of the columns, as the first row has them, or x0, x1, ….
        separator: what stood between the cells.
        first_row: number of the first row of cells in the file, 1 or 2.
        has_quotes: whether there are quotes, within which a separator is a part of the cell.
        notes: sentences about what was found and might surprise.
    """

    columns: list[pa.ChunkedArray]
    names: list[str]
    separator: str
    first_row: int
    has_quotes: bool
    notes: list[str]

    def decimal_mark(self, names: Sequence[str], where: str) -> str:
        """The decimal mark of some columns: a comma where numbers have commas and none has a point.

        Raises:
            DataError: both marks, or all marks before three digits, so that they may separate thousands.
        """
        if self.separator == "," and not self.has_quotes:
            return "."
        chosen = set(names)
        columns = [column for name, column in zip(self.names, self.columns, strict=True) if name in chosen]
        examples = {sign: found for sign in ",." if (found := _first(columns, sign)) is not None}
        if len(examples) > 1:
            raise DataError(
                f"expected one decimal mark in {where}; got {' and '.join(map(repr, examples.values()))}: say whether it is a "
                "comma or a point, and write numbers without thousands separators"
            )
        sign, example = next(iter(examples.items()), (".", ""))
        usual = self.separator == "," and sign == "."
        if example and not usual and all(_may_be_thousands(column, sign) for column in columns):
            raise DataError(
                f"expected numbers that can be read in one way in {where}; got {example!r}, which may be "
                f"{example.replace(',', '.')} or {example.replace(sign, '')}: say that the decimal mark is {sign!r}, or write "
                "numbers without thousands separators"
            )
        return sign


def read_text(path: Path, dialect: Dialect, label: str | None = None) -> TextTable:
    """The cells of a file of text, which may be packed by gzip.

    Args:
        path: the file.
        dialect: what is known of it.
        label: a column that may hold text.

    Raises:
        DataError: bytes that are no text, too many of them or of columns, rows of different lengths, or two ways to read it.
        StorageError: what is no file, or cannot be read.
    """
    data, notes = _text(path)
    head = _head(data, path)
    separator = dialect.separator or _separator(head, dialect, label, path)
    if separator == " ":
        data = _single_spaced(data)
        head = _head(data, path)
    sample = _records(head, separator, path)
    is_quoted = _is_quoted_alone(head, separator)
    has_names = dialect.header if dialect.header is not None else _has_names(sample, is_quoted, separator, path)
    if not has_names and dialect == Dialect(header=dialect.header) and _may_be_one_column(sample, separator):
        raise _ambiguous(path, [separator], "two whole numbers in each row, which may be one with a decimal comma")
    table = _cells(data, separator, len(sample[0]), path)
    names = [f"x{i}" for i in range(table.num_columns)]
    if has_names:
        names = [cell if is_quoted else cell.strip() for cell in sample[0]]
    elif dialect.header is None:
        notes.append(
            f"{str(path)!r} has no row of names, as its first row holds numbers: its columns are called x0, x1, …"
        )
    columns = [column.slice(int(has_names)) for column in table.columns]
    return TextTable(columns, names, separator, 1 + int(has_names), b'"' in data, notes)


def row_of_names(names: Sequence[str]) -> str:
    """The first line of a file with commas; in quotes where names would not be read as such, or not as they are, without."""
    doubtful = any(is_value(name) or name != name.strip() or not set(";\t|").isdisjoint(name) for name in names)
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL if doubtful else csv.QUOTE_MINIMAL, lineterminator="\n").writerow(names)
    return line.getvalue()


def rows_of_cells(rows: Iterable[Sequence[float | str]]) -> str:
    """The lines below it: every number in the fewest digits that give it back, NaN as an empty cell."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(["" if is_missing(cell) else cell for cell in row] for row in rows)
    return lines.getvalue()


def is_missing(cell: object) -> bool:
    """Whether there is nothing in a cell: None or NaN."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_value(cell: str) -> bool:
    """Whether a text is what columns of numbers hold: a number, a word of `WORDS`, or a mark of a missing one."""
    text = cell.strip()
    if any(re.fullmatch(pattern, text) for pattern in NUMBERS.values()):
        return True
    return text.lower() in _MISSING or any(text.lower() in words for words in WORDS)


def is_thousands(cell: str) -> bool:
    """Whether a text is a number with separated thousands."""
    return re.fullmatch(r"[+-]?[0-9]{1,3}([., '’][0-9]{3})+([.,][0-9]+)?", cell.strip()) is not None


def _text(path: Path) -> tuple[bytes, list[str]]:
    """The text of a file in UTF-8, and what there is to say about its encoding."""
    data = read_bytes(path, MOST_BYTES)
    if path.suffix.lower() == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(MOST_TEXT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(path, error) from None
    if len(data) > MOST_TEXT:
        raise unreadable(path, f"more than {MOST_TEXT} bytes of text (a .parquet file may hold more)")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16").encode(), []
        except UnicodeDecodeError as error:
            raise unreadable(path, error) from None
    if len(data.translate(None, _CONTROLS)) < len(data):
        raise unreadable(path, "bytes that are no text")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode(), [f"{str(path)!r} is not in UTF-8: it is read as Latin-1"]
    return data.removeprefix(codecs.BOM_UTF8), []


def _head(data: bytes, path: Path) -> str:
    """The first lines, whole."""
    head = data[:_HEAD]
    if len(data) > _HEAD:
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1]
    if not head.strip():
        raise unreadable(path, f"a line of more than {_HEAD} bytes" if data[:_HEAD].strip() else "no text at the start")
    return head.decode()


def _records(head: str, separator: str, path: Path) -> list[list[str]]:
    """The first rows of cells; blank lines are none."""
    lines = csv.reader(io.StringIO(head, newline=None), delimiter=separator, strict=True)
    records: list[list[str]] = []
    try:
        for record in filter(None, lines):
            records.append(record)
            if len(records) == _SAMPLE or (len(records) > 1 and len(records) * len(records[0]) >= _SAMPLE_CELLS):
                break
    except csv.Error as error:
        raise unreadable(path, error) from None
    check_size(len(records), len(records[0]), path)
    return records


def _single_spaced(data: bytes) -> bytes:
    """The text with one space for each run of spaces and tabs, and none at the ends of lines."""
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    for end in (b"\n", b"\r"):
        data = data.replace(b" " + end, end).replace(end + b" ", end)
    return data.strip(b" ")


def _separator(head: str, dialect: Dialect, label: str | None, path: Path) -> str:
    """The one sign that splits all of the first rows alike, into columns of numbers where several do."""
    found = {}
    for sign in SEPARATORS:
        if sign in head and sign != " " and (sign != dialect.decimal or '"' in head):
            with suppress(DataError):  # too long a cell, where another sign may make many of it
                found[sign] = _records(head, sign, path)
    found = {sign: records for sign, records in found.items() if max(map(len, records)) > 1}
    if len(found) <= 1:
        sign = next(iter(found), ";" if dialect.decimal == "," else ",")
        if found and len(found[sign][0]) == 1 and (sign, dialect.decimal) == (",", None):
            raise _ambiguous(path, [sign], "a first row without a comma and others with one")
        return sign
    alike = {sign: records for sign, records in found.items() if len({len(record) for record in records}) == 1}
    if len(alike) > 1:
        full = [sign for sign, records in alike.items() if all(_value_columns(records, label))]
        some = [sign for sign, records in alike.items() if any(_value_columns(records, label))]
        alike = {sign: alike[sign] for sign in (full or some)}
    if len(alike) != 1:
        raise _ambiguous(path, alike or found, f"{head.splitlines()[0][:80]!r} first")
    return next(iter(alike))


def _value_columns(records: Sequence[Sequence[str]], label: str | None) -> list[bool]:
    """Whether each column but the label holds values from the second row on."""
    columns = zip(*records, strict=True)
    return [all(map(is_value, column[1:])) for column in columns if column[0].strip() != label]


def _ambiguous(path: Path, signs: Iterable[str], got: str) -> DataError:
    names = " or ".join(SEPARATORS[sign] for sign in signs)
    return DataError(
        f"expected rows that can be split in one way in {str(path)!r}; got {got}: say what the separator is ({names}) or the "
        "decimal mark"
    )


def _may_be_one_column(sample: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether commas between two whole numbers may be decimal ones."""
    return separator == "," and all(
        len(row) == 2 and re.fullmatch(rf"\s*{NUMBERS[',']}\s*", ",".join(row)) for row in sample
    )


def _has_names(sample: list[list[str]], is_quoted: bool, separator: str, path: Path) -> bool:
    """Whether the first row holds names: texts over columns of numbers.

    Raises:
        DataError: a first row that may be names, as years are, or numbers.
    """
    first, below = [cell.strip() for cell in sample[0]], list(zip(*sample[1:], strict=False))
    are_values = [is_value(cell) for cell in first]
    if not any(are_values) or (is_quoted and any(separator not in cell for cell in first)):
        return True
    evident = any(any(map(is_value, column)) for value, column in zip(are_values, below, strict=False) if not value)
    numbers = [cell for cell, value in zip(first, are_values, strict=True) if value and cell.lower() not in _MISSING]
    name_like = len(set(numbers)) == len(numbers) and all(cell.isdecimal() for cell in numbers)
    if evident and name_like:
        return True
    doubtful = evident or is_quoted
    if name_like and numbers and below:
        fractions = any(re.fullmatch(r"\s*[+-]?[0-9]*[.,][0-9]+.*", cell) for column in below for cell in column)
        doubtful = doubtful or fractions or numbers == [str(i) for i in range(len(first))]
    if doubtful:
        raise DataError(
            f"expected a first row of names, or of numbers, in {str(path)!r}; got {_listed(first)}, which may be either: say "
            "whether there is a row of names (a header)"
        )
    return False


def _is_quoted_alone(head: str, separator: str) -> bool:
    """Whether all cells of the first row stand in quotes, and not all of the second."""
    cell = r'"(?:[^"]|"")*"'
    row = rf"\s*{cell}(?:{re.escape(separator)}{cell})*(?:\r\n?|\n|$)"
    found = re.match(row, head)
    return found is not None and not re.match(row, head[found.end() :])


def check_size(rows: int, columns: int, path: Path) -> None:
    """Raise DataError for a table that takes too much memory, be it of few bytes."""
    if rows > MOST_ROWS or columns > MOST_COLUMNS or rows * columns > MOST_CELLS:
        raise DataError(
            f"expected at most {MOST_ROWS} rows, {MOST_COLUMNS} columns and {MOST_CELLS} cells in {str(path)!r}; "
            f"got {rows} rows of {columns} columns"
        )


def _cells(data: bytes, separator: str, columns: int, path: Path) -> pa.Table:
    """All cells as texts, in parts of about 16 MB of the file: what the parser takes beside them grows with a part."""
    bad: list[tuple[int, int]] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        bad.append((row.number or 0, row.actual_columns))
        return "error"

    rows, parts = 0, []
    try:
        with pyarrow.csv.open_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=LONGEST_ROW + 512 * columns, autogenerate_column_names=True
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={f"f{i}": pa.string() for i in range(columns)}, strings_can_be_null=False, null_values=[]
            ),
        ) as reader:
            for part in reader:
                rows += part.num_rows
                check_size(rows, columns, path)
                parts.append(part)
            return pa.Table.from_batches(parts, reader.schema)
    except pa.ArrowInvalid as error:
        if bad:
            raise DataError(
                f"expected {columns} cells in every row of {str(path)!r}, as in the first; got {bad[0][1]} in row {bad[0][0]}"
            ) from None
        if "straddling" in str(error):
            raise DataError(
                f"expected rows of at most {LONGEST_ROW} bytes in {str(path)!r}; got a longer one after row {rows}"
            ) from None
        raise unreadable(path, error) from None


def parts_of(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """A column, a million cells at a time."""
    yield from (column.slice(start, PART) for start in range(0, len(column), PART))


def _first(columns: Sequence[pa.ChunkedArray], sign: str) -> str | None:
    """The first number with this sign as its decimal mark."""
    for column in columns:
        for part in parts_of(column):
            marked = _marked(part, sign, NUMBERS[sign])
            if len(marked):
                return str(marked[0].as_py()).strip()
    return None


def _may_be_thousands(column: pa.ChunkedArray, sign: str) -> bool:
    """Whether every number with this sign could have it between thousands."""
    found = (_marked(part, sign, NUMBERS[sign]) for part in parts_of(column))
    return all(len(marked) == len(_marked(marked, sign, _THOUSANDS)) for marked in found)


def _marked(column: pa.ChunkedArray, sign: str, pattern: str) -> pa.ChunkedArray:
    """The texts with the sign that match the pattern as a whole."""
    marked = column.filter(compute.match_substring(column, sign))
    return marked.filter(compute.match_substring_regex(marked, rf"^\s*({pattern})\s*$"))


def unreadable(path: Path, reason: object) -> DataError:
    """What a damaged or foreign file is refused with."""
    first = str(reason).strip().partition("\n")[0] or type(reason).__name__
    return DataError(f"expected a readable {path.suffix} file in {str(path)!r}; got: {first}")


def _listed(cells: Sequence[str]) -> str:
    return ", ".join(map(repr, cells[:4])) + (", …" if len(cells) > 4 else "")
