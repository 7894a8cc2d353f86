"""What onnxruntime computes at a witness: on the networks' own files and on the exported form.

Exact rationals decide that the witness is a violation, and floats do not overrule them: float32 may be unable to hold the
data point, or the difference that makes the violation. The property is judged on the files' outputs too, and a verdict
says where they differ. Outputs that no rounding explains are an error: then the graph is not what the file computes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from exporters import FileRun, OnnxFile
from veriflow.errors import GraphError, StorageError
from veriflow.piecewise.build import with_tensors_given
from veriflow.piecewise.evaluate import enclose_exact, evaluate_exact, nearest_floats
from veriflow.piecewise.graph import Graph, Relu
from veriflow.queries.query import Application, Query

from .replayer import Replayer, Values, replayer
from .verdict import OnnxRun, Verdict, Witness

TOLERANCE = 1e-3
"""Largest difference of outputs, relative to their scale, that is not looked into."""

DRAWS, FACTOR = 32, 16.0
"""Draws of rounding errors, and the factor by which a difference may exceed the largest effect among them."""


def confirmed(query: Query, verdict: Verdict) -> Verdict:
    """The verdict with what onnxruntime computes at its witness, and a `remark` in its reason.

    Raises:
        GraphError: outputs of a file that rounding cannot explain.
    """
    if verdict.witness is None:
        return verdict
    witness = with_runs(query, verdict.witness)
    return replace(verdict, witness=witness, reason=verdict.reason + remark(witness))


def remark(witness: Witness) -> str:
    """An addition to a reason: that the violation is none in floats, or that nothing could be run."""
    if witness.own is not None and witness.own.violated is False:
        return f"; no violation in the {witness.own.dtype} of {witness.own.called}"
    if witness.own is None and witness.exported is None:
        return f"; {'; '.join(witness.not_run)}"
    return ""


def with_runs(query: Query, witness: Witness) -> Witness:
    """The witness with what onnxruntime computes at it.

    A file that is gone, or that onnxruntime cannot run, and a form that is too large to write leave a sentence instead.

    Raises:
        GraphError: outputs of a file that rounding cannot explain.
    """
    shared = replayer(query)
    values, _ = enclose_exact(query.graph, witness.point)
    own = [one for one in query.applications if isinstance(one.network.source, OnnxFile)]
    found: list[OnnxRun | None] = []
    failures: list[str] = []
    for where in ("the network's own file", "the exported form"):
        try:
            applied = own if not found else [shared.exported(query.graph)]
            runs = _runs(shared, applied, values)
        except (StorageError, GraphError, MemoryError) as error:
            failures.append(f"onnxruntime was not run on {where}: {error or 'out of memory'}")
            found.append(None)
        else:
            found.append(_judged(query, shared, values, applied, runs) if applied else None)
    return replace(witness, own=found[0], exported=found[1], not_run=tuple(failures))


def _file(application: Application) -> OnnxFile:
    file = application.network.source
    assert isinstance(file, OnnxFile)  # noqa: S101 - as chosen
    return file


def _runs(shared: Replayer, applied: Sequence[Application], values: Values) -> list[FileRun]:
    """What the files compute at the exact inputs of each application."""
    places: dict[OnnxFile, list[int]] = {}
    for place, one in enumerate(applied):
        places.setdefault(_file(one), []).append(place)
    found: dict[int, FileRun] = {}
    for file, own in places.items():
        found |= zip(own, shared.run(file, [values[applied[place].input] for place in own]), strict=True)
    return [found[place] for place in range(len(applied))]


def _judged(
    query: Query, shared: Replayer, values: Values, applied: Sequence[Application], runs: Sequence[FileRun]
) -> OnnxRun:
    """How far the outputs are from the exact ones, and whether they violate the property.

    Raises:
        GraphError: outputs that rounding cannot explain.
    """
    deviations = [
        _largest_difference(run.outputs, _file(one).outputs_of(values[one.output]))
        for one, run in zip(applied, runs, strict=True)
    ]
    for one, run, deviation in zip(applied, runs, deviations, strict=True):
        if not deviation <= TOLERANCE:
            _check_explained(shared, one.network, _file(one), run)
    violated = None
    if query.violation and all(math.isfinite(value) for run in runs for value in run.logits):
        given = {one.output: list(map(Fraction, run.logits)) for one, run in zip(applied, runs, strict=True)}
        graph = with_tensors_given(query.graph, list(given))
        inputs = [*values[query.graph.input], *itertools.chain(*given.values())]
        violated = query.violated_by(evaluate_exact(graph, inputs)[graph.output])
    return OnnxRun(
        tuple(_file(one).name for one in applied),
        tuple(run.outputs for run in runs),
        max((run.dtype for run in runs), key=lambda kind: float(np.finfo(kind).eps)).name,
        max(deviations),
        violated,
    )


def _largest_difference(outputs: Sequence[float], exact: Sequence[float]) -> float:
    """The largest |difference|, infinite where an output is."""
    return float(_differences(outputs, exact).max())


def _differences(outputs: Sequence[float], exact: Sequence[float]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(np.subtract(outputs, exact)), nan=math.inf, posinf=math.inf)


def _check_explained(shared: Replayer, network: Graph, file: OnnxFile, run: FileRun) -> None:
    """Refuse outputs that are farther from the exact ones, at the point that the file saw, than rounding explains.

    The file is run once more without optimisation first: optimised operations may round quantised weights again.

    Raises:
        GraphError: such outputs.
    """
    exact = evaluate_exact(network, run.point)[network.output]
    allowed = TOLERANCE * max(1.0, *map(abs, nearest_floats(exact)))
    if file.agrees(run, exact, allowed):
        return
    plain = run
    with suppress(StorageError, GraphError):
        (plain,) = shared.run(file, [run.point], optimised=False)
    if not file.agrees(plain, exact, max(allowed, FACTOR * _effect_of_rounding(network, run, exact))):
        wanted = file.outputs_of(exact)
        worst = int(_differences(plain.outputs, wanted).argmax())
        raise GraphError(
            f"expected {file.name} to compute what was read from it; got {plain.outputs[worst]} from onnxruntime for "
            f"output {worst}, where exact arithmetic gives {wanted[worst]}, which no rounding explains"
        )


@np.errstate(over="ignore", invalid="ignore")
def _effect_of_rounding(network: Graph, run: FileRun, exact: Sequence[Fraction]) -> float:
    """The largest difference from exact outputs among draws of random rounding errors; infinite where numbers may overflow.

    Monte Carlo arithmetic (Parker, *Monte Carlo Arithmetic: exploiting randomness in floating-point arithmetic*, 1997): each
    sum of n terms is moved by up to √n units of roundoff of their sizes' sum.
    """
    limits, rng = np.finfo(run.dtype), np.random.default_rng(0)
    values: dict[str, NDArray[np.float64]] = {network.input: np.tile(nearest_floats(run.point), (DRAWS, 1))}
    for node in network.nodes:
        if isinstance(node, Relu):
            values[node.output] = np.maximum(values[node.input], 0)
            continue
        total, terms = np.tile(node.rounded.bias, (DRAWS, 1)), 1 + node.roundings
        size = np.abs(total)
        for name, _, turned, absolute in node.products:
            total = total + values[name] @ turned
            size = size + np.abs(values[name]) @ absolute
            terms += turned.shape[0]
        if not (size < limits.max / 2).all():
            return math.inf
        errors = rng.uniform(-1, 1, size.shape) * (math.sqrt(terms) * float(limits.eps) * size + float(limits.tiny))
        values[node.output] = total + errors
    return max(_largest_difference(row, nearest_floats(exact)) for row in values[network.output])
