"""Witnesses and counts, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from torch import Tensor

from veriflow.numerics.statistics import Proportion
from veriflow.queries.query import Query

from .. import (
    OnnxRun,
    RoundedWitness,
    ViolationBounds,
    Witness,
    is_countable,
    rounded_witness,
    violation_probability,
    violations_in_data,
)
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


def witness_entry(witness: Witness | None, query: Query) -> Document:
    """A witness of the query; its latent point, and the query's input, also as exact rationals."""
    if witness is None:
        return None
    return {
        "data": _named(witness.data, query),
        "others": {name: _named(point, query) for name, point in witness.others.items()},
        "outputs": witness.outputs,
        "output_names": query.output_names,
        "input_exact": [str(value) for value in witness.point],
        "latent": [float(value) for value in witness.latent],
        "latent_exact": [str(value) for value in witness.latent],
        "latent_norm": witness.norm,
        "log_density": witness.log_density,
        "level_mass": witness.level_mass,
        "own": _run_entry(witness.own),
        "exported": _run_entry(witness.exported),
        "not_run": witness.not_run,
    }


def _run_entry(run: OnnxRun | None) -> Document:
    """What onnxruntime gives at a witness."""
    if run is None:
        return None
    return {
        "files": run.names,
        "outputs": run.outputs,
        "dtype": run.dtype,
        "deviation": run.deviation,
        "violated": run.violated,
    }


def rounded_entry(rounded: RoundedWitness | None, query: Query) -> Document:
    """A witness whose columns of whole numbers were rounded."""
    if rounded is None:
        return None
    return {
        "data": _named(rounded.data, query),
        "others": {name: _named(point, query) for name, point in rounded.others.items()},
        "outputs": rounded.outputs,
        "violates": rounded.violates,
        "inside": rounded.inside,
        "log_density": rounded.log_density,
        "level_mass": rounded.level_mass,
    }


def rounded_if_whole(witness: Witness | None, query: Query) -> RoundedWitness | None:
    """The witness with whole numbers where the flow knows them; None where it knows none."""
    whole = query.flow is not None and query.flow.integral
    return rounded_witness(query, witness) if witness is not None and whole else None


def _named(point: Sequence[float], query: Query) -> dict[str, Document]:
    return dict(zip(query.features, point, strict=True))


def witness_table(
    witness: Witness, query: Query, median: Sequence[float] | None = None, rounded: RoundedWitness | None = None
) -> Group:
    """Each feature of a witness and its variants, beside the median of data where there is one, and what is known."""
    points = {"witness": witness.data, **witness.others}
    points |= {} if rounded is None else {"rounded": rounded.data}
    points |= {} if median is None else {"median": tuple(median)}
    table = grid("feature", *points)
    for name, *values in zip(_named(witness.data, query), *points.values(), strict=True):
        table.add_row(name, *map(cell, values))
    outputs = zip(query.output_names, witness.outputs, strict=True)
    known = facts(
        {
            "outputs": ", ".join(f"{name} = {value:.6g}" for name, value in outputs),
            "log density": witness.log_density,
            "on the border of mass": witness.level_mass,
            "latent norm": None if witness.log_density is None else witness.norm,
            "onnxruntime on your file": witness.own and f"{_outputs_text(witness.own)}, {_run_text(witness.own)}",
            "onnxruntime on the exported form": witness.exported and _run_text(witness.exported),
            "not run": "; ".join(witness.not_run) or None,
            "rounded": None if rounded is None else _rounded_text(rounded),
        }
    )
    return Group(table, "", known)


def _outputs_text(run: OnnxRun) -> str:
    """The outputs of the files, wherever these are applied."""
    return " and ".join(f"y = {', '.join(map(cell, outputs))}" for outputs in run.outputs)


def _run_text(run: OnnxRun) -> str:
    """How the property fares in floats, and how far these are off."""
    violated = {None: "", True: "violated: yes, ", False: f"violated: no ({run.dtype} rounding), "}[run.violated]
    return f"{violated}deviation {cell(run.deviation)}"


def _rounded_text(rounded: RoundedWitness) -> str:
    what = "still a violation" if rounded.violates else "no violation"
    return f"{what}, on the border of mass {rounded.level_mass:.6g}"


def count_violations(
    query: Query | None, rows: Tensor | None, proved: ViolationBounds | None = None
) -> tuple[dict[str, Document], Table]:
    """How often the property is violated, if points by themselves do: under the whole flow, and on rows if there are some.

    Bounds that are proved stand in the table, beside what was counted.
    """
    counted = query if query is not None and is_countable(query) else None
    under_flow = None if counted is None else violation_probability(counted)
    in_data = None if counted is None or rows is None else violations_in_data(counted, rows)
    document: dict[str, Document] = {
        "violation_probability": proportion_entry(under_flow),
        "violations_in_data": proportion_entry(in_data),
    }
    table = facts(
        {
            "violated under the whole flow": under_flow and f"{under_flow}, by {under_flow.trials} samples",
            "the same, by proof": proved
            and f"[{proved.low:.4g}, {proved.high:.4g}], {proved.reason} ({proved.seconds:.2f} s)",
            "violated in the data": in_data and f"{in_data}, by {in_data.trials} rows",
        }
    )
    return document, table
