"""The files that the demo writes, so that each step can be repeated from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporters import write_bundle
from veriflow.files.whole_files import write_atomically
from veriflow.regions.ball import Ball
from veriflow.tables.table import write_table
from veriflow.tables.text import row_of_names, rows_of_cells

from ..findings import proportion_entry
from ..output import Document
from .models import ClassModel, Data
from .rows import DemoRow, at_mass, decide

BUNDLE_MASSES = (0.1, 0.5)
CLASSIFIER, HELD_OUT, RESULTS, PAGE, BUNDLE = "classifier.onnx", "held-out.csv", "results.json", "report.html", "bundle"


def flow_file(name: str) -> str:
    """Name of the file of a class's flow."""
    return f"flow-{name}.safetensors"


def write_tables(folder: Path, data: Data) -> None:
    """The rows that each flow is trained on, and all held-out rows with their class."""
    for name, rows in data.train.items():
        write_table(folder / f"{name}.csv", rows, data.features)
    labelled = [[*row, name] for name, rows in data.held_out.items() for row in rows.tolist()]
    write_atomically(folder / HELD_OUT, row_of_names([*data.features, "class"]) + rows_of_cells(labelled))


def write_queries(folder: Path, rows: Sequence[DemoRow], timeout: float) -> None:
    """The bundle: each row's query on two level sets, with its verdict, for other verifiers to compare.

    An L1 ball reaches verifiers as a box and an extra output, the norm, which few of them are good at; so each query is
    there a second time over the ball's bounding box alone. What holds on the box holds on the ball.
    """
    queries, extra = {}, {}
    for row in rows:
        for mass in BUNDLE_MASSES:
            name = f"{row.model.name}-{row.claim.key}-mass-{round(100 * mass)}"
            query, decision = at_mass(row.query, mass), row.decisions[mass]
            ball = query.region.ball
            assert ball is not None  # noqa: S101 - from `at_mass`
            queries[name] = query
            extra[name] = {"verdict": decision.outcome.value, "reason": decision.reason}
            if ball.p == 1:
                box = query.at(Ball(math.inf, ball.radius, ball.dim))
                decision = decide(box, row.certificate, timeout)
                queries[f"{name}-box"] = box
                extra[f"{name}-box"] = {"verdict": decision.outcome.value, "reason": decision.reason, "contains": name}
    write_bundle(folder / BUNDLE, queries, network_path=folder / CLASSIFIER, extra=extra)


def write_results(folder: Path, results: Mapping[str, Document]) -> None:
    """All figures as JSON."""
    write_atomically(folder / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")


def results_document(
    models: Sequence[ClassModel], rows: Sequence[DemoRow], *, seed: int, accuracy: float, seconds: float
) -> dict[str, Document]:
    """All figures."""
    return {
        "format": "veriflow demo",
        "version": 1,
        "seed": seed,
        "features": list(models[0].flow.features),
        "classifier": {"file": CLASSIFIER, "held_out_accuracy": accuracy},
        "flows": {model.name: _flow_entry(model) for model in models},
        "rows": [_row_entry(row) for row in rows],
        "seconds": seconds,
    }


def _flow_entry(model: ClassModel) -> Document:
    return {
        "file": flow_file(model.name),
        "train_rows": len(model.train),
        "held_out_rows": len(model.held_out),
        "best_step": model.history.best_step,
        "held_out_nll": model.held_out_nll,
        "norm_fit": {"statistic": model.norm_fit.statistic, "p_value": model.norm_fit.p_value},
    }


def _row_entry(row: DemoRow) -> Document:
    certificate = row.certificate
    return {
        "class": row.model.name,
        "property": row.claim.title,
        "property_text": row.claim.text(row.model.name),
        "certified_mass": row.certified_mass,
        "refuted_mass": row.refuted_mass,
        "verdicts": [
            {"mass": mass, "outcome": decision.outcome.value, "reason": decision.reason}
            for mass, decision in row.decisions.items()
        ],
        "violations_under_flow": proportion_entry(row.flow_violations),
        "violations_in_held_out_rows": proportion_entry(row.held_out_violations),
        "most_probable_failure": _failure_entry(row),
        "search": {
            "proved_radius": certificate.proved_radius,
            "refuted_radius": None if certificate.witness is None else certificate.refuted_radius,
            "complete": certificate.complete,
            "reason": certificate.reason,
            "seconds": certificate.seconds,
            "boxes": certificate.boxes,
        },
    }


def _failure_entry(row: DemoRow) -> Document:
    failure, witness = row.failure, row.witness
    if failure is None or witness is None:
        return None
    return {
        "values": dict(zip(row.model.flow.features, failure.values, strict=True)),
        "latent_exact": [str(value) for value in witness.latent],
        "log_density": failure.log_density,
        "level_mass": failure.level_mass,
        "wrong_probability": failure.wrong_probability,
    }
