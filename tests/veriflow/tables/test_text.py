"""Tables of text in every custom give the numbers that were written, or are refused; never other numbers."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from veriflow.errors import DataError
from veriflow.tables.table import read_table, write_table
from veriflow.tables.text import MOST_COLUMNS, MOST_TEXT, Dialect, rows_of_cells

NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return path


def table_text(
    rows: Sequence[Sequence[object]], names: Sequence[str] | None, separator: str, decimal: str, quoting: int
) -> str:
    """The rows as a program of that custom writes them."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    if names is not None:
        writer.writerow(names)
    writer.writerows([str(cell).replace(".", decimal) for cell in row] for row in rows)
    return stream.getvalue()


any_numbers = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**6), 10**6)
    | st.integers(-(10**7), 10**7).map(lambda whole: f"{whole / 1000:.3f}")
    | st.floats(-1e4, 1e4).map(lambda number: f"{number:.2f}")
)
customs = st.tuples(
    st.sampled_from(",;\t|"), st.sampled_from(".,"), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
)
grids = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(any_numbers, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@given(rows=grids, custom=customs, named=st.booleans(), told=st.booleans())
def test_the_same_numbers_or_a_refusal_in_any_custom(tmp_path, rows, custom, named, told):
    """Told everything, it is read; told nothing, it is read alike or refused."""
    separator, decimal, _ = custom
    names = [f"name{i}" for i in range(len(rows[0]))] if named else None
    path = write(tmp_path, table_text(rows, names, *custom))
    values = [[float(cell) for cell in row] for row in rows]
    options = {"separator": separator, "decimal": decimal, "header": named} if told else {}
    try:
        table = read_table(path, **options)
    except DataError as error:
        assert not told, error
        assert str(error).startswith("expected ")
        return
    assert table.values.tolist() == values
    assert table.features == tuple(names or [f"x{i}" for i in range(len(rows[0]))])
    assert bool(table.notes) == (not named and not told)
    assert table.rows is not None
    assert table.rows.tolist() == [i + 1 + named for i in range(len(rows))]


@pytest.mark.parametrize("separator", NAMES)
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.csv.gz", "table.TSV.GZ"])
def test_usual_tables_are_read_without_being_told(tmp_path, separator, decimal, name):
    rows = [[1.5, -2, "1e3"], [0.25, 3.125, 7]]
    path = write(tmp_path, table_text(rows, ["a", "b", "c"], separator, decimal, csv.QUOTE_MINIMAL), name)
    options = {"separator": NAMES[separator]} if separator == " " else {}
    table = read_table(path, **options)
    assert (table.features, table.values.tolist()) == (("a", "b", "c"), [[1.5, -2, 1000], [0.25, 3.125, 7]])
    assert table.notes == ()


TEXTS = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=4).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.floats(allow_nan=False, allow_infinity=False)),
        st.lists(
            st.integers(0, 5).map(str)
            | st.sampled_from(["NA", "nan", " a", "1.5", "yes", "a;b", "2019", 'q"', "-"])
            | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=3),
            min_size=shape[1],
            max_size=shape[1],
            unique=True,
        ),
    )
)


@given(values=hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3))))
def test_rows_are_written_as_pandas_writes_them(values):
    assert rows_of_cells(values.tolist()) == pd.DataFrame(values).to_csv(index=False, header=False, lineterminator="\n")


@given(table=TEXTS)
def test_names_that_look_like_numbers_come_back(tmp_path, table):
    values, names = table
    path = tmp_path / "table.csv"
    write_table(path, values, names)
    back = read_table(path)
    assert back.features == tuple(names)
    assert back.values.tobytes() == values.tobytes()


READ = [
    ("1.5,2\n3,4\n", {}, ("x0", "x1"), [[1.5, 2], [3, 4]]),
    ("1,5;2,7\n3,5;4,7\n", {}, ("x0", "x1"), [[1.5, 2.7], [3.5, 4.7]]),
    ("1,5,2,7\n3,5,4,7\n", {}, ("x0", "x1", "x2", "x3"), [[1, 5, 2, 7], [3, 5, 4, 7]]),
    ("x\n1,5\n2,7\n", {"decimal": ","}, ("x",), [[1.5], [2.7]]),
    ('x,y\n"1,5","2,7"\n', {}, ("x", "y"), [[1.5, 2.7]]),
    ('x,y\n"1,500","2,700"\n', {"decimal": ","}, ("x", "y"), [[1.5, 2.7]]),
    ("a;b\n1.234;5.678\n", {"decimal": "."}, ("a", "b"), [[1.234, 5.678]]),
    ("a;b\n1.234;0.678\n", {}, ("a", "b"), [[1.234, 0.678]]),
    ("a,b\n1.234,5.678\n", {}, ("a", "b"), [[1.234, 5.678]]),
    ("kind;x\nSmith, J;1\nDoe, A;2\n", {"label": "kind"}, ("x",), [[1], [2]]),
    ("5.1,3.5,setosa\n4.9,3,setosa\n", {"label": "x2"}, ("x0", "x1"), [[5.1, 3.5], [4.9, 3]]),
    ("2019,2020\n1.5,2\n", {"header": True}, ("2019", "2020"), [[1.5, 2]]),
    ("2019,2020\n1.5,2\n", {"header": False}, ("x0", "x1"), [[2019, 2020], [1.5, 2]]),
    ('"2019","2020"\n1.5,2\n', {}, ("2019", "2020"), [[1.5, 2]]),
    ("a,b\ntrue,YES\nFalse,no\n", {}, ("a", "b"), [[1, 1], [0, 0]]),
    (" a, b\n1,  2\n", {}, ("a", "b"), [[1, 2]]),
    ("a  b\n 1\t2 \n", {"separator": "space"}, ("a", "b"), [[1, 2]]),
    ("a\r1.5\r2\r", {}, ("a",), [[1.5], [2]]),
    ("größe,b\n1,2\n".encode("utf-16"), {}, ("größe", "b"), [[1, 2]]),
    ("größe,b\n1,2\n".encode("utf-8-sig"), {}, ("größe", "b"), [[1, 2]]),
    ("größe,b\n1,2\n".encode("latin-1"), {}, ("größe", "b"), [[1, 2]]),
]


@pytest.mark.parametrize(("text", "options", "names", "values"), READ)
def test_what_can_be_read_in_one_way_is(tmp_path, text, options, names, values):
    table = read_table(write(tmp_path, text), **options)
    assert (table.features, table.values.tolist()) == (names, values)


REFUSED = [
    ("x\n1,5\n2,7\n", "rows that can be split in one way .* separator is (comma) or the decimal mark"),
    ("1,5\n2,7\n", "two whole numbers in each row, which may be one with a decimal comma"),
    ("a;b|c\n1;2|3\n", "split in one way .*(semicolon or bar)"),
    ("a;b\n1.234;5.678\n", "got '1.234', which may be 1.234 or 1234: say that the decimal mark is '.'"),
    ("a;b\n1,234;5,678\n", "got '1,234', which may be 1.234 or 1234: say that the decimal mark is ','"),
    ('a,b\n"1,234","5,678"\n', "got '1,234', which may be 1.234 or 1234"),
    ("a;b\n1,5;2.7\n", "expected one decimal mark .*; got '1,5' and '2.7'"),
    ("a;b\n1.234,5;2,7\n", "without thousands separators; got '1.234,5' in column 'a', row 2"),
    ("2019,2020\n1.5,2\n", "got '2019', '2020', which may be either: say whether there is a row of names"),
    ("0,1,2\n5,3,4\n", "a first row of names, or of numbers"),
    ("1.5,red\n2,3\n", "a first row of names, or of numbers"),
    ("country,2019\nFR,0.5\nDE,.7\n", "a first row of names, or of numbers"),
    ("a,b\n1,2\n".encode("utf-16-le"), "got: bytes that are no text"),
    (b"\xff\xfea", "got: "),
    ("\n\n", "got: no text"),
    ("a" * (2**22 + 1), "got: a line of more than"),
    (",".join(["1.5"] * (MOST_COLUMNS + 1)), f"{MOST_COLUMNS} columns .*; got . rows of {MOST_COLUMNS + 1}"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_can_be_read_in_two_ways_or_none_is_refused(tmp_path, text, sentence):
    pattern = re.sub(r"[()]", r"\\\g<0>", sentence)
    with pytest.raises(DataError, match=pattern):
        read_table(write(tmp_path, text), label="country" if "country" in str(text) else None)


def test_packed_text_is_unpacked_within_bounds(tmp_path):
    path = write(tmp_path, b"1,2\n" * (MOST_TEXT // 4 + 1), "table.csv.gz")
    assert path.stat().st_size < 2**20
    with pytest.raises(DataError, match=rf"more than {MOST_TEXT} bytes of text"):
        read_table(path)
    whole = write(tmp_path, "a;b\n1,5;2\n", "table.csv.gz").read_bytes()
    for data in (whole[:-4], b"no such thing", whole[:15] + b"\0" + whole[16:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"expected a readable .gz file"):
            read_table(path)


def test_a_table_without_names_says_so_where_names_are_looked_for(tmp_path):
    path = write(tmp_path, "1.5,2\n3,4\n")
    assert "no row of names" in read_table(path).notes[0]
    with pytest.raises(DataError, match=r"expected columns among 'x0', 'x1'; got 'a' .*no row of names"):
        read_table(path, columns=["a"])


def test_a_dialect_makes_sense(tmp_path):
    assert Dialect("tab").separator == Dialect(r"\t").separator == "\t"
    with pytest.raises(DataError, match=r"a separator among comma, semicolon, tab, bar, space; got 'x'"):
        Dialect("x")
    with pytest.raises(DataError, match="a point or a comma as the decimal mark; got ';'"):
        Dialect(decimal=";")
    np.save(tmp_path / "table.npy", np.eye(2))
    with pytest.raises(DataError, match=r"expected no separator, decimal mark or header for a \.npy file"):
        read_table(tmp_path / "table.npy", header=True)
