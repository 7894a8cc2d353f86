"""``veriflow score``: how probable rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veriflow.runtime.lazy_imports import LazyImports

from ..options import (
    ClassOption,
    DecimalOption,
    HeaderOption,
    LabelOption,
    ModelArgument,
    SeparatorOption,
    TableArgument,
)
from ..output import Document, JsonOption, facts, show

with LazyImports(__name__) as imports:
    import numpy as np
    import torch

    from veriflow.flows.storage import load_flow
    from veriflow.numerics.statistics import kolmogorov_smirnov
    from veriflow.tables.table import write_table
    from veriflow.tables.text import Dialect

    from ..inputs import read_rows

COLUMNS = ("log_density", "latent_norm", "level_mass", "log_tail_mass")
MASSES = (0.5, 0.9, 0.99)


@imports.on_call
def score(
    *,
    model: ModelArgument,
    table: TableArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where the scores of each row go.")
    ] = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score rows: log density, latent norm, the mass of the level set on whose boundary the row lies, and log(1 − mass).

    1 − level mass is a p-value for "this row came from the flow" where the density decreases with the latent norm. Its
    logarithm tells rows apart that are so far out that the mass is 1 in floats.

    Example: `veriflow score setosa.safetensors flowers.csv -o scores.csv`
    """
    dialect = Dialect(separator, decimal, header)
    flow = load_flow(model)
    rows = read_rows(table, flow, label, keep_class, dialect)
    with torch.no_grad():
        columns = (flow.log_prob(rows), flow.norm(rows), flow.score(rows), flow.log_tail_mass(rows))
        scores = torch.stack([column.double() for column in columns], dim=-1).numpy()
    if output is not None:
        write_table(output, scores, COLUMNS)
    log_density, _, level_mass, _ = scores.T
    law = kolmogorov_smirnov(level_mass, lambda mass: mass)
    mean, worst = -float(log_density.mean()), int(np.argmin(log_density))
    inside = {mass: float(flow.level_set(mass).contains(rows).double().mean()) for mass in MASSES}
    document: Document = {
        "rows": len(scores),
        "mean_nll": mean,
        "shares_inside": [{"mass": mass, "share": share} for mass, share in inside.items()],
        "norm_fit": {"statistic": law.statistic, "p_value": law.p_value},
        "written": None if output is None else str(output),
        "scores": [dict(zip(COLUMNS, row, strict=True)) for row in scores.tolist()] if output is None else None,
    }
    summary = facts(
        {
            "rows": len(scores),
            "mean NLL": f"{mean:.4f} nats per row",
            **{f"in the set of mass {mass}": f"{share:.1%} of the rows" for mass, share in inside.items()},
            "least probable": f"row {worst + 1} of {len(scores)}, log density {log_density[worst]:.4f}",
            "law of the norm": f"Kolmogorov–Smirnov {law.statistic:.3f}, p = {law.p_value:.3g}",
            "file": output,
        }
    )
    show(document, as_json, summary)
