"""Claim: tools read the forms of a bundle, and none of them says anything wrong about a query.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/acceptance.py [--corpus] [--tools Marabou,Z3] [--every 10]

Small flow queries on two moons, Breast Cancer and digits, in both norms, at radii where veriflow's own engines decide them;
with ``--corpus`` the queries of ``tests/support/corpus``, whose truth is known by enumeration. For each form a tool is run
on the files of a bundle, as a user would: read and decided, read but out of time, refused, or WRONG. The first figure is the
share of the cells of form, tool and query that were read.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from collections import Counter
from importlib import import_module
from pathlib import Path

import torch
from models import classifier, digits, flow, moons
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from tqdm import tqdm

from exporters import FORMS, write_bundle
from veriflow import Ball, Query, classified_as, flow_query
from verify import Outcome, verify
from verify.witness.attack import nearest_violation

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from form_readers import EXACT, files_of, has_form, readers

SHARES = (0.3, 1.1)
"""Radii as shares of the norm of the nearest violation that an attack finds: one that holds, one that is violated."""

Asked = tuple[str, Query, str, bool]
"""Name, query, sat or unsat, and whether that is so clearly that tools which compute in floats must be right."""


def flow_queries() -> list[Asked]:
    """Those that we decide."""
    torch.set_num_threads(1)
    moon, moon_class = moons()
    cancer = load_breast_cancer()
    cells, cell_class = cancer.data[:, :5], cancer.target
    image, digit = digits()
    sets = (
        ("moons", classifier("moons-8", moon, moon_class, width=8), moon[moon_class == 1], 1, 1, 4),
        ("cancer", classifier("cancer-8", cells, cell_class, width=8), cells[cell_class == 1], 1, 1, 4),
        ("digits", classifier("digits-8", image, digit, width=8, steps=200), image[digit == 3], 3, 1, 8),
    )
    found = []
    for name, network, rows, label, blocks, hidden in sets:
        for p in (1, math.inf):
            model = flow(f"{name}-small-class{label}", rows, p, blocks=blocks, hidden=hidden, steps=500)
            widest = Ball(p, float(model.base.law.quantile(0.9999)), model.dim)
            whole = flow_query(model, network, widest, classified_as(label))
            nearest = nearest_violation(whole, widest)
            radius = widest.radius if nearest is None else nearest.norm
            for share in SHARES:
                query = whole.at(Ball(p, share * radius, model.dim))
                ours = verify(query, "milp", timeout=60)
                if ours.outcome is not Outcome.UNKNOWN:
                    truth = "sat" if ours.outcome is Outcome.VIOLATED else "unsat"
                    found.append((f"{name} L{p:g} {share}", query, truth, True))
    return found


def corpus_queries() -> list[Asked]:
    """All of the corpus."""
    corpus = import_module("corpus")
    asked = ((name, corpus.query(name), truth) for name, truth in corpus.truths().items())
    return [
        (name, query, "sat" if truth.violated else "unsat", not (truth.near or corpus.is_thin(query)))
        for name, query, truth in asked
    ]


def main() -> None:
    """Print the table, the share of readable cells and whether any verdict was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--corpus", action="store_true", help="the queries of tests/support/corpus")
    parser.add_argument("--tools", help="names of tools, separated by commas; all by default")
    parser.add_argument("--every", metavar="N", type=int, default=1, help="every n-th query only")
    options = parser.parse_args()
    tools = {
        key: read for key, read in readers().items() if options.tools is None or key[1] in options.tools.split(",")
    }
    counts = {key: Counter[str]() for key in tools}
    asked = (corpus_queries() if options.corpus else flow_queries())[:: options.every]
    with tempfile.TemporaryDirectory() as folder:
        names = {name: re.sub(r"\W", "-", name) for name, *_ in asked}
        bundle = write_bundle(Path(folder) / "all", {names[n]: q for n, q, *_ in asked}, forms=tuple(FORMS))
        for name, _, truth, clear in tqdm(asked, unit="query"):
            files = files_of(bundle, names[name])
            for key, read in tools.items():
                word = outcome(key, read(files, options.timeout), truth, clear) if has_form(files, key[0]) else "none"
                counts[key][word] += 1
                if word in ("WRONG", "refused"):
                    tqdm.write(f"{name}: {key[1]} on {key[0]}: {word}")
    columns = ("decided", "tie", "time", "refused", "WRONG", "none")
    table = Table("form", "tool", *columns[:-1], "no such form")
    for (form, tool), count in counts.items():
        table.add_row(form, tool, *(str(count[key]) for key in columns))
    Console(width=120).print(table)
    total = sum(counts.values(), Counter[str]())
    cells = total.total() - total["none"]
    print(f"read: {cells - total['refused']} of {cells} cells, {1 - total['refused'] / cells:.0%}")
    print("no wrong verdict" if not total["WRONG"] else f"WRONG verdicts: {total['WRONG']}")


def outcome(key: tuple[str, str], word: str, truth: str, clear: bool) -> str:
    """What a tool's word is worth: decided, time, refused or WRONG; "tie" for the other answer where floats cannot tell."""
    if word in ("time", "refused"):
        return word
    if word == truth:
        return "decided"
    return "WRONG" if clear or key[1] in EXACT else "tie"


if __name__ == "__main__":
    main()
