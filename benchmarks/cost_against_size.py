"""Claim: of all solvers bab gives out last as flows grow in blocks, width and dimension.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/cost_against_size.py bab highs smt marabou vibecheck --timeout 20

Flows on the first principal components of the 8×8 digits (the threes), a classifier 2×32 of all ten, L1 balls of 0.7 of the
norm of the nearest violation known. One size grows at a time; a solver that leaves a query open is not asked about
larger ones. Answers are kept as those of level_set_queries.py are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from level_set_queries import answer, attack_radius, unstable_share
from models import classifier, digits, flow
from rich.console import Console
from rich.table import Table

from veriflow import Ball, Query, classified_as, flow_query
from verify import Outcome

LABEL, SHARE, STEPS = 3, 0.7, 600
MIDDLE = {"blocks": 2, "width": 16, "dimension": 8}
SIZES = {"blocks": (1, 2, 4, 8, 16), "width": (8, 16, 32, 64, 128), "dimension": (2, 4, 8, 16, 32, 64)}
PICTURE = Path("docs/cost_against_size.svg")


def components(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The digits' first principal components and classes."""
    x, y = digits()
    centred = x - x.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:dim].T, y


def query(blocks: int, width: int, dimension: int) -> Query:
    """The query of that size."""
    x, y = components(dimension)
    network = classifier(f"components{dimension}-32", x, y)
    model = flow(f"components{dimension}-class{LABEL}", x[y == LABEL], 1, blocks, width, STEPS)
    widest = Ball(1, float(model.base.law.quantile(0.9999)), dimension)
    whole = flow_query(model, network, widest, classified_as(LABEL))
    norm = attack_radius(whole, widest)
    if norm is None:
        raise SystemExit(f"the attack finds no violation for {blocks} blocks, width {width}, dimension {dimension}")
    return whole.at(Ball(1, SHARE * norm, dimension))


def main() -> None:
    """Print times by size and draw them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("solvers", nargs="*", default=["bab", "highs", "smt"])
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--afresh", default="", help="solvers whose kept answers are not taken")
    options = parser.parse_args()
    table = Table("grows", "size", "unstable ReLUs", *options.solvers)
    figure, panels = plt.subplots(1, len(SIZES), figsize=(10, 3.6), sharey=True)
    for axes, (grows, sizes) in zip(panels, SIZES.items(), strict=True):
        times: dict[str, list[tuple[int, float, bool]]] = {solver: [] for solver in options.solvers}
        for size in sizes:
            asked = query(**(MIDDLE | {grows: size}))
            cells = []
            for solver, so_far in times.items():
                if so_far and not so_far[-1][-1]:
                    cells.append("not asked")
                    continue
                outcome, seconds = answer(asked, solver, options.timeout, solver in options.afresh.split(","))
                so_far.append((size, seconds, outcome != Outcome.UNKNOWN))
                cells.append(f"{outcome} {seconds:.2f} s")
            table.add_row(grows, str(size), unstable_share(asked), *cells)
            print(grows, size, *cells, flush=True)
        for number, (solver, found) in enumerate(times.items()):
            axes.plot([s for s, _, _ in found], [t for _, t, _ in found], "-", color=f"C{number}", label=solver)
            for size, seconds, decided in found:
                axes.plot(size, seconds, "." if decided else "x", color=f"C{number}", markersize=7)
        axes.set(xscale="log", yscale="log", xlabel=grows, xticks=sizes, xticklabels=sizes)
        axes.minorticks_off()
        axes.axhline(options.timeout, color="grey", linewidth=0.5)
    panels[0].set_ylabel("seconds (crosses: open at the limit)")
    panels[-1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURE)
    Console(width=60 + 18 * len(options.solvers)).print(table)
    print("picture:", PICTURE)


if __name__ == "__main__":
    main()
