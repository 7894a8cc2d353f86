"""Runs of the command line, and the tables and networks that they read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from exporters import graph_to_onnx
from veriflow.piecewise.graph import Affine, Graph, Relu
from verify.cli import app

FIT = ("--label", "kind", "--blocks", "1", "--hidden", "4", "--steps", "100", "--seed", "3")
FEATURES = ["width [mm]", "height"]

FIELDS = {
    "fit": "model features rows validation_rows steps best_step train_nll validation_nll seconds resumed norm_fit unresolved",
    "compress": "model rows validation_rows mass keep rank bits stability seconds before after nll_lost time_won",
    "info": "model dim features blocks hidden householder permute bits parameters relus log_volume p law level_sets",
    "sample": "features rows written samples",
    "score": "rows mean_nll shares_inside norm_fit written scores",
    "level-set": "side mass intervals radius log_density_threshold calibration trimmed rows_inside",
    "export": "folder property mass trimmed queries reduced_relus files",
    "restrict": "folder property direction mass trimmed queries files",
    "verify": "outcome reason engine seconds property mass trimmed regions witness rounded violation_probability "
    "violations_in_data",
    "certify": "property certified_mass refuted_mass searched_mass proved_radius refuted_radius complete reason "
    "seconds boxes witness trimmed rounded median curve violation_bounds violation_probability violations_in_data",
    "output-range": "score mass low high complete reason seconds",
    "solvers": "engines",
}
WITNESS = (
    "data others outputs output_names input_exact latent latent_exact latent_norm log_density level_mass own exported "
    "not_run"
)
COST = "nll unstable relus weights bits deviation outcome solving_seconds"
PROPORTION = "estimate low high confidence count trials"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert list(found) == FIELDS[str(arguments[0])].split()
    return found


def refused(*arguments: object) -> str:
    """The one sentence on stderr, after exit code 2 and nothing on stdout."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").strip()


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def write_network(path: Path, inputs: int = 2) -> Path:
    """y = (relu(x0 + x1), 1.5): the second output wins where x0 + x1 < 1.5."""
    first = Affine("a", (("x", np.ones((1, inputs))),), np.zeros(1))
    last = Affine("b", (("h", np.array([[1.0], [0.0]])),), np.array([0.0, 1.5]))
    graph_to_onnx(Graph("x", inputs, (first, Relu("h", "a"), last), "b"), path)
    return path
