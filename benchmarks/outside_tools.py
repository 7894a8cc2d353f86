"""Claim: outside tools never contradict veriflow's verdicts on the demo's queries.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/outside_tools.py demo-output --with marabou,vibecheck

Takes the demo's output folder: its flows, its classifier, and the verdicts in its bundle's manifest. Each tool answers each
query through its adapter, one at a time, with a time limit; the ratio is the number of decided queries that agree over
those decided.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exporters import read_onnx
from veriflow import Ball, Query, flow_query, load_flow, parse_property
from verify import Outcome, solver, verify
from verify.cli.demo.files import BUNDLE, CLASSIFIER, flow_file
from verify.cli.demo.rows import CLAIMS


def query_named(folder: Path, name: str) -> Query:
    """The query that the demo's bundle calls ``CLASS-CLAIM-mass-NN`` or ``CLASS-CLAIM-mass-NN-box``."""
    label, _, rest = name.partition("-")
    key, _, mass = rest.removesuffix("-box").rpartition("-mass-")
    model = load_flow(folder / flow_file(label))
    claim = next(claim for claim in CLAIMS if claim.key == key)
    ball = Ball(model.base.p, model.level_set(int(mass) / 100).radius, model.dim)
    query = flow_query(model, read_onnx(folder / CLASSIFIER), ball, parse_property(claim.text(label)))
    return query.at(Ball(math.inf, query.region.radius, ball.dim)) if name.endswith("-box") else query


def main() -> None:
    """Print the table and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="what `veriflow demo` wrote")
    parser.add_argument("--with", dest="tools", default="marabou,vibecheck")
    parser.add_argument("--timeout", type=int, default=60)
    options = parser.parse_args()
    tools = options.tools.split(",")
    for name in tools:
        solver(name)
    queries = json.loads((options.folder / BUNDLE / "manifest.json").read_text())["queries"]
    table = Table("query", "veriflow", *tools)
    agree, decided = dict.fromkeys(tools, 0), dict.fromkeys(tools, 0)
    for name, entry in queries.items():
        query, ours, cells = query_named(options.folder, name), entry["verdict"], []
        for tool in tools:
            verdict = verify(query, tool, timeout=options.timeout)
            cells.append(f"{'open' if verdict.outcome is Outcome.UNKNOWN else verdict.outcome} {verdict.seconds:.1f} s")
            if verdict.outcome is not Outcome.UNKNOWN and ours != "unknown":
                decided[tool] += 1
                agree[tool] += verdict.outcome == ours
            elif verdict.outcome is Outcome.UNKNOWN:
                print(name, verdict.reason)
        table.add_row(name, ours, *cells)
        print(name, ours, *cells, flush=True)
    Console(width=120).print(table)
    for tool in tools:
        print(f"{tool}: {agree[tool]} of {decided[tool]} decided queries agree, {len(queries) - decided[tool]} open")


if __name__ == "__main__":
    main()
