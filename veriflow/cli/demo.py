"""``veriflow demo``: from a table to proofs and counterexamples, on Breast Cancer Wisconsin."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporters import graph_to_onnx, read_onnx
from verify import RadialSearch

from ..files import write_atomically
from ..piecewise import Graph, lower_network
from ..statistics import Proportion
from ..storage import save_flow
from ..training import TrainingOptions
from . import demo_files as files
from .demo_models import LABELS, WIDTH, ClassModel, Data, accuracy, load_data, train_class_model, train_classifier
from .demo_page import render_page
from .demo_rows import CLAIMS, Claim, DemoRow, certified_text, compute_row, failure_table, percent
from .inputs import SeedOption
from .output import Document, JsonOption, console, facts, grid, show

_OUTCOME_STYLES = {"holds": "bold green", "violated": "bold red", "unknown": "bold yellow"}


@dataclass(frozen=True)
class Effort:
    """How much to compute: optimiser steps at most, and samples for each probability."""

    classifier_steps: int = 200
    flow_steps: int = 3000
    samples: int = 100_000


def demo(
    *,
    features: Annotated[int, typer.Option(min=2, max=30, help="How many of the 30 features, in their order.")] = 5,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go.")] = Path(
        "demo-output"
    ),
    seed: SeedOption = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for each certificate.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show everything on one data set: train, certify, find the most probable failures, write a report.

    A small classifier and a flow for each class are trained on measurements of tumours; each row says how much of a
    class's probability mass is certified. With five features every row closes in seconds; with ten most stay open.

    Example: `veriflow demo --features 5`
    """
    progress = Console(stderr=True, markup=False, highlight=False) if as_json else console
    results = run_demo(output, features=features, seed=seed, timeout=timeout, console=progress)
    if as_json:
        show(results, as_json)


def run_demo(
    output: Path,
    *,
    features: int = 5,
    seed: int = 0,
    timeout: float = 10.0,
    effort: Effort = Effort(),  # noqa: B008 - frozen
    console: Console = console,
) -> dict[str, Document]:
    """Train, certify, print row by row, write all files to ``output`` and return what ``results.json`` holds.

    Raises:
        StorageError: files that cannot be written.
    """
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with _reproducible():
        data = load_data(features, seed)
        files.write_tables(output, data)
        console.print(f"Breast Cancer Wisconsin: {', '.join(data.features)}\n")
        network = _classifier(data, output, seed, effort, console)
        share = accuracy(network, data.held_out)
        models = [_class_model(name, data, output, seed, effort, console) for name in LABELS]
        console.print(_model_facts(models, share))
        rows: list[DemoRow] = []
        for model in models:
            here = [_row(network, model, claim, timeout, effort, seed, console) for claim in CLAIMS]
            console.print(_failures(here))
            rows += here
        with console.status("writing queries for other verifiers …"):
            files.write_queries(output, rows, timeout)
        command = _command(output, rows[0])
        page = render_page(models, rows, share, command)
    write_atomically(output / files.PAGE, page)
    seconds = time.monotonic() - start
    results = files.results_document(models, rows, seed=seed, accuracy=share, seconds=seconds)
    files.write_results(output, results)
    console.print(f"{seconds:.0f} s in all. The report: {output / files.PAGE}\nThe first row again:\n")
    console.print(command, soft_wrap=True)
    return results


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread, which such small models are fastest with, and torch's generator as it was, afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _classifier(data: Data, output: Path, seed: int, effort: Effort, console: Console) -> Graph:
    """The network as other tools will read it: from the file that was written."""
    torch.manual_seed(seed)
    module = train_classifier(data.train, effort.classifier_steps, console.is_terminal)
    graph_to_onnx(lower_network(module, len(data.features)), output / files.CLASSIFIER)
    return read_onnx(output / files.CLASSIFIER)


def _class_model(name: str, data: Data, output: Path, seed: int, effort: Effort, console: Console) -> ClassModel:
    """Trained exactly as ``veriflow fit CLASS.csv --blocks 2 --hidden 8 --seed SEED`` does it."""
    torch.manual_seed(seed)
    options = TrainingOptions(steps=effort.flow_steps, seed=seed)
    model = train_class_model(name, data, options, console.is_terminal)
    save_flow(model.flow, output / files.flow_file(name))
    return model


def _row(
    network: Graph, model: ClassModel, claim: Claim, timeout: float, effort: Effort, seed: int, console: Console
) -> DemoRow:
    law = model.flow.base.law
    title = f"{model.name}, {claim.title}"
    with console.status(title) as line:

        def report(state: RadialSearch) -> None:
            proved, refuted = float(law.cdf(state.proved)), float(law.cdf(state.refuted))
            line.update(f"{title}: proved to mass {proved:.4f}, refuted at {refuted:.4f}")

        row = compute_row(network, model, claim, timeout=timeout, samples=effort.samples, seed=seed, report=report)
    console.print(Text(f"\n{title}", style="bold"), _row_facts(row), sep="\n")
    return row


def _model_facts(models: Sequence[ClassModel], accuracy: float) -> Table:
    fits = {
        f"flow of {m.name}": f"{m.held_out_nll:.3f} nats per held-out row, trained on {len(m.train)} rows; latent norms follow "
        f"their law: Kolmogorov–Smirnov {m.norm_fit.statistic:.3f}, p = {m.norm_fit.p_value:.2g}, {len(m.held_out)} rows"
        for m in models
    }
    return facts({"classifier": f"2 × {WIDTH} ReLUs, right on {percent(accuracy)} of the held-out rows", **fits})


def _row_facts(row: DemoRow) -> Table:
    verdicts = Text("   ").join(
        Text(f"mass {mass}: ") + Text(decision.outcome.value, style=_OUTCOME_STYLES[decision.outcome.value])
        for mass, decision in row.decisions.items()
    )
    certificate = row.certificate
    table = facts(
        {
            "certified mass": f"{certified_text(certificate)}, {certificate.reason} ({certificate.seconds:.1f} s)",
            "violated": f"by {_share(row.flow_violations)} of the flow's samples, by {_share(row.held_out_violations)} of "
            f"{row.held_out_violations.trials} held-out rows",
        }
    )
    table.add_row("verdicts", verdicts)
    return table


def _share(share: Proportion) -> str:
    return f"{percent(share.estimate)} [{percent(share.low)}, {percent(share.high)}]"


def _failures(rows: Sequence[DemoRow]) -> Table:
    heads, *lines = failure_table(rows)
    table = grid(*heads)
    table.title, table.title_justify = "\nMost probable failure of each property", "left"
    for line in lines:
        table.add_row(*line)
    return table


def _command(output: Path, row: DemoRow) -> str:
    """What repeats the row's certificate."""
    name = row.model.name
    return shlex.join(
        ["veriflow", "certify"]
        + ["--flow", str(output / files.flow_file(name)), "--network", str(output / files.CLASSIFIER)]
        + ["--property", row.claim.text(name)]
        + ["--data", str(output / files.HELD_OUT), "--label", "class", "--class", name]
    )
