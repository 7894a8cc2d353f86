"""``veriflow fit``: a table in, a flow out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from veriflow.flows.defaults import BLOCKS, HIDDEN
from veriflow.runtime.lazy_imports import LazyImports
from veriflow.training.options import TrainingOptions

from ..long_runs import advice
from ..options import (
    ClassOption,
    DecimalOption,
    HeaderOption,
    LabelOption,
    SeedOption,
    SeparatorOption,
    StabilityOption,
    TableArgument,
)
from ..output import Document, JsonOption, facts, say, show

with LazyImports(__name__) as imports:
    import torch

    from veriflow.density.radial import make_base
    from veriflow.flows.flow import USFlow
    from veriflow.flows.storage import save_flow
    from veriflow.numerics.statistics import Fit, kolmogorov_smirnov
    from veriflow.tables.table import Table, read_table
    from veriflow.training import fit as training
    from veriflow.training.preparation import dequantise, split_rows, unresolved_shares

    from ..inputs import check_folder, say_notes, split_list, whole_numbers

WIDTHS = ",".join(map(str, HIDDEN))
"""`HIDDEN` as an option."""

UNRESOLVED = 0.1
"""Share from which on a note says that a column's values are too close together for the flow's graph."""


@imports.on_call
def fit(
    *,
    table: TableArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the flow goes (safetensors).")],
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B,…", help="Features, all by default.")] = None,
    integral: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Features that are whole numbers, such as ages and codes.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=0, help="Coupling blocks; 0 gives an affine flow.")] = BLOCKS,
    hidden: Annotated[str, typer.Option(metavar="N,N,…", help="Widths of the conditioners' hidden layers.")] = WIDTHS,
    base: Annotated[
        str,
        typer.Option(metavar="NAME", help="Base distribution."),
    ] = "gamma-mixture",
    p: Annotated[float | None, typer.Option(metavar="1|2|inf", help="Norm of the base; its own by default.")] = None,
    components: Annotated[int | None, typer.Option(help="Components of a mixture base; 4 by default.")] = None,
    householder: Annotated[int, typer.Option(min=0, help="Reflections before each block.")] = 0,
    permute: Annotated[bool, typer.Option("--permute", help="A random permutation before each block.")] = False,
    steps: Annotated[int, typer.Option(help="Optimiser steps at most.")] = TrainingOptions.steps,
    batch_size: Annotated[int, typer.Option(help="Rows for one step.")] = TrainingOptions.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Adam's, at the start.")] = TrainingOptions.learning_rate,
    prior_sigma: Annotated[float, typer.Option(help="Deviation of log|det| under the determinant prior.")] = 1.0,
    no_prior: Annotated[bool, typer.Option("--no-prior", help="Plain maximum likelihood.")] = False,
    validation: Annotated[float, typer.Option(help="Share of rows held out.")] = TrainingOptions.validation,
    patience: Annotated[int, typer.Option(help="Vain validations before the end.")] = TrainingOptions.patience,
    stability: StabilityOption = TrainingOptions.stability,
    stability_mass: Annotated[
        float, typer.Option(metavar="Q", help="Mass of the level set over which ReLUs are to be stable.")
    ] = TrainingOptions.stability_mass,
    seed: SeedOption = TrainingOptions.seed,
    devices: Annotated[int, typer.Option(min=1, help="Devices, or processes on a CPU, to spread batches over.")] = 1,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the run here; go on from it where it exists.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no notes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a flow to a table and write it.

    A share of the rows is held out to stop early; the same seed, data and options give the same file, bit for bit.

    Bases: exponential, free-gamma-mixture, gamma-mixture, laplace, lognormal, lognormal-mixture, normal, uniform-ball, weibull,
    weibull-mixture.

    Example: `veriflow fit flowers.csv -o setosa.safetensors --label species --class setosa`
    """
    check_folder(output)
    rows = read_table(
        table,
        label=label,
        keep_class=keep_class,
        columns=split_list(columns),
        separator=separator,
        decimal=decimal,
        header=header,
    )
    rows.check_variation()
    options = TrainingOptions(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        prior_sigma=None if no_prior else prior_sigma,
        validation=validation,
        patience=patience,
        seed=seed,
        stability=stability,
        stability_mass=stability_mass,
    )
    torch.manual_seed(seed)
    flow = USFlow(
        len(rows.features),
        blocks=blocks,
        hidden=whole_numbers(split_list(hidden) or [], "--hidden"),
        base=make_base(base, len(rows.features), p, components),
        householder=householder,
        permute=permute,
        features=rows.features,
        integral=split_list(integral) or (),
    )
    resumed = checkpoint is not None and checkpoint.exists()
    if not quiet:
        say_notes([*rows.notes, *rows.dependences()])
    start = time.monotonic()
    with advice(checkpoint):
        history = training.fit(
            flow,
            rows.values,
            options,
            checkpoint=checkpoint,
            devices=devices,
            progress=not quiet and sys.stderr.isatty(),
        )
    if resumed and not quiet:
        say(f"went on from the checkpoint {checkpoint}")
    seconds = time.monotonic() - start
    held_out = split_rows(len(rows.values), validation, seed)[1]
    law = _norm_fit(flow, rows, held_out.tolist(), seed)
    save_flow(flow, output)
    shares = unresolved_shares(rows.values, flow.deviations().numpy()).tolist()
    unresolved = {name: share for name, share in zip(rows.features, shares, strict=True) if share > UNRESOLVED}
    document: Document = {
        "model": str(output),
        "features": rows.features,
        "rows": len(rows.values),
        "validation_rows": len(held_out),
        "steps": history.steps[-1],
        "best_step": history.best_step,
        "train_nll": history.train_nll[history.best],
        "validation_nll": history.best_nll,
        "seconds": seconds,
        "resumed": resumed,
        "norm_fit": {"statistic": law.statistic, "p_value": law.p_value},
        "unresolved": unresolved,
    }
    table_of_facts = facts(
        {
            "flow": f"{output}, {flow.dim} features, from {len(rows.values)} rows",
            "validation NLL": f"{history.best_nll:.4f} nats per row, on {len(held_out)} rows",
            "training NLL": f"{history.train_nll[history.best]:.4f} nats per row",
            "steps": f"{history.steps[-1]}, the best is {history.best_step}",
            "time": f"{seconds:.1f} s",
            "law of the norm": f"Kolmogorov–Smirnov {law.statistic:.3f}, p = {law.p_value:.3g}, on validation rows",
            **{
                f"resolution of {name}": f"{share:.0%} of its values are closer together than float32, as graphs have, resolves"
                for name, share in unresolved.items()
            },
        }
    )
    show(document, as_json, table_of_facts)


def _norm_fit(flow: USFlow, rows: Table, held_out: list[int], seed: int) -> Fit:
    """How well the latent norms of held-out rows follow the base's law."""
    values = dequantise(rows.values, flow.integral_columns, seed)
    return kolmogorov_smirnov(flow.norm(values[held_out]).double().numpy(), flow.base.law.cdf)
