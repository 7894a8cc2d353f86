"""Witnesses and counts, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from torch import Tensor

from verify import Witness, violation_probability, violations_in_data

from ..query import Query
from ..statistics import Proportion
from .output import Document, cell, facts, grid


def proportion_entry(share: Proportion | None) -> Document:
    """A share with its Clopper–Pearson interval."""
    if share is None:
        return None
    return {
        "estimate": share.estimate,
        "low": share.low,
        "high": share.high,
        "confidence": share.confidence,
        "count": share.successes,
        "trials": share.trials,
    }


def witness_entry(witness: Witness | None, features: Sequence[str]) -> Document:
    """A witness; its latent point, and the query's input, also as exact rationals."""
    if witness is None:
        return None
    return {
        "data": dict(zip(features, witness.data, strict=True)),
        "outputs": witness.outputs,
        "input_exact": [str(value) for value in witness.point],
        "latent": [float(value) for value in witness.latent],
        "latent_exact": [str(value) for value in witness.latent],
        "latent_norm": witness.norm,
        "log_density": witness.log_density,
        "level_mass": witness.level_mass,
        "onnx_deviation": witness.onnx_deviation,
    }


def witness_table(witness: Witness, features: Sequence[str], median: Sequence[float] | None = None) -> Group:
    """Each feature of a witness, beside the median of data where there is one, and what is known about it."""
    table = grid("feature", "witness", *([] if median is None else ["median"]))
    for place, (name, value) in enumerate(zip(features, witness.data, strict=True)):
        table.add_row(name, cell(value), *([] if median is None else [cell(median[place])]))
    known = facts(
        {
            "outputs": ", ".join(f"y[{i}] = {value:.6g}" for i, value in enumerate(witness.outputs)),
            "log density": witness.log_density,
            "on the border of mass": witness.level_mass,
            "latent norm": None if witness.log_density is None else witness.norm,
            "onnxruntime deviates by": witness.onnx_deviation,
        }
    )
    return Group(table, "", known)


def count_violations(query: Query | None, rows: Tensor | None) -> tuple[dict[str, Document], Table]:
    """How often the property is violated: under the whole flow, where there is one, and on rows where there are some."""
    under_flow = None if query is None else violation_probability(query)
    in_data = None if query is None or rows is None else violations_in_data(query, rows)
    document: dict[str, Document] = {
        "violation_probability": proportion_entry(under_flow),
        "violations_in_data": proportion_entry(in_data),
    }
    table = facts(
        {
            "violated under the whole flow": under_flow and f"{under_flow}, by {under_flow.trials} samples",
            "violated in the data": in_data and f"{in_data}, by {in_data.trials} rows",
        }
    )
    return document, table
