"""Question: what does a flow made for proving lose in NLL, and how much faster is what is asked about it decided?

    python benchmarks/provable_flows.py [--sets moons,wine] [--seeds 3]

For each set and seed a flow is fitted to four fifths of the rows of a class. Variants are fitted with a penalty on unstable
ReLUs, or made of the fitted flow by `compress`, whose fine-tuning alone is one of them, to compare with. NLL is of the
fifth that nothing was fitted to. The base of every flow is fitted anew at the end, that of the first one too.

Solving time is compared on the same claim about both flows, "no point of the most probable set of mass q is confidently
taken for another class": on the latent ball of each flow that has mass q under its own base, fitted anew. A variant whose
latents are merely scaled wins nothing so. q is nearly as large as both can prove: 0.85 (moons: 0.5) of the norm of the
nearest violation that an attack finds and polishing draws in, of that flow in whose mass it is nearer. The mass at which
each flow is refuted is printed, and so is the share of unseen rows in the set of mass one half, which is what the mass
means on data.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from level_set_queries import data_sets
from models import classifier
from rich.console import Console
from rich.table import Table

from veriflow import Ball, Query, TrainingOptions, USFlow, compress, fit, flow_query, never_confidently_wrong
from veriflow.piecewise.graph import Graph
from veriflow.training.fit import split
from veriflow.training.proof_cost import proof_cost
from veriflow.training.recalibration import recalibrate
from verify import Outcome, verify_with
from verify.measures.local_search import polished
from verify.witness.attack import nearest_violation

LIMIT = 5.0
POLISHING = 1.0


@dataclass(frozen=True)
class Case:
    """Sizes of the flow and the classifier, what the penalty is, how near to violations is asked, and who else solves."""

    blocks: int
    hidden: int
    width: int
    mass: float
    stability: float
    rate: float
    share: float
    other: str


CASES = {
    "moons": Case(2, 8, 8, 0.5, 0.01, 5e-3, 0.5, "smt:cvc5"),
    "cancer10": Case(2, 16, 32, 0.1, 0.3, 2e-3, 0.85, "milp"),
    "wine": Case(2, 16, 32, 0.1, 3.0, 2e-3, 0.85, "milp"),
    "digits": Case(1, 32, 32, 0.1, 10.0, 2e-3, 0.85, "milp"),
}


def fitting(case: Case, stability: float = 0.0, seed: int = 0) -> TrainingOptions:
    """How all flows are fitted."""
    return TrainingOptions(
        steps=1500, learning_rate=case.rate, seed=seed, stability=stability, stability_mass=case.mass, patience=10
    )


def trained(case: Case, rows: np.ndarray, seed: int, stability: float = 0.0) -> USFlow:
    """A flow whose base is fitted anew at the end, as `compress` does."""
    torch.manual_seed(seed)
    flow = USFlow(rows.shape[1], blocks=case.blocks, hidden=(case.hidden,))
    options = fitting(case, stability, seed)
    fit(flow, rows, options, progress=False)
    recalibrate(flow, *split(flow, rows, options))
    return flow


def variants(case: Case, rows: np.ndarray, fitted: USFlow, seed: int) -> Iterator[tuple[str, Callable[[], USFlow]]]:
    """By name, how each flow is made."""

    def made(stability: float = 0.0, **options: float) -> USFlow:
        tuning = TrainingOptions(seed=seed, stability=stability, stability_mass=case.mass)
        return compress(fitted, rows, options=tuning, progress=False, **options)

    yield "tuned alone", lambda: made(keep=1.0)
    yield "stable", lambda: trained(case, rows, seed, case.stability)
    yield "stable afterwards", lambda: made(case.stability)
    yield "half of the weights", lambda: made(keep=0.5)
    yield "rank 1", lambda: made(rank=1)
    yield "8 bits", lambda: made(bits=8)
    yield "stable afterwards, half, 8 bits", lambda: made(case.stability, keep=0.5, bits=8)


@dataclass
class Asked:
    """A flow and what has been found out about it."""

    flow: USFlow
    network: Graph
    label: int
    refuted: float = field(init=False)
    answers: dict[tuple[float, str], tuple[Outcome, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = self.query(0.9999)
        nearest = nearest_violation(whole, whole.region)
        if nearest is not None:
            nearest = polished(whole, nearest, deadline=time.monotonic() + POLISHING)
        self.refuted = math.inf if nearest is None else nearest.norm

    def mass(self, radius: float) -> float:
        """Of the ball of a radius."""
        return float(self.flow.base.law.cdf(radius))

    def query(self, mass: float) -> Query:
        """The question on the most probable set of a mass."""
        ball = Ball(1, float(self.flow.base.law.quantile(mass)), self.flow.dim)
        return flow_query(self.flow, self.network, ball, never_confidently_wrong(self.label, 0.99))

    def solve(self, mass: float, solver: str) -> tuple[Outcome, float]:
        """The outcome and the seconds, asked once for each mass."""
        if (mass, solver) not in self.answers:
            verdict = verify_with(self.query(mass), [solver], timeout=LIMIT).verdict
            self.answers[mass, solver] = verdict.outcome, verdict.seconds
        return self.answers[mass, solver]


@dataclass
class Row:
    """The figures of a variant, one for each seed."""

    nll: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    unstable: list[int] = field(default_factory=list)
    relus: int = 0
    weights: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    refuted: list[float] = field(default_factory=list)
    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    open: int = 0
    differ: int = 0


def run(name: str, seeds: int) -> tuple[Case, dict[str, Row]]:
    """All variants of a set, on all seeds."""
    case, chosen = CASES[name], data_sets()[name]
    known = f"{name}-{case.width}"
    network = classifier(known, chosen.rows, chosen.classes, case.width, chosen.steps)
    rows = chosen.rows[chosen.classes == chosen.label]
    found: dict[str, Row] = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        fifth = len(rows) // 5
        unseen = torch.tensor(rows[order[:fifth]], dtype=torch.float32)
        train = rows[order[fifth:]]
        fitted = trained(case, train, seed)
        first = Asked(fitted, network, chosen.label)
        base = proof_cost(fitted, unseen, case.mass).nll
        for variant, make in [("as fitted", lambda flow=fitted: flow), *variants(case, train, fitted, seed)]:
            one = first if variant == "as fitted" else Asked(make(), network, chosen.label)
            row = found.setdefault(variant, Row())
            cost = proof_cost(one.flow, unseen, case.mass)
            row.nll.append(cost.nll)
            row.lost.append(cost.nll - base)
            row.unstable.append(cost.unstable)
            row.relus = cost.relus
            row.weights.append(cost.weights)
            row.bits.append(cost.bits)
            row.inside.append(float(one.flow.level_set(0.5).contains(unseen).float().mean()))
            row.refuted.append(one.mass(one.refuted))
            mass = min(0.99, *(flow.mass(case.share * flow.refuted) for flow in (first, one)))
            for solver in ("bab", case.other):
                before, after = (flow.solve(mass, solver) for flow in (first, one))
                row.open += (before[0] is Outcome.UNKNOWN) + (after[0] is Outcome.UNKNOWN)
                row.differ += {before[0], after[0]} == {Outcome.HOLDS, Outcome.VIOLATED}
                row.seconds.setdefault(solver, []).append((before[1], after[1]))
            print(name, seed, variant, f"NLL {cost.nll:.3f}", f"mass {mass:.3g}", one.answers, flush=True)
    return case, found


def table(name: str, case: Case, found: dict[str, Row]) -> Table:
    """Means of nats and shares, medians of the rest."""
    heads = ("variant", "NLL", "lost", "unstable", "weights", "bits", "inside .5", "refuted at")
    shown = Table(
        *heads, "bab", "won", case.other, "won", title=f"{name}: stability {case.stability:g} over mass {case.mass:g}"
    )
    for variant, row in found.items():
        cells = [f"{statistics.mean(row.nll):.2f}", f"{statistics.mean(row.lost):+.2f}"]
        cells += [f"{statistics.median(row.unstable):g} of {row.relus}", f"{statistics.median(row.weights):g}"]
        cells += [f"{statistics.median(row.bits):g}", f"{statistics.mean(row.inside):.2f}"]
        cells += [f"{statistics.median(row.refuted):.2g}"]
        for pairs in row.seconds.values():
            cells += [f"{statistics.median(after for _, after in pairs):.2f} s"]
            cells += [f"{statistics.median(before / after for before, after in pairs):.1f}"]
        shown.add_row(variant, *cells)
    return shown


def main() -> None:
    """Print one table for each set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, tables = time.monotonic(), []
    for name in options.sets.split(","):
        case, found = run(name, options.seeds)
        left = sum(row.open for row in found.values()), sum(row.differ for row in found.values())
        tables.append((table(name, case, found), f"open within {LIMIT:g} s: {left[0]}; other verdicts: {left[1]}"))
    for shown, line in tables:
        Console(width=150).print(shown)
        print(line)
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
