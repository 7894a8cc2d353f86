"""A mixed-integer program as MPS or LP text, written by HiGHS."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import highspy
import numpy as np

from veriflow.errors import QueryError, StorageError

from .milp_model import MilpModel


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

    It is written as a minimisation of −slack. Columns are ``z_0, z_1, …`` for the input, ``slack``, and ``v_k``; HiGHS
    writes numbers with 15 digits.

    Raises:
        QueryError: an L2 ball, which is not linear.
        StorageError: no room for a temporary file.
    """
    if model.cones:
        raise QueryError("expected boxes and balls of norm 1 or inf, which are linear; got norm 2")
    lp = highs_model(model, (model.slack, -1.0))
    names = [f"v_{k}" for k in range(lp.num_col_)]
    names[model.slack] = "slack"
    for i, column in enumerate(model.inputs):
        names[column] = f"z_{i}"
    lp.col_names_ = names
    lp.row_names_ = [f"r_{k}" for k in range(lp.num_row_)]
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.passModel(lp)
    try:
        with tempfile.TemporaryDirectory(prefix="veriflow-") as folder:
            path = Path(folder) / f"model.{form}"
            solver.writeModel(str(path))
            return path.read_text()
    except OSError as error:
        raise StorageError(f"expected to be able to write a program of HiGHS; got {error}") from None
