"""``veriflow level-set``: density level sets in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veriflow.errors import RegionError
from veriflow.runtime.lazy_imports import LazyImports

from ..options import (
    ClassOption,
    DataOption,
    DecimalOption,
    HeaderOption,
    LabelOption,
    ModelArgument,
    SeparatorOption,
    TrimOption,
    readable,
)
from ..output import Document, JsonOption, facts, show

with LazyImports(__name__) as imports:
    from veriflow.density.level_sets import calibrated_level_set
    from veriflow.density.trimmed_sets import trimmed_level_set
    from veriflow.flows.storage import load_flow
    from veriflow.numerics.statistics import clopper_pearson
    from veriflow.tables.text import Dialect

    from ..findings import proportion_entry
    from ..inputs import read_rows
    from ..question import trim_limit, trimmed_entry


@imports.on_call
def level_set(
    *,
    model: ModelArgument,
    mass: Annotated[float | None, typer.Option(help="Probability of the set, between 0 and 1.")] = None,
    radius: Annotated[float | None, typer.Option(help="Largest latent norm.")] = None,
    log_density: Annotated[float | None, typer.Option(help="Least log density, in nats.")] = None,
    lower: Annotated[bool, typer.Option("--lower", help="The least probable set instead: all the rest.")] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            callback=readable,
            help="Choose the radius so that the set covers --mass of these held-out rows.",
        ),
    ] = None,
    trim: TrimOption = None,
    data: DataOption = None,
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe the level set of a mass, a latent radius or a log density.

    With --trim it stands beside a trimmed set of its mass, whose rows are then counted.
    With --calibrate the radius is the split-conformal quantile of rows that were not used in training.

    Example: `veriflow level-set setosa.safetensors --mass 0.9 --data flowers.csv`
    """
    dialect = Dialect(separator, decimal, header)
    flow = load_flow(model)
    calibration = trimmed = None
    if trim is not None:
        if calibrate is not None or log_density is not None or lower:
            raise RegionError("expected --mass or --radius alone beside --trim; got something else")
        trimmed = trimmed_level_set(flow, mass=mass, radius=radius, limit=trim_limit(trim))
        chosen = trimmed.level_set
    elif calibrate is not None:
        if mass is None or radius is not None or log_density is not None or lower:
            raise RegionError("expected --mass alone beside --calibrate, which chooses a radius; got something else")
        calibration = calibrated_level_set(flow, read_rows(calibrate, flow, label, keep_class, dialect), mass)
        chosen = calibration.level_set
    elif lower:
        chosen = flow.lower_level_set(mass, radius=radius, log_density=log_density)
    else:
        chosen = flow.level_set(mass, radius=radius, log_density=log_density)
    inside = None
    if data is not None:
        rows = read_rows(data, flow, label, keep_class, dialect)
        inside = clopper_pearson(int((trimmed or chosen).contains(rows).sum()), len(rows))
    document: Document = {
        "side": chosen.side,
        "mass": chosen.mass,
        "intervals": chosen.intervals,
        "radius": chosen.radius if chosen.is_ball else None,
        "log_density_threshold": chosen.log_density_threshold,
        "calibration": None
        if calibration is None
        else {
            "rows": calibration.rows,
            "coverage_lower_bound": calibration.coverage_lower_bound,
            "confidence": calibration.confidence,
        },
        "trimmed": trimmed_entry(trimmed),
        "rows_inside": proportion_entry(inside),
    }
    side = "at least" if chosen.side == "upper" else "at most"
    summary = facts(
        {
            "mass": chosen.mass,
            "latent norm": ", ".join(f"{inner:.9g} to {outer:.9g}" for inner, outer in chosen.intervals),
            "log density": f"{side} {chosen.log_density_threshold:.6g}",
            "calibrated": calibration
            and f"covers at least {calibration.coverage_lower_bound:.4g} of new rows, "
            f"at confidence {calibration.confidence:g}, by {calibration.rows} rows",
            "beside it": trimmed,
            "rows inside": inside and f"{inside.successes} of {inside.trials}: {inside}",
        }
    )
    show(document, as_json, summary)
