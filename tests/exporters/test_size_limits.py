"""Small files that stand for much are refused by what they would take, before it is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import read_onnx
from exporters.onnx.operators.importer import MOST_FOLDED
from exporters.vnnlib import reader
from exporters.vnnlib.reader import parse_vnnlib
from veriflow import read_table
from veriflow.errors import DataError, GraphError, PropertyError
from veriflow.tables import cells as table_cells
from veriflow.tables import text as table_text


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_tables_of_too_many_cells_are_refused_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a,b\n" + "1,2.5\n" * 40)
    monkeypatch.setattr(table_text, "MOST_CELLS", 82)
    assert read_table(path).values.shape == (40, 2)
    monkeypatch.setattr(table_text, "MOST_CELLS", 81)
    with pytest.raises(DataError, match=r"81 cells in .*; got 41 rows of 2 columns"):
        read_table(path)


def test_tables_of_too_many_columns_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, ("," * 59_999 + "\n") * 2)
    with pytest.raises(DataError, match=r"expected at most .* 32768 columns .*; got . rows of 60000 columns"):
        read_table(path)


def test_rows_longer_than_a_part_of_the_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_text, "LONGEST_ROW", 100)
    assert read_table(write(tmp_path, "a,b\n" + "1,2.5\n" * 1000)).values.shape == (1000, 2)
    with pytest.raises(DataError, match="expected rows of at most 100 bytes"):
        read_table(write(tmp_path, "a,b\n" + "1,2.5\n" * 10 + '1,"' + "x" * 5000 + '"\n'))


@pytest.mark.parametrize("part", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.5", "2.5", "3.5", "4.5", "5.5"], [1.5, 2.5, 3.5, 4.5, 5.5]),
        (["true", "False", "TRUE", "false", "true"], [1, 0, 1, 0, 1]),
        (["1.5", "2.5", "3.5", "x", "5.5"], "row 5; got 'x'"),
        (["true", "false", "true", "false", "7"], "'true'"),
        (["1.5", "1.5", "1.5", "true", "1.5"], "row 5; got 'true'"),
        (["x", "y", "x", "y", "z"], "text in 'a'"),
    ],
)
def test_columns_read_in_parts_are_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], expected: list[float] | str, part: int
) -> None:
    monkeypatch.setattr(table_text, "PART", part)
    monkeypatch.setattr(table_cells, "PART", part)
    path = write(tmp_path, "a,b\n" + "".join(f"{cell},2.5\n" for cell in cells))
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            read_table(path)
    else:
        assert read_table(path).values[:, 0].tolist() == expected


def test_labels_of_many_classes_or_letters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a,k\n" + "".join(f"{i}.5,{'k' * i}c\n" for i in range(5)))
    assert read_table(path, label="k").classes == ("c", "kc", "kkc", "kkkc", "kkkkc")
    monkeypatch.setattr(table_cells, "MOST_CLASSES", 4)
    with pytest.raises(DataError, match="expected a label of at most 4 classes"):
        read_table(path, label="k")
    rows = "1.5,c\n" * 2000
    with pytest.raises(DataError, match=r"expected labels of at most .* characters for 2001 rows; got one of 200000"):
        read_table(write(tmp_path, f"a,k\n{rows}2.5,{'k' * 200_000}\n"), label="k")


def folded_network(folder: Path, entries: int) -> Path:
    """y = 1·x, where 1 is the largest of so many entries that the file does not hold."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(np.array([1.0], np.float32))),
        helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0),
        helper.make_node("Mul", ["x", "m"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])] for name in ("x", "y")]
    body = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(np.array([entries]), "s")])
    path = folder / f"{entries}.onnx"
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_constants_much_larger_than_the_file_are_not_computed(tmp_path: Path) -> None:
    assert read_onnx(folded_network(tmp_path, 1000)).output_size == 2
    with pytest.raises(GraphError, match=rf"not much larger than those of the file .* got {MOST_FOLDED + 6} entries"):
        read_onnx(folded_network(tmp_path, MOST_FOLDED + 5))


def test_property_files_of_too_many_alternatives_or_boxes_are_refused() -> None:
    declared = "".join(f"(declare-const X_{i} Real)" for i in range(9000)) + "(declare-const Y_0 Real)"
    with pytest.raises(PropertyError, match=r"expected at most 16384 alternatives at line 1, column .*; got 16385"):
        parse_vnnlib(f"{declared}(assert (or {'(<= Y_0 1)' * 16385}))")
    boxes = "".join(f"(and (<= X_{i} 1) (<= Y_0 {i}))" for i in range(1000))
    with pytest.raises(PropertyError, match="at most 16777216 ends together; got 1000 boxes of 9000 inputs"):
        parse_vnnlib(f"{declared}(assert (or {boxes}))")


def test_long_numbers_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "(vnnlib-version <2.0>)\n(declare-network N (declare-input X Real [1]) (declare-output Y Real [1]))\n"
        "(assert (and (<= 0.0 X[0]) (<= X[0] 1.0) (<= Y[0] {})))"
    )
    number = "1." + "9" * 50
    parse_vnnlib(text.format(number))
    monkeypatch.setattr(reader, "_MOST_DIGITS", 49)
    monkeypatch.setattr(reader, "read_terms", None)
    with pytest.raises(PropertyError, match="expected at most 49 digits in numbers of 20 digits and more; got 50"):
        parse_vnnlib(text.format(number))
