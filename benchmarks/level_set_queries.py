"""Claim: on queries over level sets nothing else is as fast as the bab engine, and no engine is wrong.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/level_set_queries.py [bab milp marabou …] [--sets moons,digits]

Queries on ``classifier ∘ flow`` at multiples of the norm of the nearest violation that three attacks find and polish. Every
solver answers every query, alone, one thread, in this process or one of its own, with the same time limit. Answers are
kept in benchmarks/cache with their query, solver and limit, so that a run that was stopped goes on; ``--afresh bab,milp``
asks these again. A solver that leaves the ball of .5 open is not asked about that of .85, which contains it; one open at
all radii of one flow is not asked about deeper flows of that set and norm.
The ratio compares the first solver with each other one, and with the fastest of them, where both decide.

The sets with images of MNIST are there where VERIFLOW_SHARED_DATA names a folder with ``mnist/mnist.npz``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from highs_alone import verify_by_highs
from models import CACHE, classifier, digits, flow, moons
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_wine

from exporters import query_to_bytes
from veriflow import Ball, Query, classified_as, flow_query
from veriflow.files.whole_files import write_atomically
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.runtime.threads import one_thread
from verify import ENGINES, Outcome, Verdict, found_tools, verify_with
from verify.measures.local_search import polished
from verify.witness.attack import nearest_violation

HIGHS = "highs"
SHARES = (0.5, 0.85, 1.1)
ATTACKS, POLISHING = 3, 60.0
ANSWERS = CACHE / "level_set_queries.json"
PICTURE = Path("docs/level_set_queries.svg")


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
    width: int = 32


def images(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of MNIST, the first 20,000, as ``side``² means of pixels between 0 and 255, dequantised by uniform noise."""
    with np.load(Path(os.environ["VERIFLOW_SHARED_DATA"]) / "mnist" / "mnist.npz") as file:
        x, y = file["x_train"][:20_000].astype(np.float64), file["y_train"][:20_000]
    block = 28 // side
    x = x.reshape(-1, side, block, side, block).mean((2, 4)).reshape(len(x), -1)
    return x + np.random.default_rng(0).uniform(0, 1, x.shape), y


def data_sets() -> dict[str, DataSet]:
    """The suite."""
    cancer, wine = load_breast_cancer(), load_wine()
    sets = {
        "moons": DataSet(*moons(), 1, (1, 3, 6), 16, "moons-32"),
        "cancer10": DataSet(cancer.data[:, :10], cancer.target, 1, (2, 4), 16, "cancer10-32"),
        "cancer30": DataSet(cancer.data, cancer.target, 1, (2, 4), 16, "cancer30-32"),
        "wine": DataSet(wine.data, wine.target, 1, (2,), 16, "wine-32"),
        "digits": DataSet(*digits(), 3, (1, 2, 4), 32, "digits-32", 200),
    }
    if (Path(os.environ.get("VERIFLOW_SHARED_DATA", "no such folder")) / "mnist" / "mnist.npz").exists():
        for side in (14, 28):
            sets[f"mnist{side}"] = DataSet(*images(side), 3, (1,), 32, f"mnist{side}-64", 200, 64)
    return sets


@dataclass(frozen=True)
class Asked:
    """A query of the suite: whose flow, of how many blocks, at which share of the radius of the nearest violation."""

    group: str
    blocks: int
    p: float
    share: float
    query: Query

    @property
    def name(self) -> str:
        """Which one it is."""
        return f"{self.group} {self.blocks} L{self.p:g} {self.share}"


def queries(names: list[str]) -> Iterator[Asked]:
    """Those of some sets, for both norms and all radii."""
    torch.set_num_threads(1)
    for name, chosen in data_sets().items():
        if name not in names:
            continue
        network = classifier(chosen.network, chosen.rows, chosen.classes, chosen.width, chosen.steps)
        rows = chosen.rows[chosen.classes == chosen.label]
        for blocks in chosen.blocks:
            for p in (1, math.inf):
                model = flow(f"{name}-class{chosen.label}", rows, p, blocks=blocks, hidden=chosen.hidden)
                widest = Ball(p, float(model.base.law.quantile(0.9999)), model.dim)
                whole = flow_query(model, network, widest, classified_as(chosen.label))
                norm = attack_radius(whole, widest)
                for share in SHARES if norm is not None else ():
                    yield Asked(name, blocks, p, share, whole.at(Ball(p, share * norm, model.dim)))
                if norm is None:
                    print(f"{name} {blocks} L{p:g}: the attack finds no violation to measure radii by")


def kept(path: Path) -> dict:
    """What an earlier run left."""
    return json.loads(path.read_text()) if path.exists() else {}


def attack_radius(query: Query, ball: Ball) -> float | None:
    """The norm of the nearest violation that attacks find and polishing draws in, found once."""
    path = CACHE / "attack_radii.json"
    known, name = kept(path), fingerprint(query)
    if name not in known:
        found = [nearest_violation(query, ball, seed=1000 * attack) for attack in range(ATTACKS)]
        near = [polished(query, one, deadline=time.monotonic() + POLISHING) for one in found if one is not None]
        known[name] = min((one.norm for one in near), default=None)
        write_atomically(path, json.dumps(known).encode())
    return known[name]


def fingerprint(query: Query) -> str:
    """The same for the same query alone."""
    return hashlib.sha256(query_to_bytes(query)).hexdigest()[:16]


def verify_with_one(query: Query, solver: str, timeout: float) -> Verdict:
    """The verdict of one of the project's solvers or of an outside tool."""
    return verify_with(query, [solver], timeout=timeout).verdict


def highs(query: Query, solver: str, timeout: float) -> Verdict:
    """The verdict of HiGHS alone."""
    with one_thread():
        return verify_by_highs(query, timeout)


def answer(query: Query, solver: str, timeout: float, afresh: bool) -> tuple[str, float]:
    """Outcome and seconds, asked now or taken from an earlier run."""
    known, key = kept(ANSWERS), f"{fingerprint(query)} {solver} {timeout:g}"
    if afresh or key not in known:
        ask = highs if solver == HIGHS else verify_with_one
        verdict = ask(query, solver, timeout)
        known = kept(ANSWERS)  # another run may have written meanwhile
        known[key] = [str(verdict.outcome), verdict.seconds]
        write_atomically(ANSWERS, json.dumps(known).encode())
    return tuple(known[key])


def unstable_share(query: Query) -> str:
    """How many ReLU units symbolic bounds leave unstable over the region."""
    bounds = symbolic_bounds(query.graph, query.region)
    return f"{bounds.unstable(query.graph)} of {query.graph.relu_count}"


def installed() -> list[str]:
    """bab, HiGHS, and every other engine and tool that is found."""
    engines = [name for name, info in ENGINES.items() if name != "bab" and info.version is not None]
    tools = [name for name, _, tool in found_tools() if tool is not None and not name.startswith("smt")]
    return ["bab", HIGHS, *engines, *tools]


class GivenUp:
    """Which queries solvers left open, and which others they are spared therefore."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str, float, int], set[float]] = {}

    def __call__(self, solver: str, asked: Asked) -> bool:
        """Whether to spare the solver this query."""
        here = (solver, asked.group, asked.p)
        if asked.share == SHARES[1] and SHARES[0] in self.open.get((*here, asked.blocks), ()):
            self.note(solver, asked, Outcome.UNKNOWN)
            return True
        return any(self.open.get((*here, blocks)) == set(SHARES) for blocks in range(asked.blocks))

    def note(self, solver: str, asked: Asked, outcome: str) -> None:
        """Remember an answer."""
        if outcome == Outcome.UNKNOWN:
            self.open.setdefault((solver, asked.group, asked.p, asked.blocks), set()).add(asked.share)


def main() -> None:
    """Print the table, how many each solver decides, and the ratios; draw the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("solvers", nargs="*", default=installed(), help="those that are installed, where none is named")
    parser.add_argument("--sets", default=",".join(data_sets()))
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--afresh", default="", help="solvers whose kept answers are not taken")
    options = parser.parse_args()
    table = Table("query", "unstable ReLUs", *options.solvers)
    times: dict[str, dict[str, float]] = {solver: {} for solver in options.solvers}
    given_up, count, wrong = GivenUp(), 0, []
    for asked in queries(options.sets.split(",")):
        cells, outcomes = [], set()
        for solver in options.solvers:
            if given_up(solver, asked):
                cells.append("not asked")
                continue
            outcome, seconds = answer(asked.query, solver, options.timeout, solver in options.afresh.split(","))
            given_up.note(solver, asked, outcome)
            cells.append(f"{outcome} {seconds:.2f} s")
            if outcome != Outcome.UNKNOWN:
                outcomes.add(outcome)
                times[solver][asked.name] = seconds
        count += 1
        wrong += [asked.name] if len(outcomes) > 1 else []
        table.add_row(asked.name, unstable_share(asked.query), *cells)
        print(asked.name, *cells, flush=True)
    Console(width=60 + 18 * len(options.solvers)).print(table)
    first, *others = options.solvers
    draw(times, count, options.timeout)
    if len(others) > 1:
        names = {name for other in others for name in times[other]}
        times["the fastest other"] = {n: min(times[o][n] for o in others if n in times[o]) for n in names}
    for solver, seconds in times.items():
        line = f"{solver}: {len(seconds)} of {count} decided"
        both = [(seconds[name], times[first][name]) for name in seconds if name in times[first]]
        if solver != first and both:
            theirs, ours = (statistics.median(column) for column in zip(*both, strict=True))
            ratio = statistics.median(a / b for a, b in both)
            line += f"; on {len(both)} that {first} decides too: median {theirs:.2f} s, {first} {ours:.2f} s, ratio of "
            line += f"medians {theirs / ours:.1f}, median of ratios {ratio:.1f}; "
            line += f"{len(seconds) - len(both)} that {first} does not decide"
        print(line)
    print("disagreements:", ", ".join(wrong) or "none")


def draw(times: dict[str, dict[str, float]], count: int, timeout: float) -> None:
    """How many queries each solver decides within how many seconds."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for solver, seconds in times.items():
        ordered = sorted(seconds.values())
        axes.step([1e-3, *ordered, timeout], [0, *range(1, len(ordered) + 1), len(ordered)], where="post", label=solver)
    axes.set(xscale="log", xlim=(1e-2, timeout), ylim=(0, count), xlabel="seconds for each", ylabel="queries decided")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE)
    print("picture:", PICTURE)


if __name__ == "__main__":
    main()
