"""``veriflow sample``: rows out of a flow."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from veriflow.errors import DataError
from veriflow.runtime.lazy_imports import LazyImports

from ..options import ModelArgument, SeedOption
from ..output import Document, JsonOption, facts, show

with LazyImports(__name__) as imports:
    import torch

    from veriflow.flows.storage import load_flow
    from veriflow.tables.table import write_table
    from veriflow.tables.text import MOST_CELLS


@imports.on_call
def sample(
    *,
    model: ModelArgument,
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 1000,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="A .csv, .parquet, .npz or .npy file instead of stdout."),
    ] = None,
    mass: Annotated[float | None, typer.Option(help="Only from the most probable set of this mass.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw independent rows from a flow; as CSV on stdout where no file is named.

    Example: `veriflow sample setosa.safetensors -n 1000 --mass 0.9 -o drawn.csv`
    """
    flow = load_flow(model)
    if n * flow.dim > MOST_CELLS:
        raise DataError(f"expected at most {MOST_CELLS} numbers in all rows; got {n} rows of {flow.dim}")
    torch.manual_seed(seed)
    rows = (flow.sample([n]) if mass is None else flow.level_set(mass).sample([n])).double().numpy()
    if output is not None:
        write_table(output, rows, flow.features)
    elif not as_json:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(flow.features)
        lines.writerows(rows.tolist())
        return
    document: Document = {
        "features": flow.features,
        "rows": n,
        "written": None if output is None else str(output),
        "samples": rows.tolist() if output is None else None,
    }
    show(document, as_json, facts({"rows": n, "file": output}))
