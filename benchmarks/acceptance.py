"""Claim: tools read the forms of a bundle, and none of them says anything wrong about a query.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/acceptance.py

Small flow queries on two moons, Breast Cancer and digits, in both norms, at radii where veriflow's own engines decide them.
For each form a tool is run on the files of a bundle, as a user would: read and decided, read but out of time, refused, or
WRONG. The first figure is the share of the cells of form, tool and query that were read.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import highspy
import torch
from models import classifier, digits, flow, moons
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer

from exporters import FORMS, write_bundle
from veriflow import Ball, Query, classified_as, flow_query
from verify import Outcome, Verdict, external_tool, verify
from verify.attack import nearest_violation
from verify.external import Words
from verify.tool_process import run_tool

SHARES = (0.3, 1.1)
"""Radii as shares of the norm of the nearest violation that an attack finds: one that holds, one that is violated."""


def queries() -> list[tuple[str, Query, Verdict]]:
    """Name, query, and our verdict, for those that we decide."""
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
                    found.append((f"{name} L{p:g} {share}", query, ours))
    return found


Reader = Callable[[dict[str, Path], float], str]
"""From the files of a query and a time limit to sat, unsat, time or refused."""


def word_of(command: Words, seconds: float) -> str:
    """The first line of a tool's output that is an answer; "time" past its limit; else "refused"."""
    run = run_tool(command, timeout=seconds)
    found = re.search(r"^(sat|unsat|unknown|timed-out|timeout)\b", run.output, re.MULTILINE | re.IGNORECASE)
    if found and found.group(1).lower() in ("sat", "unsat"):
        return found.group(1).lower()
    refused = re.search(r"(not |un)supported", run.output + run.errors)
    return "time" if (found and not refused) or "time limit" in run.failure else "refused"


def any_of(words: list[str]) -> str:
    """The answer for several disjuncts."""
    return next((word for word in ("sat", "refused", "time") if word in words), "unsat")


def highs(files: dict[str, Path], form: str, seconds: float) -> str:
    """HiGHS on the programs of all disjuncts."""
    words = []
    for path in (path for key, path in files.items() if key.rpartition(".")[0] == form):
        program = highspy.Highs()
        for name, value in (("output_flag", False), ("time_limit", seconds), ("threads", 1)):
            program.setOptionValue(name, value)
        if program.readModel(str(path)) == highspy.HighsStatus.kError:
            words.append("refused")
            continue
        program.setOptionValue("objective_target", -1e-6)
        program.run()
        info, status = program.getInfo(), program.getModelStatus()
        if info.primal_solution_status == 2 and info.objective_function_value <= 0:
            words.append("sat")
        else:
            words.append("unsat" if status == highspy.HighsModelStatus.kOptimal else "time")
    return any_of(words)


def readers() -> dict[str, dict[str, Reader]]:
    """Form → tool → how the tool is run on it."""
    programs: dict[str, Path] = {}
    for name in ("smt:z3", "marabou", "vibecheck"):
        try:
            programs[name.removeprefix("smt:")] = external_tool(name).program
        except ValueError as error:
            print(error)
    onnx_forms = {"vnnlib 1.0 canonical": "onnx", "vnnlib 1.0 chain": "chain", "vnnlib 1.0 pair": "pair"}
    others = [form for form in FORMS if form not in ("onnx", "chain", "pair", "vnnlib")]
    found: dict[str, dict[str, Reader]] = {form: {} for form in (*onnx_forms, *others)}
    if "marabou" in programs:
        marabou = programs["marabou"]
        for form, network in onnx_forms.items():
            found[form]["Marabou"] = lambda f, s, n=network: word_of([marabou, f[n], f["vnnlib"], "--verbosity=0"], s)
        found["marabou"]["Marabou"] = lambda f, s: any_of(
            [
                word_of([marabou, "--input-query", path, "--verbosity=0"], s)
                for key, path in f.items()
                if key.startswith("marabou.")
            ]
        )
    if "vibecheck" in programs:
        check = [programs["vibecheck"], "verify"]
        for form, network in onnx_forms.items():
            found[form]["vibecheck"] = lambda f, s, n=network: word_of(
                [*check, f["vnnlib"], "--network", f"N={f[n]}"], s
            )
        found["vnnlib2"]["vibecheck"] = lambda f, s: word_of([*check, f["vnnlib2"], "--network", f"N={f['onnx']}"], s)
        found["vnnlib2-linear"]["vibecheck"] = lambda f, s: word_of(
            [*check, f["vnnlib2-linear"], "--network", f"N={f['linear-onnx']}"], s
        )
        found["vnnlib2-networks"]["vibecheck"] = lambda f, s: word_of(
            [*check, f["vnnlib2-networks"], *two(f["flow-onnx"], f["network-onnx"])], s
        )
    for form in ("smtlib", "smtlib-plain"):
        if "z3" in programs:
            found[form]["Z3"] = lambda f, s, k=form: word_of([programs["z3"], f[k]], s)
        found[form]["cvc5"] = lambda f, s, k=form: cvc5_word(f[k], s)
    for form in ("mps", "lp"):
        found[form]["HiGHS"] = lambda f, s, k=form: highs(f, k, s)
    return found


def two(first: Path, second: Path) -> Words:
    """The options that name two networks."""
    return ["--network", f"F={first}", "--network", f"N={second}"]


CVC5 = """
import sys, cvc5
solver = cvc5.Solver()
parser = cvc5.InputParser(solver)
parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, sys.argv[1])
symbols = parser.getSymbolManager()
while (command := parser.nextCommand()) and not command.isNull():
    print(command.invoke(solver, symbols), end="")
"""


def cvc5_word(path: Path, seconds: float) -> str:
    """cvc5's own parser and solver, from its Python package, in a process that can be killed."""
    return word_of([sys.executable, "-c", CVC5, path], seconds)


def main() -> None:
    """Print the table, the share of readable cells and whether any verdict was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, default=30.0)
    options = parser.parse_args()
    counts: dict[tuple[str, str], Counter[str]] = {}
    asked = queries()
    table = Table("form", "tool", "decided", "time", "refused", "WRONG", "no such form")
    with tempfile.TemporaryDirectory() as folder:
        names = {name: re.sub(r"\W", "-", name) for name, _, _ in asked}
        bundle = write_bundle(Path(folder) / "all", {names[n]: q for n, q, _ in asked}, forms=tuple(FORMS))
        for name, _, ours in asked:
            print(f"{name}: {ours.outcome} ({ours.reason})", flush=True)
            files = files_of(bundle, names[name])
            truth = "sat" if ours.outcome is Outcome.VIOLATED else "unsat"
            for form, tools in readers().items():
                for tool, read in tools.items():
                    count = counts.setdefault((form, tool), Counter())
                    if form not in files and f"{form}.0" not in files and not form.startswith("vnnlib 1.0"):
                        count["none"] += 1
                        continue
                    word = read(files, options.timeout)
                    right = {truth: "decided", "time": "time", "refused": "refused"}
                    count[right.get(word, "WRONG")] += 1
                    print(f"  {form}, {tool}: {word}", flush=True)
    for (form, tool), count in counts.items():
        table.add_row(form, tool, *(str(count[key]) for key in ("decided", "time", "refused", "WRONG", "none")))
    Console(width=120).print(table)
    total = Counter()
    for count in counts.values():
        total += count
    cells = sum(total.values()) - total["none"]
    print(f"read: {cells - total['refused']} of {cells} cells, {1 - total['refused'] / cells:.0%}")
    print("no wrong verdict" if not total["WRONG"] else f"WRONG verdicts: {total['WRONG']}")


def files_of(bundle: Path, name: str) -> dict[str, Path]:
    """The files of one query, by key in the manifest."""
    entry = json.loads((bundle / "manifest.json").read_text())["queries"][name]
    return {key: bundle / file["path"] for key, file in entry["files"].items()}


if __name__ == "__main__":
    main()
