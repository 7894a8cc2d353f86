"""``veriflow solver``: the solver interface of VNN-LIB 2.0 (chapter 5), for other programs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from veriflow.errors import PropertyError
from veriflow.runtime.lazy_imports import LazyImports
from veriflow.wording import perhaps

from ...witness.verdict import Outcome
from ..options import readable

with LazyImports(__name__) as imports:
    from exporters import read_vnnlib
    from veriflow.piecewise.evaluate import evaluate_exact, nearest_floats
    from veriflow.queries.query import Query
    from veriflow.queries.specification import Specification

    from ... import Witness, verify_all
    from ...engines.limits import check_time
    from ..question import network_files, queries_on_files

CAPABILITIES = {
    "--vnnlib-versions": ("1.0", "2.0"),
    "--onnx-opset-versions": tuple(str(version) for version in range(7, 23)),
    "--onnx-element-types": ("float32 * as real numbers", "float64 * as real numbers"),
    "--arithmetic-complexity-theories": ("BND", "OUTC", "LIN"),
    "--multiple-input-output-theories": ("SIO",),
    "--multiple-network-theories": ("SNET", "MENET", "MINET"),
    "--multiple-node-comparison-theories": ("SNC",),
    "--hidden-node-theories": ("NH",),
    "--optimised-disjunctive-reasoning": ("true",),
    "--serialise-assignments": ("false",),
}
"""The lines that `supports` prints; a * begins a note."""

WORDS = {Outcome.VIOLATED: "sat", Outcome.HOLDS: "unsat", Outcome.UNKNOWN: "unknown"}

solver = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="""Be a solver for other programs: the command line that VNN-LIB 2.0 asks of one.

    Example: `veriflow solver verify query.vnnlib --network N=net.onnx --timeout 60`""",
)


@solver.command("verify")
@imports.on_call
def verify_file(
    query: Annotated[Path, typer.Argument(metavar="FILE", callback=readable, help="A VNN-LIB file, 1.0 or 2.0.")],
    network: Annotated[
        list[str], typer.Option(metavar="NAME=FILE", help="The ONNX file of each network; FILE for one.")
    ],
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 300.0,
) -> None:
    """Print `sat`, `unsat`, `unknown` or `timed-out`; after `sat`, the value of every input and output.

    Exit codes: 0 with an answer, 2 bad input.

    Example: `veriflow solver verify query.vnnlib --network N=net.onnx --timeout 60`
    """
    start = time.monotonic()
    check_time(timeout)
    spec = read_vnnlib(query)
    queries = queries_on_files(network_files(network, spec), spec)
    joint = verify_all(queries, timeout=max(start + timeout - time.monotonic(), 1e-6))
    outcome, witness = joint.verdict.outcome, joint.verdict.witness
    typer.echo("timed-out" if outcome is Outcome.UNKNOWN and joint.is_late else WORDS[outcome])
    if witness is not None:
        typer.echo("\n".join(_assignment(spec, queries[joint.decisive], witness)))


@solver.command(context_settings={"ignore_unknown_options": True})
def supports(
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help=f"One of {', '.join(CAPABILITIES)}.")],
) -> None:
    """Print what is supported, one line for each item.

    Example: `veriflow solver supports --vnnlib-versions`
    """
    if capability not in CAPABILITIES:
        meant = perhaps(capability, CAPABILITIES)
        raise PropertyError(f"expected a capability among {', '.join(CAPABILITIES)}; got {capability!r}{meant}")
    typer.echo("\n".join(CAPABILITIES[capability]))


def _assignment(spec: Specification, query: Query, witness: Witness) -> list[str]:
    """Every input and output with its value; outputs are what onnxruntime computes on the network's own file.

    Where it cannot run that, they are the exact ones.
    """
    exact = evaluate_exact(query.graph, list(witness.point))
    inputs = nearest_floats(exact[query.data])
    sources = [(one.network.source, exact[one.output]) for one in query.applications]
    outputs = [source.outputs_of(logits) for source, logits in sources if source is not None]
    if witness.own is not None:
        outputs = list(witness.own.outputs)
    lines: list[str] = []
    start = 0
    for network, given in zip(spec.networks, outputs, strict=True):
        values = (inputs[start : start + network.inputs], given)
        start += network.inputs
        if network.tensors is None:
            pairs = [
                f"({name}_{i} {value!r})"
                for name, each in zip("XY", values, strict=True)
                for i, value in enumerate(each)
            ]
            return [f"({pairs[0]}", *pairs[1:-1], f"{pairs[-1]})"]
        for tensor, each in zip(network.tensors, values, strict=True):
            lines.append(f"{tensor.name} {tensor.kind} [{_joined(tensor.shape)}]")
            lines += [repr(value) for value in each]
    return lines


def _joined(numbers: Iterable[int]) -> str:
    return ",".join(str(number) for number in numbers)
