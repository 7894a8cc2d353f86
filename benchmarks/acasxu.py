"""Claim: veriflow decides the ACAS Xu benchmark of the verification competitions, none wrongly.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/acasxu.py FOLDER [--timeout 116] [--marabou 20]

FOLDER holds the networks, properties, ``acasxu_instances.csv`` and ``expected_results.csv`` (verdicts known from
competitions). As many instances run at a time as there are processors, each in one process of one thread. With
``--marabou N`` N instances, evenly chosen, are given to Marabou too, under the same conditions.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exporters import read_onnx, read_vnnlib
from veriflow.queries.restriction import specification_queries
from verify import Outcome, verify_all

Instance = tuple[str, str]
"""Network and property file."""

ANSWERS = {Outcome.VIOLATED: "sat", Outcome.HOLDS: "unsat", Outcome.UNKNOWN: "open"}


def answer(instance: Instance, *, folder: Path, engine: str, timeout: float) -> tuple[str, float]:
    """sat, unsat or open, and the seconds of wall time: a property of several boxes is sat where one of them is."""
    queries = specification_queries([read_onnx(folder / instance[0])], read_vnnlib(folder / instance[1]))
    verdict = verify_all(queries, [engine], timeout=timeout).verdict
    return ANSWERS[verdict.outcome], verdict.seconds


def main() -> None:
    """Print what was decided for each property, and the ratio to Marabou's median time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=116.0)
    parser.add_argument("--marabou", metavar="N", type=int, default=0, help="how many instances Marabou gets too")
    options = parser.parse_args()
    folder: Path = options.folder
    with (folder / "acasxu_instances.csv").open() as file:
        instances = [(row[0], row[1]) for row in csv.reader(file)]
    with (folder / "expected_results.csv").open() as file:
        known = {(Path(r["onnx"]).name, Path(r["vnnlib"]).name): r["result"] for r in csv.DictReader(file)}
    chosen = instances[:: max(1, len(instances) // options.marabou)][: options.marabou] if options.marabou else []
    run = partial(answer, folder=folder, timeout=options.timeout)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        ours = dict(
            zip(instances, report(pool.map(partial(run, engine="bab"), instances), instances, known), strict=True)
        )
        theirs = dict(zip(chosen, pool.map(partial(run, engine="marabou"), chosen), strict=True))
    table = Table("property", "instances", "decided", "WRONG", "median s", "longest s")
    total: Counter[str] = Counter()
    for name in dict.fromkeys(name for _, name in instances):
        group = {i: ours[i] for i in instances if i[1] == name}
        decided = [seconds for word, seconds in group.values() if word != "open"]
        wrong = sum(is_wrong(i, word, known) for i, (word, _) in group.items())
        total.update(instances=len(group), decided=len(decided), wrong=wrong)
        times = (f"{statistics.median(decided):.2f}", f"{max(decided):.1f}") if decided else ("", "")
        table.add_row(name, str(len(group)), str(len(decided)), str(wrong), *times)
    Console(width=100).print(table)
    print(f"decided {total['decided']} of {total['instances']} in {options.timeout:g} s each, {total['wrong']} wrong")
    print(f"median {statistics.median(seconds for _, seconds in ours.values()):.2f} s")
    if theirs:
        mine = [ours[i][1] for i in chosen]
        other = [seconds for _, seconds in theirs.values()]
        wrong = sum(is_wrong(i, word, known) for i, (word, _) in theirs.items())
        left = sum(word == "open" for word, _ in theirs.values())
        first, second = statistics.median(mine), statistics.median(other)
        print(f"on {len(chosen)} of them: veriflow {first:.2f} s, Marabou {second:.2f} s ({left} open, {wrong} wrong)")
        print(f"median Marabou / veriflow: {second / first:.1f}")


def is_wrong(instance: Instance, word: str, known: dict[Instance, str]) -> bool:
    """Whether the answer contradicts the known one."""
    return word != "open" and known.get(instance) in ("sat", "unsat") and known[instance] != word


def report(answers, instances: list[Instance], known: dict[Instance, str]):
    """The answers, each printed as it comes."""
    for instance, (word, seconds) in zip(instances, answers, strict=True):
        print(f"{instance[0]} {instance[1]} {word} {seconds:.2f} s, known: {known.get(instance)}", flush=True)
        yield word, seconds


if __name__ == "__main__":
    main()
