"""Claim: in many dimensions more mass can be certified on a trimmed set than on the level set, in the same time.

    python benchmarks/trimmed_sets.py --sets wine:0,cancer30:1 --seconds 5

Flows of 2 blocks with an L1 base (on digits 1), classifiers 2×32, and the property that the class is never taken for
another with probability 0.99 or more. For each limit of latent coordinates the radius is bisected, and each ball decided by
the bab engine with the same time limit. Certified is the mass of the largest ball on which it proves the property, refuted
the mass of the smallest in which it finds a violation.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import torch
from level_set_queries import data_sets
from models import classifier, flow
from rich.console import Console
from rich.table import Table

from veriflow import Ball, Query, flow_query, never_confidently_wrong
from veriflow.density.ball_mass import ball_mass
from verify import verify

WITHIN = (1.0, 0.9, 0.7, 0.5, 0.3)
"""Limits, as shares of samples within; the first is the level set itself."""

HALVINGS = 7


def radii(query: Query, seconds: float) -> tuple[float, float]:
    """The largest radius found to be proved and the smallest found to be refuted."""
    ball, proved, refuted = query.region, 0.0, math.inf
    low, high = math.log(ball.radius / 100), math.log(ball.radius)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        radius = math.exp(middle)
        verdict = verify(query.at(replace(ball, radius=radius)), "bab", timeout=seconds)
        proved = radius if verdict.holds else proved
        refuted = verdict.witness.norm if verdict.violated else refuted
        low, high = (middle, high) if verdict.holds else (low, middle)
        high = min(high, math.log(refuted)) if verdict.violated else high
    return proved, refuted


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="wine:0,wine:1,wine:2,cancer30:1,digits:3", help="NAME:CLASS, …")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        "flow", "limit", "samples within", "proved radius", "certified mass", "refuted mass", "certified / pure"
    )
    for each in options.sets.split(","):
        name, label = each.partition(":")[0], int(each.partition(":")[2])
        chosen = replace(data_sets()[name], label=label)
        network = classifier(chosen.network, chosen.rows, chosen.classes, steps=chosen.steps)
        rows = chosen.rows[chosen.classes == chosen.label]
        model = flow(f"{name}-class{chosen.label}", rows, 1, blocks=chosen.blocks[0], hidden=chosen.hidden)
        whole = Ball(1, float(model.base.law.quantile(0.999)), model.dim)
        query = flow_query(model, network, whole, never_confidently_wrong(chosen.label, 0.99))
        torch.manual_seed(0)
        largest = model.base.sample(torch.Size([20_000])).abs().amax(-1).double()
        pure = math.nan
        for share in WITHIN:
            limit = math.inf if share == 1 else float(largest.quantile(share))
            proved, refuted = radii(query.at(replace(whole, limit=limit)), options.seconds)
            certified = ball_mass(model.base, replace(whole, radius=proved, limit=limit)).value
            least = 1.0
            if refuted < math.inf:
                least = ball_mass(model.base, replace(whole, radius=refuted, limit=limit)).value
            pure = certified if share == 1 else pure
            cells = [f"{limit:.3g}", f"{share:g}", f"{proved:.3f}", f"{certified:.3g}", f"{least:.3g}"]
            table.add_row(
                f"{name}, class {label}, {model.dim} dimensions",
                *cells,
                f"{certified / pure if pure else math.nan:.2f}",
            )
            print(each, *cells, flush=True)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
