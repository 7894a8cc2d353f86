"""A mixed-integer program as HiGHS takes it, and as MPS or LP text with every digit of its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import highspy
import numpy as np
from scipy import sparse

from veriflow.errors import QueryError

from .model import MilpModel


def highs_model(model: MilpModel, minimise: tuple[int, float]) -> highspy.HighsLp:
    """The rows of "minimise ``sign · v[column]``", for ``minimise = (column, sign)``, as HiGHS takes them."""
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = model.matrix.shape
    cost = np.zeros(lp.num_col_)
    cost[minimise[0]] = minimise[1]
    lp.col_cost_ = cost
    lp.col_lower_, lp.col_upper_ = model.lower, model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = model.matrix.indptr
    lp.a_matrix_.index_ = model.matrix.indices
    lp.a_matrix_.value_ = model.matrix.data
    kinds = {True: highspy.HighsVarType.kInteger, False: highspy.HighsVarType.kContinuous}
    lp.integrality_ = [kinds[bool(whole)] for whole in model.integral]
    return lp


def milp_text(model: MilpModel, form: Literal["mps", "lp"]) -> str:
    """The program "maximise the slack" as text: the query has a violation where the optimum is at least zero.

    It is written as a minimisation of −slack. Columns are ``z_0, z_1, …`` for the input, ``slack``, and ``v_k``. Numbers are
    written such that they are read back as the same floats, and a row with two ends as two rows (a range would be added up).

    Raises:
        QueryError: an L2 ball, which is not linear.
    """
    if model.cones:
        raise QueryError("expected boxes and balls of norm 1 or inf, which are linear; got norm 2")
    names = [f"v_{k}" for k in range(len(model.lower))]
    names[model.slack] = "slack"
    for i, column in enumerate(model.inputs):
        names[column] = f"z_{i}"
    lines = _mps(model, names) if form == "mps" else _lp(model, names)
    return "\n".join(lines) + "\n"


_SIGNS = {"E": "=", "G": ">=", "L": "<="}


def _rows(model: MilpModel) -> list[tuple[int, str, float]]:
    """Row, kind and right side, for each end that it has."""
    rows: list[tuple[int, str, float]] = []
    for row, (low, high) in enumerate(zip(model.row_lower.tolist(), model.row_upper.tolist(), strict=True)):
        ends = [("E", low)] if low == high else [("G", low), ("L", high)]
        rows += [(row, kind, end) for kind, end in ends if math.isfinite(end)]
    return rows


def _mps(model: MilpModel, names: Sequence[str]) -> Iterator[str]:
    rows, columns = _rows(model), sparse.csc_array(model.matrix)
    copies: dict[int, list[int]] = {}
    for k, (row, _, _) in enumerate(rows):
        copies.setdefault(row, []).append(k)
    yield from ("NAME veriflow", "ROWS", " N cost")
    yield from (f" {kind} r_{k}" for k, (_, kind, _) in enumerate(rows))
    yield "COLUMNS"
    whole = False
    for column, name in enumerate(names):
        if whole != model.integral[column]:
            whole = bool(model.integral[column])
            yield f" M{column} 'MARKER' '{'INTORG' if whole else 'INTEND'}'"
        yield f" {name} cost {-1.0 if column == model.slack else 0.0}"
        place = slice(columns.indptr[column], columns.indptr[column + 1])
        for row, value in zip(columns.indices[place].tolist(), columns.data[place].tolist(), strict=True):
            yield from (f" {name} r_{k} {value!r}" for k in copies.get(row, ()))
    if whole:
        yield " M 'MARKER' 'INTEND'"
    yield "RHS"
    yield from (f" RHS r_{k} {end!r}" for k, (_, _, end) in enumerate(rows) if end)
    yield "BOUNDS"
    for name, low, high in zip(names, model.lower.tolist(), model.upper.tolist(), strict=True):
        yield f" LO BOUND {name} {low!r}" if math.isfinite(low) else f" MI BOUND {name}"
        yield f" UP BOUND {name} {high!r}" if math.isfinite(high) else f" PL BOUND {name}"
    yield "ENDATA"


def _lp(model: MilpModel, names: Sequence[str]) -> Iterator[str]:
    matrix = model.matrix
    yield from ("minimize", " cost: -1.0 slack", "subject to")
    for k, (row, kind, end) in enumerate(_rows(model)):
        place = slice(matrix.indptr[row], matrix.indptr[row + 1])
        terms = zip(matrix.indices[place].tolist(), matrix.data[place].tolist(), strict=True)
        yield f" r_{k}:"
        yield from (f"  {value:+.17g} {names[column]}" for column, value in terms)
        yield f"  {_SIGNS[kind]} {end!r}"
    yield "bounds"
    for name, low, high in zip(names, model.lower.tolist(), model.upper.tolist(), strict=True):
        yield f" {low!r} <= {name} <= {high!r}"
    yield "general"
    yield from (f" {name}" for name, whole in zip(names, model.integral, strict=True) if whole)
    yield "end"
