"""Claim: `certify` closes every row of the demo's five features within 10 s; a single MILP does not do better.

The demo's models (classifier 2×16, flow of 2 blocks with conditioner 8, Laplace mixture base). The rival is one program
for HiGHS that minimises the norm of a violation in the ball of mass .99, with 60 s for each.
"""

from __future__ import annotations

import time

import torch
from highs_alone import solve_by_highs
from rich.console import Console
from rich.table import Table

from exporters import milp_model
from veriflow import Ball, TrainingOptions, classified_as, flow_query, never_confidently_wrong
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.from_torch import from_torch
from verify import certify
from verify.cli.demo.models import LABELS, load_data, train_class_model, train_classifier

LIMIT = 60.0


def main() -> None:
    """Print the table and the ratios."""
    torch.set_num_threads(1)
    data = load_data(features=5, seed=0)
    torch.manual_seed(0)
    network = from_torch(train_classifier(data.train, steps=200, progress=False), 5)
    table = Table("class", "property", "certified mass", "certify", "single MILP", "MILP / certify")
    late = 0
    for name, label in LABELS.items():
        torch.manual_seed(0)
        flow = train_class_model(name, data, TrainingOptions(), progress=False).flow
        for prop in (classified_as(label), never_confidently_wrong(label, 0.9), never_confidently_wrong(label, 0.99)):
            law = flow.base.law
            query = flow_query(flow, network, Ball(1, float(law.quantile(0.999)), flow.dim), prop)
            certificate = certify(query, timeout=LIMIT)
            late += not certificate.complete or certificate.seconds > 10
            whole = query.at(Ball(1, float(law.quantile(0.99)), flow.dim))
            start = time.monotonic()
            model = milp_model(whole, symbolic_bounds(whole.graph, whole.region), whole.violation[0], 0.0)
            answer = solve_by_highs(model, (model.norm, 1.0), time_limit=LIMIT)
            seconds = time.monotonic() - start
            closed = answer.ended
            table.add_row(
                name,
                prop.text,
                f"{certificate.certified_mass:.4f} to {certificate.refuted_mass:.4f}",
                f"{certificate.seconds:.2f} s" + ("" if certificate.complete else " (open)"),
                f"{seconds:.1f} s" + ("" if closed else " (open)"),
                f"{'' if closed else '>'}{seconds / certificate.seconds:.1f}",
            )
    Console(width=140).print(table)
    print("rows open or past 10 s:", late)


if __name__ == "__main__":
    main()
