"""``veriflow compress``: a flow that is easier to prove things about, and what that costs."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from veriflow.errors import QueryError
from veriflow.runtime.lazy_imports import LazyImports
from veriflow.training.options import TrainingOptions

from ..options import (
    ClassOption,
    DecimalOption,
    HeaderOption,
    LabelOption,
    ModelArgument,
    SeedOption,
    SeparatorOption,
    StabilityOption,
    TableArgument,
    readable,
)
from ..output import Document, JsonOption, cell, facts, grid, show

with LazyImports(__name__) as imports:
    from veriflow.flows.storage import load_flow, save_flow
    from veriflow.tables.text import Dialect
    from veriflow.training import compression
    from veriflow.training.fit import split
    from veriflow.training.proof_cost import proof_cost

    from ... import AUTO, Outcome, solver, verify_all
    from ...engines.limits import check_time
    from ..inputs import check_folder, read_rows, split_list
    from ..question import ask


@imports.on_call
def compress(
    *,
    model: ModelArgument,
    table: TableArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the new flow goes.")],
    label: LabelOption = None,
    keep_class: ClassOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    header: HeaderOption = None,
    keep: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of each matrix's weights that stays, the largest ones.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of each matrix of the conditioners, at most.")] = None,
    bits: Annotated[
        int | None, typer.Option(help="Of the numbers; the constants of graphs get about twice as many.")
    ] = None,
    stability: StabilityOption = 0.0,
    mass: Annotated[
        float, typer.Option(help="Of the level set that is to be easier.")
    ] = TrainingOptions.stability_mass,
    steps: Annotated[int, typer.Option(help="Steps of fine-tuning after a cut; 0 for none.")] = 1000,
    learning_rate: Annotated[float, typer.Option(help="Of fine-tuning, at the start.")] = TrainingOptions.learning_rate,
    validation: Annotated[float, typer.Option(help="Share of rows held out.")] = TrainingOptions.validation,
    seed: SeedOption = TrainingOptions.seed,
    network: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=readable, help="A network under test, as ONNX, to measure what solving takes."
        ),
    ] = None,
    prop: Annotated[
        str | None, typer.Option("--property", metavar="TEXT|FILE", help="What is asked about it, as for `verify`.")
    ] = None,
    solvers: Annotated[str, typer.Option("--with", metavar="NAMES", help="Who solves, as for `verify`.")] = "bab",
    timeout: Annotated[float, typer.Option(help="Seconds for each of both questions.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a flow sparse, low-rank, of few bits or of stable ReLUs, fit its base anew, and print what is lost and won.

    With the seed and the validation share of `fit`, the same rows are held out: all figures are about these.

    Example: `veriflow compress setosa.safetensors flowers.csv -o small.safetensors --label species --class setosa --keep 0.5
    --bits 8 --network net.onnx --property "classified_as(0)" --mass 0.5`
    """
    check_folder(output)
    if (network is None) != (prop is None):
        raise QueryError("expected both --network and --property, to measure what solving takes, or neither; got one")
    dialect = Dialect(separator, decimal, header)
    flow = load_flow(model)
    options = TrainingOptions(
        learning_rate=learning_rate, validation=validation, seed=seed, stability=stability, stability_mass=mass
    )
    rows = read_rows(table, flow, label, keep_class, dialect)
    _, held_out = split(flow, rows, options)
    if network is not None and prop is not None:
        check_time(timeout)
        for name in split_list(solvers) or []:
            if name != AUTO:
                solver(name)
        ask(model, network, prop, mass, None)  # a question that makes no sense is refused before long work
    start = time.monotonic()
    made = compression.compress(
        flow,
        rows,
        keep=keep,
        rank=rank,
        bits=bits,
        steps=steps,
        options=options,
        progress=not quiet and sys.stderr.isatty(),
    )
    seconds = time.monotonic() - start
    save_flow(made, output)

    costs = [proof_cost(each, held_out, mass) for each in (flow, made)]
    asked = [
        _Solved() if network is None or prop is None else _solve(file, network, prop, mass, solvers, timeout)
        for file in (model, output)
    ]
    lost, won = costs[1].nll - costs[0].nll, _time_won(*asked)
    before, after = ({**asdict(cost), **asdict(solved)} for cost, solved in zip(costs, asked, strict=True))
    document: Document = {
        "model": str(output),
        "rows": len(rows),
        "validation_rows": len(held_out),
        "mass": mass,
        "keep": keep,
        "rank": rank,
        "bits": bits,
        "stability": stability,
        "seconds": seconds,
        "before": before,
        "after": after,
        "nll_lost": lost,
        "time_won": won,
    }
    compared = grid("", "before", "after")
    names = {
        "nll": f"NLL, nats per row, on {len(held_out)} rows",
        "unstable": f"unstable ReLUs over the level set of mass {mass:g}",
        "relus": "of ReLUs",
        "weights": "weights that are not zero",
        "bits": "bits of the longest constant",
        "deviation": "largest deviation of the graph",
        "outcome": "verdict",
        "solving_seconds": "solving time, s",
    }
    for field, name in names.items():
        if before[field] is not None:
            compared.add_row(name, cell(before[field]), cell(after[field]))
    trade = facts(
        {
            "flow": f"{output}, after {seconds:.1f} s",
            "NLL lost": f"{lost:.4f} nats per row",
            "solving time won": None if won is None else f"{won:.2f} times as fast",
        }
    )
    show(document, as_json, compared, "", trade)


@dataclass(frozen=True)
class _Solved:
    """The verdict on the level set of a mass and the seconds that all of its queries took; None where nothing is asked."""

    outcome: str | None = None
    solving_seconds: float | None = None


def _solve(flow: Path, network: Path, prop: str, mass: float, solvers: str, timeout: float) -> _Solved:
    queries = ask(flow, network, prop, mass, None).queries
    verdict = verify_all(queries, split_list(solvers) or [], timeout=timeout).verdict
    return _Solved(str(verdict.outcome), verdict.seconds)


def _time_won(before: _Solved, after: _Solved) -> float | None:
    """How many times as fast, where both come to the same verdict; else None."""
    if before.solving_seconds is None or after.solving_seconds is None:
        return None
    if before.outcome != after.outcome or before.outcome == Outcome.UNKNOWN:
        return None
    return before.solving_seconds / max(after.solving_seconds, 1e-3)
