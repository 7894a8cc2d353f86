"""Files for processes of their own: a query as arrays, as an input query of Marabou, as a mixed-integer program."""

import io
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import highspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from shares import by_day
from small_queries import PROPERTIES, REGIONS, exact, inside_points, small_query, with_divisors

from exporters import MilpModel, milp_model, milp_text, query_from_bytes, query_to_bytes, to_marabou
from exporters import query_file as query_file_module
from veriflow.errors import QueryError, StorageError, VeriflowError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Relu, dense
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Region


def check_fields(query: Query, back: Query) -> None:
    for field in fields(Query):
        if field.name not in ("graph", "region", "flow"):
            assert getattr(back, field.name) == getattr(query, field.name)
    assert back.flow is None


def same_region(one: Region, other: Region) -> bool:
    if isinstance(one, Box) and isinstance(other, Box):
        return (
            np.array_equal(one.lower, other.lower) and np.array_equal(one.upper, other.upper) and one.ends == other.ends
        )
    if isinstance(one, Product) and isinstance(other, Product):
        return len(one.parts) == len(other.parts) and all(map(same_region, one.parts, other.parts))
    return one == other


def test_what_a_query_says_of_its_tensors_comes_back_too() -> None:
    box = Box.between([Fraction(1, 10), Fraction(-1, 3), Fraction(0)], [Fraction(1, 5), Fraction(1), Fraction(1, 7)])
    query = replace(
        small_query("box", "largest").at(box),
        latent="x",
        network_outputs=2,
        others=("x",),
        output_names=("low", "high"),
    )
    back = query_from_bytes(query_to_bytes(query))
    check_fields(query, back)
    assert same_region(back.region, box)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("prop", PROPERTIES)
def test_a_query_comes_back_bit_for_bit(region: str, prop: str) -> None:
    query = small_query(region, prop)
    back = query_from_bytes(query_to_bytes(query))
    check_fields(query, back)
    assert same_region(back.region, query.region)
    assert (back.graph.input, back.graph.output, back.graph.sizes) == (
        query.graph.input,
        query.graph.output,
        query.graph.sizes,
    )
    for ours, theirs in zip(query.graph.nodes, back.graph.nodes, strict=True):
        assert (ours.output, ours.inputs) == (theirs.output, theirs.inputs)
        if not isinstance(ours, Relu):
            assert np.array_equal(ours.bias, theirs.bias)
            for (_, one), (_, other) in zip(ours.terms, theirs.terms, strict=True):
                assert np.array_equal(dense(one), dense(other))


def test_divisors_come_back_bit_for_bit() -> None:
    query = small_query("box", "largest")
    divided = with_divisors(query, 0, roots=True)
    back = query_from_bytes(query_to_bytes(divided))
    for ours, theirs in zip(divided.graph.nodes, back.graph.nodes, strict=True):
        if isinstance(ours, Affine) and isinstance(theirs, Affine):
            assert ours.divisor is not None and theirs.divisor is not None
            assert np.array_equal(ours.divisor.low, theirs.divisor.low)
            assert np.array_equal(ours.divisor.high, theirs.divisor.high)


@given(st.data())
def test_a_damaged_query_is_an_error_of_ours(data: st.DataObject) -> None:
    whole = query_to_bytes(small_query("box", "largest"))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    patch = data.draw(st.binary(max_size=40))
    damaged = whole[:start] + patch + whole[end:]
    with suppress(VeriflowError):  # a change that goes unnoticed gives a query
        query_from_bytes(damaged)


def test_objects_are_not_loaded() -> None:
    stream = io.BytesIO()
    np.savez(stream, head=np.array([{"format": query_file_module.FORMAT}], dtype=object))
    with pytest.raises(VeriflowError):
        query_from_bytes(stream.getvalue())
    with pytest.raises(StorageError, match=r"expected a whole \.npz file"):
        query_from_bytes(b"")


class Read:
    """An input query of Marabou, read back by its own rules (QueryLoader.cpp) into exact numbers."""

    def __init__(self, text: str) -> None:
        lines = iter(text.splitlines())
        self.count, lows, highs, equations, bends = (int(next(lines)) for _ in range(5))
        ends = [[next(lines).split(",") for _ in range(int(next(lines)))] for _ in range(2)]
        self.inputs, self.outputs = ([int(variable) for _, variable in part] for part in ends)
        bounds = [dict(self._bound(next(lines)) for _ in range(n)) for n in (lows, highs)]
        self.lower, self.upper = bounds
        self.equations = [self._equation(next(lines)) for _ in range(equations)]
        self.bends = [next(lines).split(",")[1:] for _ in range(bends)]
        assert next(lines, None) is None

    @staticmethod
    def _bound(line: str) -> tuple[int, Fraction]:
        variable, value = line.split(",")
        return int(variable), Fraction(float(value))

    @staticmethod
    def _equation(line: str) -> tuple[int, Fraction, list[tuple[int, Fraction]]]:
        _, kind, scalar, *addends = line.split(",")
        terms = [(int(v), Fraction(float(c))) for v, c in zip(addends[::2], addends[1::2], strict=True)]
        return int(kind), Fraction(float(scalar)), terms

    def solve(self, point: list[Fraction]) -> bool:
        """Whether the point meets every line: equations that define a variable and bends are followed in turn."""
        values = dict(zip(self.inputs, point, strict=True))
        for _ in range(self.count):
            for kind, scalar, terms in self.equations:
                (head, c), rest = terms[0], terms[1:]
                if kind == 0 and head not in values and all(v in values for v, _ in rest):
                    values[head] = (scalar - sum((k * values[v] for v, k in rest), Fraction(0))) / c
            for name, after, before in self.bends:
                if int(before) in values:
                    value = values[int(before)]
                    values[int(after)] = max(value, Fraction(0)) if name == "relu" else abs(value)
        assert len(values) == self.count
        checks = {0: lambda gap: gap == 0, 1: lambda gap: gap >= 0, 2: lambda gap: gap <= 0}
        return all(self.lower[v] <= value <= self.upper[v] for v, value in values.items()) and all(
            checks[kind](sum((k * values[v] for v, k in terms), Fraction(0)) - scalar)
            for kind, scalar, terms in self.equations
        )


@pytest.mark.parametrize(("region", "prop"), by_day(product(REGIONS, PROPERTIES), 11))
def test_marabou_queries_mean_what_the_query_means(region: str, prop: str) -> None:
    query = small_query(region, prop)
    rng = np.random.default_rng(0)
    texts = [Read(to_marabou(query, disjunct)) for disjunct in query.violation]
    seen = set()
    points = [exact(point) for point in inside_points(query.region, rng, 30)]
    points += [exact(query.region.upper), exact(2 * query.region.upper), [value * 2 for value in points[0]]]
    for point in points:
        inside = query.region.contains(point)
        outputs = evaluate_exact(query.graph, point)[query.graph.output]
        for text, disjunct in zip(texts, query.violation, strict=True):
            truth = inside and all(float_slack(constraint, outputs) for constraint in disjunct)
            assert text.solve(point) == truth
            seen.add(truth)
    assert seen == {True, False} or prop == "between"


def float_slack(constraint, outputs):
    """The constraint with its numbers as floats and not strict, as Marabou is given it."""
    total = sum((Fraction(float(c)) * outputs[i] for i, c in constraint.coefficients), Fraction(0))
    return total >= Fraction(float(constraint.bound))


def test_marabou_and_programs_refuse_round_balls() -> None:
    query = small_query("box", "largest").at(Ball(2, 1.0, 3))
    with pytest.raises(QueryError, match="linear constraints"):
        to_marabou(query, query.violation[0])


@pytest.mark.parametrize("form", ["mps", "lp"])
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("divided", [False, True], ids=["plain", "divided"])
def test_programs_are_read_back_bit_for_bit(form: str, region: str, divided: bool, tmp_path: Path) -> None:
    query: Query = small_query(region, "largest")
    query = with_divisors(query, 1, roots=True) if divided else query
    model = milp_model(query, symbolic_bounds(query.graph, query.region), query.violation[0], -math.pi)
    path = tmp_path / f"q.{form}"
    path.write_text(milp_text(model, form))  # type: ignore[arg-type]
    read = highspy.Highs()
    read.setOptionValue("output_flag", False)
    read.setOptionValue("small_matrix_value", 1e-12)
    assert read.readModel(str(path)) == highspy.HighsStatus.kOk
    lp = read.getLp()
    order = [list(lp.col_names_).index(name) for name in column_names(model)]
    assert [lp.col_lower_[k] for k in order] == model.lower.tolist()
    assert [lp.col_upper_[k] for k in order] == model.upper.tolist()
    whole = list(lp.integrality_) or [highspy.HighsVarType.kContinuous] * len(order)
    assert [whole[k] == highspy.HighsVarType.kInteger for k in order] == model.integral.tolist()
    assert [lp.col_cost_[k] for k in order] == [-1.0 if k == model.slack else 0.0 for k in range(len(order))]
    kind = sparse.csc_array if lp.a_matrix_.format_ == highspy.MatrixFormat.kColwise else sparse.csr_array
    parts = (lp.a_matrix_.value_, lp.a_matrix_.index_, lp.a_matrix_.start_)
    matrix = kind(tuple(map(np.array, parts)), shape=(lp.num_row_, lp.num_col_)).toarray()[:, order]
    read_rows = {(tuple(row), low, high) for row, low, high in zip(matrix, lp.row_lower_, lp.row_upper_, strict=True)}
    assert read_rows == set(one_sided_rows(model))


def column_names(model: MilpModel) -> list[str]:
    names = [f"v_{k}" for k in range(len(model.lower))]
    for i, column in enumerate(model.inputs):
        names[column] = f"z_{i}"
    names[model.slack] = "slack"
    return names


def one_sided_rows(model: MilpModel) -> Iterator[tuple[tuple[float, ...], float, float]]:
    for row, low, high in zip(model.matrix.toarray(), model.row_lower, model.row_upper, strict=True):
        ends = [(low, high)] if low == high else [(low, math.inf), (-math.inf, high)]
        yield from ((tuple(row), a, b) for a, b in ends if (a, b) != (-math.inf, math.inf))
