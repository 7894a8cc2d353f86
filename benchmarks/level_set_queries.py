"""Claim: the milp engine decides every two-moons query within 5 s and digits L1 0.5 within 1 s; no engine is wrong.

Queries on ``classifier ∘ flow`` at multiples of the norm of the nearest violation that an attack finds. Every engine
answers every query, alone, in this process or one of its own, with 60 s for each; ``level_set_queries.py bab milp`` asks
these two alone.
"""

from __future__ import annotations

import math
import sys

import torch
from models import classifier, digits, flow, moons
from rich.console import Console
from rich.table import Table

from veriflow import Ball, Query, classified_as, flow_query
from veriflow.piecewise import symbolic_bounds
from verify import ENGINES, Outcome, verify
from verify.attack import nearest_violation

TIMEOUT = 60.0


def queries() -> list[tuple[str, float, Query]]:
    """Name, limit in seconds for milp, query."""
    torch.set_num_threads(1)
    found = []
    x, y = moons()
    network = classifier("moons-32", x, y)
    for p in (1, math.inf):
        model = flow("moons-class1", x[y == 1], p, blocks=3, hidden=16)
        for share in (0.5, 0.85, 1.1):
            found.append((f"moons L{p:g} {share}", 5.0, at_share(model, network, p, 1, share)))
    x, y = digits()
    network = classifier("digits-32", x, y, steps=200)
    model = flow("digits-class3", x[y == 3], 1, blocks=2, hidden=32)
    found += [
        (f"digits L1 {share}", 1.0 if share == 0.5 else math.inf, at_share(model, network, 1, 3, share))
        for share in (0.5, 0.85, 1.1)
    ]
    return found


def at_share(model, network, p, label, share) -> Query:
    """The query "classified as label" at a share of the attack radius."""
    out = flow_query(model, network, Ball(p, float(model.base.law.quantile(0.9999)), model.dim), classified_as(label))
    nearest = nearest_violation(out, out.region)
    assert nearest is not None, "the attack finds no violation to measure radii by"
    return out.at(Ball(p, share * nearest.norm, model.dim))


def main() -> None:
    """Print the table and the ratios."""
    engines = sys.argv[1:] or [name for name, info in ENGINES.items() if info.version]
    table = Table("query", "unstable ReLUs", *engines, f"{engines[-1]} / {engines[0]}")
    wrong, late = [], []
    for name, limit, query in queries():
        verdicts = {engine: verify(query, engine, timeout=TIMEOUT) for engine in engines}
        decided = {v.outcome for v in verdicts.values()} - {Outcome.UNKNOWN}
        if len(decided) > 1:
            wrong.append(name)
        if limit < math.inf and (verdicts["milp"].outcome is Outcome.UNKNOWN or verdicts["milp"].seconds > limit):
            late.append(f"{name} ({verdicts['milp'].seconds:.1f} s)")
        bounds = symbolic_bounds(query.graph, query.region)
        cells = [f"{v.outcome} {v.seconds:.2f} s" for v in verdicts.values()]
        last = verdicts[engines[-1]]
        ratio = last.seconds / verdicts[engines[0]].seconds
        open_end = ">" if last.outcome is Outcome.UNKNOWN else ""
        table.add_row(
            name, f"{bounds.unstable(query.graph)} of {query.graph.relu_count}", *cells, f"{open_end}{ratio:.1f}"
        )
        print(name, *cells, flush=True)
    Console(width=140).print(table)
    print("disagreements:", ", ".join(wrong) or "none")
    print("milp past its limit (moons 5 s, digits L1 0.5 1 s):", ", ".join(late) or "none")


if __name__ == "__main__":
    main()
