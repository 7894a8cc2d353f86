"""Claim: on queries over level sets nothing else is as fast as the bab engine, and no engine is wrong.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/level_set_queries.py bab milp smt marabou --sets moons,digits

Queries on ``classifier ∘ flow`` at multiples of the norm of the nearest violation that an attack finds. Every solver
answers every query, alone, one thread, in this process or one of its own, with the same time limit. The ratio compares
each other solver with the first one where both decide.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from models import classifier, digits, flow, moons
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_wine

from veriflow import Ball, Query, classified_as, flow_query
from veriflow.piecewise import symbolic_bounds
from verify import Outcome, Verdict, verify
from verify.attack import nearest_violation

SHARES = (0.5, 0.85, 1.1)


@dataclass(frozen=True)
class DataSet:
    """Rows and classes, the class that the flow is fitted to, and the sizes of flow and classifier."""

    rows: np.ndarray
    classes: np.ndarray
    label: int
    blocks: tuple[int, ...]
    hidden: int
    network: str
    steps: int = 500


def data_sets() -> dict[str, DataSet]:
    """The suite."""
    cancer, wine = load_breast_cancer(), load_wine()
    return {
        "moons": DataSet(*moons(), 1, (1, 3, 6), 16, "moons-32"),
        "cancer10": DataSet(cancer.data[:, :10], cancer.target, 1, (2, 4), 16, "cancer10-32"),
        "cancer30": DataSet(cancer.data, cancer.target, 1, (2, 4), 16, "cancer30-32"),
        "wine": DataSet(wine.data, wine.target, 1, (2,), 16, "wine-32"),
        "digits": DataSet(*digits(), 3, (1, 2, 4), 32, "digits-32", 200),
    }


def queries(names: list[str]) -> Iterator[tuple[str, Query]]:
    """Name and query, for both norms and all radii."""
    torch.set_num_threads(1)
    for name, chosen in data_sets().items():
        if name not in names:
            continue
        network = classifier(chosen.network, chosen.rows, chosen.classes, steps=chosen.steps)
        rows = chosen.rows[chosen.classes == chosen.label]
        for blocks in chosen.blocks:
            for p in (1, math.inf):
                model = flow(f"{name}-class{chosen.label}", rows, p, blocks=blocks, hidden=chosen.hidden)
                widest = Ball(p, float(model.base.law.quantile(0.9999)), model.dim)
                whole = flow_query(model, network, widest, classified_as(chosen.label))
                nearest = nearest_violation(whole, widest)
                for share in SHARES if nearest is not None else ():
                    yield f"{name} {blocks} L{p:g} {share}", whole.at(Ball(p, share * nearest.norm, model.dim))
                if nearest is None:
                    print(f"{name} {blocks} L{p:g}: the attack finds no violation to measure radii by")


def main() -> None:
    """Print the table, how many each solver decides, and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("solvers", nargs="*", default=["bab", "milp"])
    parser.add_argument("--sets", default=",".join(data_sets()))
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    table = Table("query", "unstable ReLUs", *options.solvers)
    found: dict[str, list[Verdict]] = {}
    wrong = []
    for name, query in queries(options.sets.split(",")):
        found[name] = verdicts = [verify(query, solver, timeout=options.timeout) for solver in options.solvers]
        if len({v.outcome for v in verdicts} - {Outcome.UNKNOWN}) > 1:
            wrong.append(name)
        bounds = symbolic_bounds(query.graph, query.region)
        cells = [f"{v.outcome} {v.seconds:.2f} s" for v in verdicts]
        table.add_row(name, f"{bounds.unstable(query.graph)} of {query.graph.relu_count}", *cells)
        print(name, *cells, flush=True)
    Console(width=140).print(table)
    for place, solver in enumerate(options.solvers):
        decided = [v[place] for v in found.values() if v[place].outcome is not Outcome.UNKNOWN]
        line = f"{solver}: {len(decided)} of {len(found)} decided"
        both = [
            (v[place].seconds, v[0].seconds)
            for v in found.values()
            if Outcome.UNKNOWN not in (v[0].outcome, v[place].outcome)
        ]
        if place and both:
            ratio = statistics.median(theirs / ours for theirs, ours in both)
            line += f"; {solver} / {options.solvers[0]}: {ratio:.1f} (median over {len(both)} that both decide)"
        print(line)
    print("disagreements:", ", ".join(wrong) or "none")


if __name__ == "__main__":
    main()
