"""Tables come in exactly as they were written, or are refused with the column, the row and the cell."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from veriflow.errors import DataError, StorageError
from veriflow.tables.table import read_table, write_table
from veriflow.training.preparation import dequantise, split_rows, standardisation

ENDINGS = [".csv", ".parquet", ".npz", ".npy"]


def csv(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "table.npz"
    np.savez(path, **arrays)
    return path


# -- what is read -------------------------------------------------------------------------------------------------


def varying(values: np.ndarray) -> bool:
    return len(values) > 1 and bool((values != values[0]).any(axis=0).all())


names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=6)
tables = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=5).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.floats(allow_nan=False, allow_infinity=False)).filter(varying),
        st.lists(names, min_size=shape[1], max_size=shape[1], unique=True),
    )
)


@pytest.mark.parametrize("ending", ENDINGS)
@given(table=tables)
@example(table=(np.array([[5e-324, 1.7976931348623157e308], [0.1 + 0.2, -0.0]]), ['a,"b', "NA"]))
def test_what_is_written_is_read_bit_for_bit(
    tmp_path: Path, ending: str, table: tuple[np.ndarray, Sequence[str]]
) -> None:
    values, features = table
    path = tmp_path / f"table{ending}"
    write_table(path, values, features)
    back = read_table(path)
    assert back.values.tobytes() == values.tobytes()
    assert back.values.dtype == np.float64
    assert back.features == (tuple(features) if ending != ".npy" else tuple(f"x{i}" for i in range(len(features))))
    assert back.labels is None
    assert back.classes == ()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_table_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    values = np.arange(6.0).reshape(3, 2)
    for name in "ab":
        write_table(tmp_path / f"{name}{ending}", values, ["p", "q"])
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


CELLS = "a,b,kind\n1,0.5,benign\n2,1.5,malignant\n3,2.5,benign\n"


def test_csv_labels_classes_and_columns(tmp_path: Path) -> None:
    path = csv(tmp_path, CELLS)
    table = read_table(path, label="kind")
    assert table.features == ("a", "b")
    assert table.classes == ("benign", "malignant")
    assert table.labels is not None
    assert table.labels.tolist() == ["benign", "malignant", "benign"]
    kept = read_table(path, label="kind", keep_class="benign", columns=["b"])
    assert kept.values.tolist() == [[0.5], [2.5]]
    assert kept.classes == ("benign",)
    assert read_table(path, columns=["b", "a"]).values[1].tolist() == [1.5, 2.0]


def test_byte_order_mark_quotes_and_blank_lines(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, '\ufeff"a",b\r\n\r\n"1", 2\r\n3,1e1\r\n\r\n'))
    assert table.features == ("a", "b")
    assert table.values.tolist() == [[1, 2], [3, 10]]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 2, 2], ("2", "10")),
        ([1.0, 0.5, 1.0], ("0.5", "1")),
        (["b", "a", "3"], ("3", "a", "b")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_classes_are_texts_in_order(tmp_path: Path, labels: list, classes: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "label": labels})
    frame.to_parquet(tmp_path / "table.parquet")
    frame.to_csv(tmp_path / "table.csv", index=False)
    npz(tmp_path, X=frame[["x"]].to_numpy(), y=np.array(labels))
    assert read_table(tmp_path / "table.parquet", label="label").classes == classes
    assert read_table(tmp_path / "table.csv", label="label").classes == classes
    assert read_table(tmp_path / "table.npz").classes == classes


def test_numbers_of_every_kind_and_no_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"i": [1, 2], "f": np.float32([0.5, 1]), "b": [True, False]}, index=["p", "q"])
    frame["n"] = pd.array([3, 4], dtype="Int64")
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet")
    assert table.features == ("i", "f", "b", "n")
    assert table.values.tolist() == [[1, 0.5, 1, 3], [2, 1, 0, 4]]
    frame = pd.DataFrame({"d": [Decimal("0.25"), Decimal(3)], "s": ["1e2", " 7"], "w": ["yes", "No"]})
    frame["c"] = pd.Categorical([0.5, 2.0])
    frame.to_parquet(tmp_path / "table.parquet")
    assert read_table(tmp_path / "table.parquet").values.tolist() == [[0.25, 100, 1, 0.5], [3, 7, 0, 2]]


@pytest.mark.parametrize(("rows", "labels"), [("X", "y"), ("x", "y"), ("X_train", "y_train"), ("x_train", "y_train")])
def test_archives_of_several_customs(tmp_path: Path, rows: str, labels: str) -> None:
    arrays = {rows: np.uint8([[1, 2], [3, 4], [5, 6]]), labels: np.array([[0], [1], [1]])}
    path = npz(tmp_path, **arrays, x_test=np.float32([[9, 9], [8, 8]]), y_test=[0, 0])
    assert read_table(path).values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert read_table(path, keep_class="1", columns=["x1"]).values.tolist() == [[4], [6]]
    assert read_table(path, label="y_test").values.tolist() == [[9, 9], [8, 8]]


# -- what is refused ----------------------------------------------------------------------------------------------

BAD_CSV: list[tuple[str, dict[str, Any], str]] = [
    ("a,b\n1,2\n3,red\n", {}, "expected a finite number in column 'b', row 3; got 'red'"),
    ("a,b\n1,2\n3,\n", {}, "expected a finite number in column 'b', row 3; got ''"),
    ("a,b\n1,2\n3\n", {}, "as in the first; got 1 in row 3"),
    ("a,b\n1,2\n1_000,3\n", {}, "expected a finite number in column 'a', row 3; got '1_000'"),
    ("a,b\n1,yes\n2,1\n", {}, "expected a finite number in column 'b', row 2; got 'yes'"),
    ('a,b\n1,"1,234.5"\n', {}, "expected numbers without thousands separators; got '1,234.5' in column 'b', row 2"),
    (
        "city,when,x\nRome,2020-01-31,1\n",
        {},
        "got text in 'city' ('Rome'): leave such columns out, name one as the label",
    ),
    ("city,when,x\nRome,2020-01-31,1\n", {}, "dates in 'when' ('2020-01-31'): write them as numbers, such as seconds"),
    ("a,b\n1,nan\n3,4\n", {}, "expected a finite number in column 'b', row 2; got 'nan'"),
    ("a,b\n1,2\n-1e999,4\n", {}, "expected a finite number in column 'a', row 3; got '-1e999'"),
    ("a,b\n1,2\n3,5\n", {"columns": ["c"]}, "expected columns among 'a', 'b'; got 'c'"),
    ("a,b\n1,2\n3,5\n", {"columns": ["a", "a"]}, "expected column names that differ; got 'a' 2 times"),
    ("a,b\n1,2\n3,5\n", {"columns": []}, "expected at least one column of features; got none"),
    ("a,b\n1,2\n3,5\n", {"label": "c"}, "expected a label column among 'a', 'b'; got 'c'"),
    ("a,b\n1,2\n3,5\n", {"label": "a", "columns": ["a"]}, "expected columns among 'b'; got 'a'"),
    ("a,b\n1,2\n3,5\n", {"label": "a", "keep_class": "2"}, "expected a class among '1', '3'; got '2'"),
    ("a,b\n1,2\n,5\n", {"label": "a"}, "expected a label in every row; got none in row 3"),
    ("a,b\n1,2\n3,5\n", {"keep_class": "1"}, "expected labels to choose class '1' by; got a table without"),
    ("a,a\n1,2\n3,4\n", {}, "expected column names that differ; got 'a' 2 times"),
    (",a\n0,1\n1,2\n", {}, "expected a name for every column; got none for column 1"),
    ("a\n", {}, "expected at least one row; got none"),
    ("a\n1\n2\n", {"label": "a"}, "expected at least one column of features; got none"),
    ("a,b\n1,2\n\n3,4,5\n", {}, "expected 2 cells in every row of"),
    ("", {}, "expected a readable .csv file in"),
]


def test_columns_without_a_density_are_named(tmp_path: Path) -> None:
    read_table(csv(tmp_path, "a,b\n1,2\n2,3\n")).check_variation()
    table = read_table(csv(tmp_path, "a,b,c\n1,2,5\n1,3,5\n"))
    with pytest.raises(DataError, match="got one value only in 'a', 'c'"):
        table.check_variation()


@pytest.mark.parametrize(("text", "options", "sentence"), BAD_CSV)
def test_a_bad_csv_is_refused_with_the_place(tmp_path: Path, text: str, options: dict, sentence: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


ROWS = np.array([[1.0, 2.0], [3.0, 5.0]])
BAD_ARCHIVES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"data": ROWS}, {}, "expected arrays 'X' and 'y' in"),
    ({"X": ROWS}, {"label": "y"}, "expected arrays 'X' and 'y' in"),
    ({"X": ROWS, "y": [1, 2]}, {"label": "z"}, "expected arrays 'X' and 'z' in"),
    ({"X": np.array([[1, None], [2, 3]])}, {}, "expected a readable .npz file in"),
    ({"X": ROWS, "y": np.array([{}, {}])}, {}, "expected a readable .npz file in"),
    ({"X": ROWS.ravel()}, {}, "of shape [rows, d]"),
    ({"X": ROWS[None]}, {}, "got float64 of shape [1, 2, 2]"),
    ({"X": ROWS + 1j}, {}, "got complex128 of shape [2, 2]"),
    ({"X": np.array([["a"], ["b"]])}, {}, "got <U1 of shape [2, 1]"),
    ({"X": ROWS, "y": [1, 2, 3]}, {}, "expected one label for each of 2 rows; got labels of shape [3]"),
    ({"X": ROWS, "features": ["a"]}, {}, "expected 2 feature names in"),
    ({"X": ROWS, "features": ["a", "a"]}, {}, "expected column names that differ"),
    ({"X": np.array([[1, 2], [np.nan, 3]])}, {}, "expected a finite number in column 'x0', row 2; got 'nan'"),
    ({"X": np.array([[1, np.inf], [2, 3]])}, {}, "expected a finite number in column 'x1', row 1; got 'inf'"),
    ({"X": ROWS, "y": [1.0, np.nan]}, {}, "expected a label in every row; got none in row 2"),
    ({"X": np.empty((3, 0))}, {}, "expected at least one column of features; got none"),
]


@pytest.mark.parametrize(("arrays", "options", "sentence"), BAD_ARCHIVES)
def test_a_bad_archive_is_refused(tmp_path: Path, arrays: dict, options: dict, sentence: str) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    assert sentence in str(caught.value)


def test_a_bad_parquet_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"got text in 'b' \('x'\): leave such columns out"):
        read_table(path)
    pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [1, 2]}).to_parquet(path)
    with pytest.raises(DataError, match="a finite number in column 'a', row 2; got ''"):
        read_table(path)
    pd.DataFrame({"a": pd.to_datetime(["2020-01-01", "2020-01-02"])}).to_parquet(path)
    with pytest.raises(DataError, match=r"got dates in 'a' \('2020-01-01 00:00:00'\): write them as numbers"):
        read_table(path)
    pd.DataFrame({"a": [1, 2], "b": [[1], [2]], "c": [{"k": 1}, {"k": 2}]}).to_parquet(path)
    with pytest.raises(DataError, match="got lists or records in 'b', 'c': give each entry a column of its own"):
        read_table(path)
    assert read_table(path, columns=["a"]).values.tolist() == [[1], [2]]
    pq.write_table(pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"]), path)
    with pytest.raises(DataError, match="expected column names that differ; got 'a' 2 times"):
        read_table(path)


@pytest.mark.parametrize("ending", ENDINGS)
@given(position=st.floats(0, 1), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_gives_a_table_or_a_data_error(
    tmp_path: Path, ending: str, position: float, flip: int, cut: bool
) -> None:
    path = tmp_path / f"table{ending}"
    write_table(path, ROWS, ["a", "b"])
    data = bytearray(path.read_bytes())
    place = min(int(position * len(data)), len(data) - 1)
    data[place] ^= flip
    path.write_bytes(data[:place] if cut else data)
    try:
        assert np.isfinite(read_table(path).values).all()
    except DataError as error:
        assert str(error).startswith("expected ")


@pytest.mark.parametrize(
    ("limit", "most", "sentence"),
    [
        ("files.MOST_UNPACKED", 10, "expected at most 10 bytes of columns in "),
        ("text.MOST_ROWS", 1, "expected at most 1 rows, "),
        ("text.MOST_COLUMNS", 1, "rows, 1 columns and "),
        ("text.MOST_CELLS", 3, "and 3 cells in "),
    ],
)
def test_tables_beyond_the_limits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, sentence: str
) -> None:
    write_table(tmp_path / "table.parquet", ROWS, ["a", "b"])
    monkeypatch.setattr(f"veriflow.tables.{limit}", most)
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / "table.parquet")


def test_an_array_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "table.npy").open("wb") as stream:
        np.lib.format.write_array(stream, ROWS, version=(3, 0))
    with pytest.raises(DataError, match=r"expected a readable \.npy file .*version \(3, 0\) of the format"):
        read_table(tmp_path / "table.npy")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, sentence in [
        ("none.csv", "expected a file at .*none.csv'; got none"),
        ("folder.csv", "got a folder"),
        ("table.xlsx", r"expected a file ending in \.csv, .*, \.npy; got .*table\.xlsx'"),
    ]:
        with pytest.raises(DataError, match=sentence):
            read_table(tmp_path / name)
    for ending in ENDINGS:
        (tmp_path / f"other{ending}").write_bytes(b"\x80\x04\x95 not a table at all\xff")
        with pytest.raises(DataError, match=f"expected a readable {ending} file"):
            read_table(tmp_path / f"other{ending}")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([[1, None], [2, 3]]), allow_pickle=True)
    with pytest.raises(DataError, match="expected a readable"):
        read_table(tmp_path / "table.npy")
    with pytest.raises(DataError, match="expected no label"):
        read_table(tmp_path / "table.npy", label="y")


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a file ending in .csv, .parquet, .npz, .npy; got .*t.json'"):
        write_table(tmp_path / "t.json", ROWS, ["a", "b"])
    with pytest.raises(DataError, match=r"expected values of shape \[rows, 3\]; got \[2, 2\]"):
        write_table(tmp_path / "t.csv", ROWS, ["a", "b", "c"])
    with pytest.raises(DataError, match="column names that differ"):
        write_table(tmp_path / "t.csv", ROWS, ["a", "a"])
    with pytest.raises(StorageError):
        write_table(tmp_path / "no" / "t.csv", ROWS, ["a", "b"])
    assert list(tmp_path.iterdir()) == []


# -- numbers about tables -----------------------------------------------------------------------------------------


def test_standardised_columns_have_mean_zero_and_deviation_one() -> None:
    values = np.random.default_rng(0).normal([5, -2], [0.1, 30], (200, 2))
    mean, deviation = standardisation(values)
    z = (values - mean) / deviation
    assert np.allclose(z.mean(axis=0), 0, atol=1e-12)
    assert np.allclose((z**2).mean(axis=0), 1)


@pytest.mark.parametrize("column", [[1.0, 1.0], [1e308, 1.5e308], [0.0, 1e-200]])
def test_columns_without_a_deviation_are_refused(column: list[float]) -> None:
    with pytest.raises(DataError, match=r"positive finite deviation; got .* in column 1"):
        standardisation(np.array([[0.0, 1.0], column]).T)


@given(st.integers(2, 300), st.floats(0, 0.9), st.integers(0, 2**32))
def test_a_split_is_a_partition_that_the_seed_determines(n: int, validation: float, seed: int) -> None:
    held_out = max(round(n * validation), 1) if validation else 0
    if held_out == n:
        return
    train, valid = split_rows(n, validation, seed)
    assert len(valid) == held_out
    assert sorted([*train, *valid]) == list(range(n))
    again = split_rows(n, validation, seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(valid, again[1])


def test_splits_differ_between_seeds_and_must_leave_rows() -> None:
    assert not np.array_equal(split_rows(50, 0.2, 0)[1], split_rows(50, 0.2, 1)[1])
    for n, share in [(10, 1.0), (10, -0.1), (10, float("nan")), (1, 0.5), (2, 0.9), (0, 0)]:
        with pytest.raises(DataError, match="expected a validation share"):
            split_rows(n, share, 0)


# -- whole numbers ------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float64, (20, 3), elements=st.integers(-100, 100).map(float)), st.integers(0, 9))
def test_rounding_undoes_the_noise_which_leaves_other_columns_alone(values: np.ndarray, seed: int) -> None:
    noisy = dequantise(values, [0, 2], seed)
    assert (noisy[:, 1] == values[:, 1]).all()
    assert (np.abs(noisy - values) <= 0.5).all()
    assert len(np.unique(noisy[:, 0])) == 20
    assert (dequantise(values, [0, 2], seed) == noisy).all()
    assert (dequantise(values, [], seed) == values).all()


def test_numbers_that_are_not_whole_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected whole numbers in column 1; got 0.5 in row 2"):
        dequantise(np.array([[0.5, 1.0], [0.5, 2.0], [0.0, 0.5]]), [1], 0)
