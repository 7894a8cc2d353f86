"""How each tool reads each form of a bundle, run on its files as a user would run it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import highspy

from veriflow.errors import SolverError, VeriflowError
from verify import Outcome, external_tool, verify
from verify.cli.question import ask_without_flow
from verify.tools.process import run_tool
from verify.tools.tool import Words

Files = dict[str, Path]
"""The files of one query, by key in the manifest."""

Reader = Callable[[Files, float], str]
"""From the files of a query and a time limit to sat, unsat, time or refused."""

EXACT = ("Z3", "cvc5")
"""Tools that compute in rationals: they are right about ties too."""

ONNX_FORMS = {"vnnlib 1.0 canonical": "onnx", "vnnlib 1.0 chain": "chain", "vnnlib 1.0 pair": "pair"}


def files_of(bundle: Path, name: str) -> Files:
    """The files of a bundle's query."""
    entry = json.loads((bundle / "manifest.json").read_text())["queries"][name]
    return {key: bundle / file["path"] for key, file in entry["files"].items()}


def has_form(files: Files, form: str) -> bool:
    """Whether the query has the form: not every query has an equivalent in every one."""
    return form in files or f"{form}.0" in files or form in ONNX_FORMS


def readers() -> dict[tuple[str, str], Reader]:
    """(Form, tool) → how the tool is run on it, for the tools that are installed."""
    return {**_veriflow(), **_marabou(), **_vibecheck(), **_smtlib(), **_highs()}


def _program(name: str) -> Path | None:
    try:
        return external_tool(name).program
    except SolverError as error:
        sys.stderr.write(f"{error}\n")
        return None


def _word_of(command: Words, seconds: float) -> str:
    """The first line of a tool's output that is an answer; "time" past its limit; else "refused"."""
    run = run_tool(command, timeout=seconds)
    found = re.search(r"^(sat|unsat|unknown|timed-out|timeout)\b", run.output, re.MULTILINE | re.IGNORECASE)
    if found and found.group(1).lower() in ("sat", "unsat"):
        return found.group(1).lower()
    refused = re.search(r"(not |un)supported", run.output + run.errors)
    return "time" if (found and not refused) or "time limit" in run.failure else "refused"


def _any_of(words: list[str]) -> str:
    """The answer for several disjuncts."""
    return next((word for word in ("sat", "refused", "time") if word in words), "unsat")


def _disjuncts(files: Files, form: str) -> list[Path]:
    return [path for key, path in files.items() if key.rpartition(".")[0] == form]


def _veriflow() -> dict[tuple[str, str], Reader]:
    def read(networks: list[str], spec: Path, seconds: float) -> str:
        try:
            queries = ask_without_flow(networks, str(spec))
        except VeriflowError:
            return "refused"
        outcomes = [verify(query, "milp", timeout=seconds).outcome for query in queries]
        words = {Outcome.VIOLATED: "sat", Outcome.HOLDS: "unsat", Outcome.UNKNOWN: "time"}
        return _any_of([words[outcome] for outcome in outcomes])

    found: dict[tuple[str, str], Reader] = {
        (form, "veriflow"): lambda f, s, n=network: read([str(f[n])], f["vnnlib"], s)
        for form, network in ONNX_FORMS.items()
    }
    found["vnnlib2", "veriflow"] = lambda f, s: read([str(f["onnx"])], f["vnnlib2"], s)
    found["vnnlib2-linear", "veriflow"] = lambda f, s: read([str(f["linear-onnx"])], f["vnnlib2-linear"], s)
    found["vnnlib2-networks", "veriflow"] = lambda f, s: read(
        [f"F={f['flow-onnx']}", f"N={f['network-onnx']}"], f["vnnlib2-networks"], s
    )
    return found


def _marabou() -> dict[tuple[str, str], Reader]:
    program = _program("marabou")
    if program is None:
        return {}
    options = ["--verbosity=0", "--no-merge-ws-layers"]
    found: dict[tuple[str, str], Reader] = {
        (form, "Marabou"): lambda f, s, n=network: _word_of([program, f[n], f["vnnlib"], *options], s)
        for form, network in ONNX_FORMS.items()
    }
    found["marabou", "Marabou"] = lambda f, s: _any_of(
        [_word_of([program, "--input-query", path, *options], s) for path in _disjuncts(f, "marabou")]
    )
    return found


def _vibecheck() -> dict[tuple[str, str], Reader]:
    program = _program("vibecheck")
    if program is None:
        return {}

    def read(spec: Path, networks: list[str], seconds: float) -> str:
        named = [word for network in networks for word in ("--network", network)]
        return _word_of([program, "verify", spec, *named], seconds)

    found: dict[tuple[str, str], Reader] = {
        (form, "vibecheck"): lambda f, s, n=network: read(f["vnnlib"], [f"N={f[n]}"], s)
        for form, network in ONNX_FORMS.items()
    }
    found["vnnlib2", "vibecheck"] = lambda f, s: read(f["vnnlib2"], [f"N={f['onnx']}"], s)
    found["vnnlib2-linear", "vibecheck"] = lambda f, s: read(f["vnnlib2-linear"], [f"N={f['linear-onnx']}"], s)
    found["vnnlib2-networks", "vibecheck"] = lambda f, s: read(
        f["vnnlib2-networks"], [f"F={f['flow-onnx']}", f"N={f['network-onnx']}"], s
    )
    return found


CVC5 = """
import sys, cvc5
solver = cvc5.Solver()
parser = cvc5.InputParser(solver)
parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, sys.argv[1])
symbols = parser.getSymbolManager()
while (command := parser.nextCommand()) and not command.isNull():
    print(command.invoke(solver, symbols), end="")
"""


def _smtlib() -> dict[tuple[str, str], Reader]:
    found: dict[tuple[str, str], Reader] = {}
    z3 = _program("smt:z3")
    for form in ("smtlib", "smtlib-plain"):
        if z3 is not None:
            found[form, "Z3"] = lambda f, s, k=form: _word_of([z3, f[k]], s)
        if find_spec("cvc5"):
            found[form, "cvc5"] = lambda f, s, k=form: _word_of([sys.executable, "-c", CVC5, f[k]], s)
    return found


def _highs() -> dict[tuple[str, str], Reader]:
    def read(path: Path, seconds: float) -> str:
        program = highspy.Highs()
        for name, value in (("output_flag", False), ("time_limit", seconds), ("threads", 1)):
            program.setOptionValue(name, value)
        if program.readModel(str(path)) == highspy.HighsStatus.kError:
            return "refused"
        program.setOptionValue("objective_target", -1e-6)
        program.run()
        info, status = program.getInfo(), program.getModelStatus()
        if info.primal_solution_status == 2 and info.objective_function_value <= 0:
            return "sat"
        done = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible)
        return "unsat" if status in done else "time"

    return {
        (form, "HiGHS"): lambda f, s, k=form: _any_of([read(path, s) for path in _disjuncts(f, k)])
        for form in ("mps", "lp")
    }
