"""``veriflow demo``: from a table to proofs and counterexamples, on Breast Cancer Wisconsin."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from veriflow.runtime.lazy_imports import LazyImports
from veriflow.training.options import TrainingOptions

from ..options import SeedOption
from ..output import Document, JsonOption, console, facts, grid, show

with LazyImports(__name__, extra="demo") as imports:
    import torch

    from exporters import graph_to_onnx, read_onnx
    from veriflow.files.whole_files import write_atomically
    from veriflow.flows.storage import save_flow
    from veriflow.numerics.statistics import Proportion
    from veriflow.piecewise.from_torch import from_torch
    from veriflow.piecewise.graph import Graph

    from ... import RadialSearch
    from ...engines.limits import check_time
    from ..demo import files
    from ..demo.models import (
        BLOCKS,
        HIDDEN,
        LABELS,
        WIDTH,
        ClassModel,
        Data,
        accuracy,
        load_data,
        train_class_model,
        train_classifier,
    )
    from ..demo.page import render_page
    from ..demo.rows import CLAIMS, Claim, DemoRow, certified_text, compute_row, failure_table, percent

OUTPUT = Path("demo-output")

_OUTCOME_STYLES = {"holds": "bold green", "violated": "bold red", "unknown": "bold yellow"}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo computes.

    Attributes:
        features: how many of the 30 features, in their order.
        seed: of the split, the training and the samples.
        timeout: seconds for each certificate.
        classifier_steps: optimiser steps of the classifier.
        flow_steps: optimiser steps of each flow, at most.
        samples: of each flow, for probabilities.
    """

    features: int = 5
    seed: int = 0
    timeout: float = 10.0
    classifier_steps: int = 200
    flow_steps: int = 3000
    samples: int = 100_000


def demo(
    *,
    features: Annotated[int, typer.Option(min=2, max=30, help="How many of the 30 features.")] = DemoOptions.features,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go.")] = OUTPUT,
    seed: SeedOption = DemoOptions.seed,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds for each certificate.")] = DemoOptions.timeout,
    as_json: JsonOption = False,
) -> None:
    """Show everything on one data set: train, certify, find the most probable failures, write a report.

    A small classifier and a flow for each class are trained on measurements of tumours (Breast Cancer Wisconsin). For
    each class and property the demo says on how much probable mass it is proved, and shows the most probable failure.
    With five features every search ends within seconds; with ten or more some stay open at the time limit.

    Example: `veriflow demo --features 5`
    """
    screen = Console(stderr=True, markup=False, highlight=False) if as_json else console
    results = run_demo(output, DemoOptions(features, seed, timeout), screen)
    if as_json:
        show(results, as_json)


@imports.on_call
def run_demo(output: Path, options: DemoOptions, screen: Console) -> dict[str, Document]:
    """Train, certify, print each row as it is finished, write all files and return what ``results.json`` holds.

    Raises:
        StorageError: files that cannot be written.
        SolverError: a time limit that is none.
    """
    check_time(options.timeout)
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with _reproducible():
        data = load_data(options.features, options.seed)
        files.write_tables(output, data)
        screen.print(f"Breast Cancer Wisconsin: {', '.join(data.features)}\n")
        network = _classifier(data, output, options, screen)
        share = accuracy(network, data.held_out)
        models = [_class_model(name, data, output, options, screen) for name in LABELS]
        screen.print(_model_facts(models, share))
        rows: list[DemoRow] = []
        for model in models:
            here = [_row(network, model, claim, options, screen) for claim in CLAIMS]
            screen.print(_failures(here))
            rows += here
        commands = _commands(output, rows[0], options.seed)
        with screen.status("writing queries for other verifiers, and the report"):
            files.write_queries(output, rows, options.timeout)
            write_atomically(output / files.PAGE, render_page(models, rows, share, commands))
    seconds = time.monotonic() - start
    results = files.results_document(models, rows, seed=options.seed, accuracy=share, seconds=seconds)
    files.write_results(output, results)
    screen.print(
        f"\n{seconds:.0f} s in all. The report: {output / files.PAGE}\nThe same flow and the first row again:\n"
    )
    screen.print(*commands, sep="\n", soft_wrap=True)
    return results


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread, with which such small models are fastest; afterwards torch's state is as it was."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _classifier(data: Data, output: Path, options: DemoOptions, screen: Console) -> Graph:
    """The network as other tools will read it: from the file that was written."""
    torch.manual_seed(options.seed)
    module = train_classifier(data.train, options.classifier_steps, screen.is_terminal)
    graph_to_onnx(from_torch(module, len(data.features)), output / files.CLASSIFIER)
    return read_onnx(output / files.CLASSIFIER)


def _class_model(name: str, data: Data, output: Path, options: DemoOptions, screen: Console) -> ClassModel:
    """Trained as ``veriflow fit CLASS.csv …`` does it, bit for bit."""
    torch.manual_seed(options.seed)
    training = TrainingOptions(steps=options.flow_steps, seed=options.seed)
    model = train_class_model(name, data, training, screen.is_terminal)
    save_flow(model.flow, output / files.flow_file(name))
    return model


def _row(network: Graph, model: ClassModel, claim: Claim, options: DemoOptions, screen: Console) -> DemoRow:
    law, title = model.flow.base.law, f"{model.name}, {claim.title}"
    with screen.status(title) as line:

        def report(state: RadialSearch) -> None:
            proved, refuted = float(law.cdf(state.proved)), float(law.cdf(state.refuted))
            line.update(f"{title}: proved to mass {proved:.4f}, refuted at {refuted:.4f}")

        row = compute_row(
            network,
            model,
            claim,
            timeout=options.timeout,
            samples=options.samples,
            seed=options.seed,
            report=report,
        )
    screen.print(Text(f"\n{title}", style="bold"), _row_facts(row), sep="\n")
    return row


def _model_facts(models: Sequence[ClassModel], accuracy: float) -> Table:
    lines = {"classifier": f"2 × {WIDTH} ReLUs, right on {percent(accuracy)} of the held-out rows"}
    for model in models:
        fit = model.norm_fit
        lines[f"flow of {model.name}"] = (
            f"trained on {len(model.train)} rows; {model.held_out_nll:.3f} nats per row on {len(model.held_out)} held-out "
            f"rows; their latent norms against the law: Kolmogorov–Smirnov {fit.statistic:.3f}, p = {fit.p_value:.2g}"
        )
    return facts(lines)


def _row_facts(row: DemoRow) -> Table:
    certificate = row.certificate
    table = facts(
        {
            "certified mass": f"{certified_text(row)}, {certificate.reason} ({certificate.seconds:.1f} s)",
            "violated by": f"{_share(row.flow_violations)} of the flow's samples",
            "": f"{_share(row.held_out_violations)} of {row.held_out_violations.trials} held-out rows",
        }
    )
    verdicts = [
        Text.assemble(f"mass {mass}: ", (decision.outcome.value, _OUTCOME_STYLES[decision.outcome.value]))
        for mass, decision in row.decisions.items()
    ]
    table.add_row("verdicts", Text("   ").join(verdicts))
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


def _commands(output: Path, row: DemoRow, seed: int) -> list[str]:
    """What trains the row's flow again, to the same file, and repeats its certificate."""
    name = row.model.name
    flow, table, network, held_out = (
        str(output / file) for file in (files.flow_file(name), f"{name}.csv", files.CLASSIFIER, files.HELD_OUT)
    )
    train = f"fit {shlex.quote(table)} -o {shlex.quote(flow)} --blocks {BLOCKS} --hidden {HIDDEN} --seed {seed}"
    ask = [
        "--network",
        network,
        "--property",
        row.claim.text(name),
        "--data",
        held_out,
        "--label",
        "class",
        "--class",
        name,
    ]
    return [f"veriflow {train}", f"veriflow certify --flow {shlex.quote(flow)} {shlex.join(ask)}"]
