"""Claim: outside tools are faster on what ``veriflow export --reduce`` writes than on what plain ``export`` does.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/reduction.py [--with Marabou,vibecheck] [--sets moons,cancer10,wine]

L∞ queries of `level_set_queries`. Each is written both ways, and each tool is run on both bundles' files as a user would run
it: Marabou on its input queries, vibecheck on VNN-LIB 2.0 with the network as a graph and as a chain. Seconds are the tool's
processor seconds, so that other programs on the machine count less, and those that it needs to start, measured on a
query of one unit, are taken off. A ratio counts where the tool decides one of both at least and where the plain query takes
it `LEAST` seconds, and a tenth of its start, beyond its start; a side at its time limit counts with what it used until then.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from level_set_queries import queries
from rich.console import Console
from rich.table import Table

from exporters import write_bundle
from veriflow import Ball, Query, classified_as, network_query
from veriflow.piecewise.graph import Affine, Graph, Relu
from verify import reduce_query

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from form_readers import Files, Reader, files_of, readers

FORMS = ("onnx", "chain", "vnnlib", "vnnlib2", "marabou")

LEAST = 0.05
"""Processor seconds beyond its start that a tool must need, at least, for a ratio to mean anything."""


def tools() -> dict[str, Reader]:
    """The tools that are installed, on the forms that they read best."""
    found = readers()
    named: dict[str, Reader] = {}
    if ("marabou", "Marabou") in found:
        named["Marabou"] = found["marabou", "Marabou"]
    if ("vnnlib2", "vibecheck") in found:
        read = found["vnnlib2", "vibecheck"]
        named["vibecheck"] = read
        named["vibecheck:chain"] = lambda files, seconds: read({**files, "onnx": files["chain"]}, seconds)
    return named


def smallest() -> Query:
    """A query of one unit, which every tool decides at once: relu(x) > -1 for |x| ≤ 1."""
    one = np.ones((1, 1))
    nodes = (
        Affine("a", (("x", one),), np.zeros(1)),
        Relu("h", "a"),
        Affine("y", (("h", np.array([[1.0], [0.0]])),), np.array([1.0, 0.0])),
    )
    return network_query(Graph("x", 1, nodes, "y"), Ball(math.inf, 1.0, 1), classified_as(0))


def measured(read: Reader, files: Files, timeout: float) -> tuple[str, float]:
    """A tool's answer and the processor seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    word = read(files, timeout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return word, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def started(read: Reader, files: Files, runs: int = 3) -> float:
    """Processor seconds that a tool needs for a query of one unit, the median of some runs."""
    return statistics.median(measured(read, files, 60.0)[1] for _ in range(runs))


def ratio(plain: tuple[str, float], reduced: tuple[str, float], start: float) -> float | None:
    """Seconds on the reduced query over those on the plain one, without the start; None where that means nothing."""
    decided = {"sat", "unsat"}
    if plain[1] - start < max(LEAST, start / 10) or not decided & {plain[0], reduced[0]}:
        return None
    return max(reduced[1] - start, 0.0) / (plain[1] - start)


def main() -> None:
    """Print the table, the median ratios and whether any two answers differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="moons,cancer10,wine")
    parser.add_argument("--with", dest="tools", help="names of tools, separated by commas; all by default")
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    chosen = {name: read for name, read in tools().items() if options.tools is None or name in options.tools.split(",")}
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    raw: dict[str, list[float]] = {name: [] for name in chosen}
    table = Table("query", "ReLUs", "reduced in", *chosen)
    differ = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "smallest", {"one": smallest()}, forms=FORMS)
        start = {name: started(read, files_of(bundle, "one")) for name, read in chosen.items()}
        for asked in queries(options.sets.split(",")):
            name, query = asked.name, asked.query
            if "Linf" not in name:
                continue
            begun = time.process_time()
            reduction = reduce_query(query)
            seconds = time.process_time() - begun
            both = {"plain": query, "reduced": reduction.query}
            bundle = write_bundle(Path(folder) / "pair", both, forms=FORMS, bounds={"reduced": reduction.bounds})
            cells = []
            for tool, read in chosen.items():
                plain, reduced = (
                    measured(read, files_of(bundle, side), options.timeout) for side in ("plain", "reduced")
                )
                if {plain[0], reduced[0]} == {"sat", "unsat"}:
                    differ.append(f"{name} ({tool})")
                share = ratio(plain, reduced, start[tool])
                sides = [f"{word} {max(used - start[tool], 0):.2f}" for word, used in (plain, reduced)]
                cells.append(" → ".join(sides) + ("" if share is None else f" ({share:.2f})"))
                if share is not None:
                    ratios[tool].append(share)
                    raw[tool].append(reduced[1] / plain[1])
            row = (name, f"{reduction.relus[0]} → {reduction.relus[1]}", f"{seconds:.1f} s", *cells)
            table.add_row(*row)
            print(*row, sep=" | ", flush=True)
    Console(width=170).print(table)
    for tool, found in ratios.items():
        if found:
            print(
                f"{tool}: reduced / plain {statistics.median(found):.2f} (median of {len(found)}), with the start "
                f"{statistics.median(raw[tool]):.2f}; it starts in {start[tool]:.2f} s"
            )
    print("answers that differ:", ", ".join(differ) or "none")


if __name__ == "__main__":
    main()
