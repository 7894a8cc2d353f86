"""Which files of a bundle a tool reads, and the command that runs it on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


@dataclass(frozen=True)
class ToolFiles:
    """What a tool reads.

    Attributes:
        forms: of `FORMS`.
        command: from the query's files and the time limit in seconds to its command lines.
        note: what its answers mean, where that is not plain.
    """

    forms: tuple[str, ...]
    command: Callable[[Mapping[str, str], int], Iterable[str]]
    note: str = ""


def _each(files: Mapping[str, str], form: str) -> list[str]:
    return [path for key, path in files.items() if key.rpartition(".")[0] == form]


TOOLS: Mapping[str, ToolFiles] = {
    "marabou": ToolFiles(
        ("marabou",),
        lambda files, s: [
            f"Marabou --input-query {path} --timeout={s} --no-merge-ws-layers" for path in _each(files, "marabou")
        ],
        "violated where any of them is sat (merging layers, Marabou 2.0.0 is wrong on networks with skips)",
    ),
    "abcrown": ToolFiles(
        ("onnx", "vnnlib"),
        lambda f, s: [f"python abcrown.py --onnx_path {f['onnx']} --vnnlib_path {f['vnnlib']} --timeout {s}"],
    ),
    "nnenum": ToolFiles(("chain", "vnnlib"), lambda f, s: [f"python3 -m nnenum.nnenum {f['chain']} {f['vnnlib']} {s}"]),
    "vibecheck": ToolFiles(
        ("onnx", "vnnlib2"), lambda f, s: [f"vibecheck verify {f['vnnlib2']} --network N={f['onnx']} --timeout {s}"]
    ),
    "neuralsat": ToolFiles(
        ("onnx", "vnnlib"), lambda f, s: [f"python3 main.py --net {f['onnx']} --spec {f['vnnlib']} --timeout {s}"]
    ),
    "pyrat": ToolFiles(
        ("chain", "vnnlib"),
        lambda f, s: [f"pyrat --model_path {f['chain']} --property_path {f['vnnlib']} --timeout {s}"],
    ),
    "vnnlib2": ToolFiles(
        ("onnx", "vnnlib2"),
        lambda f, s: [f"TOOL verify {f['vnnlib2']} --network N={f['onnx']} --timeout {s}"],
        "any solver with the command line of VNN-LIB 2.0",
    ),
    "z3": ToolFiles(("smtlib",), lambda f, s: [f"z3 -T:{s} {f['smtlib']}"]),
    "cvc5": ToolFiles(("smtlib",), lambda f, s: [f"cvc5 --tlimit={1000 * s} {f['smtlib']}"]),
    "gurobi": ToolFiles(
        ("mps",),
        lambda f, s: [f"gurobi_cl TimeLimit={s} {path}" for path in _each(f, "mps")],
        "violated where the least objective of any of them is at most 0",
    ),
    "highs": ToolFiles(
        ("mps",),
        lambda f, s: [f"highs --time_limit {s} {path}" for path in _each(f, "mps")],
        "violated where the least objective of any of them is at most 0",
    ),
}
"""Tools by name; their command lines are those of their documentation."""


def forms_for(tools: Iterable[str]) -> tuple[str, ...]:
    """The forms that these tools read, in the order of `FORMS`.

    Raises:
        QueryError: a tool that is not in `TOOLS`, or none.
    """
    names = list(tools)
    for name in names:
        if name not in TOOLS:
            raise QueryError(f"expected tools among {', '.join(TOOLS)}; got {name!r}{perhaps(name, TOOLS)}")
    if not names:
        raise QueryError(f"expected tools among {', '.join(TOOLS)}; got none")
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
        if set(tool.forms) <= held:
            lines = [line for paths in files.values() for line in tool.command(paths, seconds)]
            sections.append("\n".join([f"{name}{f': {tool.note}' if tool.note else ''}", *(f"  {x}" for x in lines)]))
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
