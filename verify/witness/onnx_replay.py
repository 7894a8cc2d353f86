"""What onnxruntime makes of a witness: on the networks' own files, and on the exported form of the query's graph.

Exact rationals have decided that the witness is a violation, and floats do not overrule them: a float32 may be unable to hold
the data point, or the difference that makes the violation. The property is judged on the files' outputs too, and what differs
is told. Only outputs that no rounding explains are an error: then a file was not read as what it computes, and no verdict
on it is worth anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from exporters import FileRun, OnnxFile, Port, graph_to_onnx
from veriflow.errors import GraphError, StorageError
from veriflow.piecewise.build import with_tensors_given
from veriflow.piecewise.evaluate import evaluate_exact, nearest_floats
from veriflow.piecewise.graph import Graph, Relu
from veriflow.queries.query import Application, Query

from .verdict import OnnxRun, Verdict, Witness

TOLERANCE = 1e-3
"""Largest difference of outputs, relative to their scale, that needs no explanation."""

DRAWS, FACTOR = 32, 16.0
"""How often rounding errors are drawn, and how many times the largest effect of these still explains a difference."""

Values = Mapping[str, list[Fraction]]


def confirmed(query: Query, verdict: Verdict) -> Verdict:
    """The verdict with what onnxruntime makes of its witness, and in its reason what should not be overlooked.

    Raises:
        GraphError: outputs of a file that rounding cannot explain.
    """
    if verdict.witness is None:
        return verdict
    witness = with_runs(query, verdict.witness)
    return replace(verdict, witness=witness, reason=verdict.reason + remark(witness))


def remark(witness: Witness) -> str:
    """What to add to a reason: that the violation is none in floats, or that nothing could be run."""
    if witness.own is not None and witness.own.violated is False:
        return f"; no violation in the {witness.own.dtype} of {witness.own.called}"
    if witness.own is None and witness.exported is None:
        return f"; {'; '.join(witness.not_run)}"
    return ""


def with_runs(query: Query, witness: Witness) -> Witness:
    """The witness with what onnxruntime makes of it.

    A file that is gone, or that onnxruntime cannot run, and a form that is too large to write leave a sentence instead.

    Raises:
        GraphError: outputs of a file that rounding cannot explain.
    """
    values = evaluate_exact(query.graph, list(witness.point))
    own = [one for one in query.applications if isinstance(one.network.source, OnnxFile)]
    found: list[OnnxRun | None] = []
    failures: list[str] = []
    for where in ("the network's own file", "the exported form"):
        try:
            applied = own if not found else [_exported(query.graph)]
            runs = _runs(applied, values)
        except (StorageError, GraphError, MemoryError) as error:
            failures.append(f"onnxruntime was not run on {where}: {error or 'out of memory'}")
            found.append(None)
        else:
            found.append(_judged(query, values, applied, runs) if applied else None)
    return replace(witness, own=found[0], exported=found[1], not_run=tuple(failures))


def _exported(graph: Graph) -> Application:
    """The graph as a network of its own, whose file is the exported form."""
    ends = [Port(name, (1, size), 0, size) for name, size in (("X", graph.input_size), ("Y", graph.output_size))]
    file = OnnxFile("the exported form", graph_to_onnx(graph), (ends[0],), (ends[1],))
    return Application(replace(graph, source=file), graph.input, graph.output)


def _file(application: Application) -> OnnxFile:
    file = application.network.source
    assert isinstance(file, OnnxFile)  # noqa: S101 - as chosen
    return file


def _runs(applied: Sequence[Application], values: Values) -> list[FileRun]:
    """What the files give where they are applied; each file is opened once."""
    places: dict[OnnxFile, list[int]] = {}
    for place, one in enumerate(applied):
        places.setdefault(_file(one), []).append(place)
    found: dict[int, FileRun] = {}
    for file, own in places.items():
        found |= zip(own, file.run([values[applied[place].input] for place in own]), strict=True)
    return [found[place] for place in range(len(applied))]


def _judged(query: Query, values: Values, applied: Sequence[Application], runs: Sequence[FileRun]) -> OnnxRun:
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
            _check_explained(one.network, _file(one), run)
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
    """Infinite where one is."""
    return float(_differences(outputs, exact).max())


def _differences(outputs: Sequence[float], exact: Sequence[float]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(np.subtract(outputs, exact)), nan=math.inf, posinf=math.inf)


def _check_explained(network: Graph, file: OnnxFile, run: FileRun) -> None:
    """Refuse outputs that are further from the exact ones, at the point that the file saw, than rounding may take them.

    Before that, operations are computed as they are written: onnxruntime's optimised ones may round quantised weights again.

    Raises:
        GraphError: such outputs.
    """
    exact = evaluate_exact(network, run.point)[network.output]
    allowed = TOLERANCE * max(1.0, *map(abs, nearest_floats(exact)))
    if file.agrees(run, exact, allowed):
        return
    plain = run
    with suppress(StorageError, GraphError):
        (plain,) = file.run([run.point], optimised=False)
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
