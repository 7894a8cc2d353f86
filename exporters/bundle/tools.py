"""Outside tools: which files they read, the commands that run them on these, and the README of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from veriflow.errors import QueryError
from veriflow.wording import perhaps

DEFAULT_FORMS = ("onnx", "double", "chain", "vnnlib", "vnnlib2", "smtlib")
"""What a bundle holds unless told otherwise."""

FORMS: Mapping[str, tuple[str, str]] = {
    "onnx": ("onnx/NAME.onnx", "the network as Gemm, Relu and Add"),
    "double": ("onnx/NAME.double.onnx", "the same in float64, where constants are no float32 numbers"),
    "chain": ("onnx/NAME.chain.onnx", "the same as a pure chain without skips, equal to it inside the input box only"),
    "pair": ("onnx/NAME.pair.onnx", "the same as a pure chain with twice the units where it skips, equal everywhere"),
    "vnnlib": ("vnnlib/NAME.vnnlib", "the query on any of these networks, VNN-LIB 1.0"),
    "vnnlib2": ("vnnlib/NAME.v2.vnnlib", "the same, VNN-LIB 2.0"),
    "vnnlib2-linear": (
        "vnnlib/NAME.linear.vnnlib",
        "VNN-LIB 2.0 on onnx/NAME.linear.onnx, an L1 ball of at most 6 dimensions as linear input constraints",
    ),
    "vnnlib2-networks": (
        "vnnlib/NAME.networks.vnnlib",
        "VNN-LIB 2.0 on two networks, F = onnx/NAME.flow.onnx and N = onnx/NAME.network.onnx",
    ),
    "smtlib": (
        "smtlib/NAME.smt2",
        "the query itself, SMT-LIB 2 (QF_LRA), exact rationals, with proven bounds as facts",
    ),
    "smtlib-plain": ("smtlib/NAME.plain.smt2", "the same without the facts"),
    "mps": ("milp/NAME.K.mps", "the K-th way to violate the property, as a program that minimises minus its slack"),
    "lp": ("milp/NAME.K.lp", "the same, in LP format"),
    "marabou": (
        "marabou/NAME.K.ipq",
        "the K-th way to violate the property, as an input query of Marabou, widened by what products in floats change",
    ),
}
"""Form → its file in a bundle, and what it is. There is one K, from zero, for each disjunct of the violation."""


Words = list[str]
"""A command: a program and its arguments."""


@dataclass(frozen=True)
class Tool:
    """An outside tool: what it reads and how it is called.

    Attributes:
        forms: what it reads, of `FORMS`.
        arguments: of its command, with ``{form}`` for the file of a form, ``{s}`` and ``{ms}`` for the time limit in seconds
            and milliseconds; empty where its documentation has no command for a bundle's files.
        called: its program as the README of a bundle calls it; the tool's name where this is empty.
        programs: file names of the program that `verify` looks for; none where it must be told the path.
        adapter: by which of `verify`'s adapters it is run; none where `verify` does not run it.
        note: what its answers mean, where that is not plain.
    """

    forms: tuple[str, ...]
    arguments: str = ""
    called: str = ""
    programs: tuple[str, ...] = ()
    adapter: str = ""
    note: str = ""

    def commands(self, program: str, files: Mapping[str, str], seconds: int) -> list[Words]:
        """The commands that run a program on files: one, or one for each file of a form that has a file for each disjunct."""
        paths = {form: [files[key] for key in files if form in (key, key.rpartition(".")[0])] for form in self.forms}
        rows = [dict(zip(paths, row, strict=True)) for row in zip(*paths.values(), strict=True)]
        words = self.arguments.split()
        return [[program, *(word.format(**row, s=seconds, ms=1000 * seconds) for word in words)] for row in rows]


_LEAST = "violated where the least objective of any of them is at most 0"
_VNNLIB2 = "verify {vnnlib2} --network N={onnx} --timeout {s}"

TOOLS: dict[str, Tool] = {
    "marabou": Tool(
        ("marabou",),
        "--input-query {marabou} --timeout={s} --no-merge-ws-layers",
        "Marabou",
        ("Marabou", "marabou"),
        "marabou",
        "violated where any of them is sat (merging layers, Marabou 2.0.0 is wrong on networks with skips)",
    ),
    "abcrown": Tool(("onnx", "vnnlib"), "--onnx_path {onnx} --vnnlib_path {vnnlib} --timeout {s}", "python abcrown.py"),
    "nnenum": Tool(("chain", "vnnlib"), "{chain} {vnnlib} {s}", "python3 -m nnenum.nnenum"),
    "vibecheck": Tool(("onnx", "vnnlib2"), _VNNLIB2, programs=("vibecheck",), adapter="vibecheck"),
    "neuralsat": Tool(("onnx", "vnnlib"), "--net {onnx} --spec {vnnlib} --timeout {s}", "python3 main.py"),
    "pyrat": Tool(("chain", "vnnlib"), "--model_path {chain} --property_path {vnnlib} --timeout {s}"),
    "vnnlib2": Tool(
        ("onnx", "vnnlib2"), _VNNLIB2, "TOOL", (), "vnnlib2", "any solver with the command line of VNN-LIB 2.0"
    ),
    "vnncomp": Tool(("chain", "vnnlib"), adapter="vnncomp"),
    "smt": Tool(("smtlib",), adapter="smt"),
    "z3": Tool(("smtlib",), "-T:{s} {smtlib}", programs=("z3",), adapter="smt"),
    "cvc5": Tool(("smtlib",), "--tlimit={ms} {smtlib}", programs=("cvc5",), adapter="smt"),
    "yices-smt2": Tool(("smtlib",), programs=("yices-smt2",), adapter="smt"),
    "opensmt": Tool(("smtlib",), programs=("opensmt",), adapter="smt"),
    "mathsat": Tool(("smtlib",), programs=("mathsat",), adapter="smt"),
    "gurobi": Tool(("mps",), "TimeLimit={s} {mps}", "gurobi_cl", ("python3", "python"), "gurobi", _LEAST),
    "highs": Tool(("mps",), "--time_limit {s} {mps}", note=_LEAST),
}
"""Outside tools by name; their command lines are those of their documentation."""


def bundle_tools() -> list[str]:
    """Names of the tools that a bundle is written for."""
    return [name for name, tool in TOOLS.items() if tool.arguments]


def forms_for(tools: Iterable[str]) -> tuple[str, ...]:
    """The forms that these tools read, in the order of `FORMS`.

    Raises:
        QueryError: a tool that is not among `bundle_tools`, or none.
    """
    names, known = list(tools), bundle_tools()
    for name in names:
        if name not in known:
            raise QueryError(f"expected tools among {', '.join(known)}; got {name!r}{perhaps(name, known)}")
    if not names:
        raise QueryError(f"expected tools among {', '.join(known)}; got none")
    wanted = {form for name in names for form in TOOLS[name].forms}
    return tuple(form for form in FORMS if form in wanted)


def readme(forms: Iterable[str], files: Mapping[str, Mapping[str, str]], seconds: int) -> str:
    """The bundle's README: its files, and a command for every query and every tool that reads them.

    Args:
        forms: that the bundle holds.
        files: query → key in the manifest → path.
        seconds: time limit in the commands.
    """
    held = set(forms)
    width = max(len(FORMS[form][0]) for form in held)
    rows = [f"  {path:{width}}  {text}" for form, (path, text) in FORMS.items() if form in held]
    if "vnnlib" in held:
        rows.append(
            f"  {'instances.csv':{width}}  network, property, seconds: one row a query, as VNN-COMP scripts read them"
        )
    sections = []
    for name, tool in TOOLS.items():
        if tool.arguments and set(tool.forms) <= held:
            commands = [
                words for paths in files.values() for words in tool.commands(tool.called or name, paths, seconds)
            ]
            lines = [f"  {' '.join(words)}" for words in commands]
            sections.append("\n".join([f"{name}{f': {tool.note}' if tool.note else ''}", *lines]))
    return "\n\n".join([_HEAD, "\n".join(rows), _NOTES, *sections]) + "\n"


_HEAD = """\
A bundle of verification queries, written by veriflow.

Each query asks: is there an input in the region at which the network violates the property? `sat` means violated,
`unsat` means that the property holds. manifest.json says, for every query, what the property and the region are, how
much probability the region has, and the SHA-256 of every file."""

_NOTES = """\
Equal networks are written once: manifest.json names the files of every query.
Extra outputs of a network (see the comments in its .vnnlib) are the norm of its input and linear forms of its outputs.
Networks are float32; where the manifest gives a `float32_deviation`, their outputs are off by at most that in the region, and
the bounds of the VNN-LIB files are wider by as much.
Networks of a query that the manifest gives `reduced_relus` for are equal to its own inside the region only.
Strict comparisons are non-strict everywhere but in SMT-LIB, as the manifest counts; a `sat` at a tie is then none.
Tools that compute in floats have tolerances of their own. Replay every `sat`."""
