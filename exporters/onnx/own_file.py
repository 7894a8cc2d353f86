"""A network's own ONNX file, run as its owner runs it: in its own floating point, with all of its operations.

A last Sigmoid, Softmax, LogSoftmax or ArgMax, which a graph is read without, is in the file. Both directions are here: what
outputs the graph's exact logits should give, and which logits the file's outputs stand for, so that a property of logits can
be judged on them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from veriflow.errors import GraphError, StorageError
from veriflow.files.whole_files import read_bytes
from veriflow.numerics.arrays import Vector
from veriflow.piecewise.evaluate import nearest_floats

from .operators.importer import EndingKind
from .ports import Ending, Port
from .session import ELEMENT_TYPES, REFUSALS, open_session

_SATURATED = 1e3
"""The logit that a probability of 0 or 1 stands for: beyond every threshold, as those of float64 are below 746."""


@dataclass(frozen=True)
class FileRun:
    """What a file gives at one point.

    Attributes:
        point: what it saw: the point rounded to the type of its inputs.
        outputs: its outputs, flat.
        logits: in the order of the graph's outputs, numbers that these stand for: the outputs themselves, or logits that
            give them. Those of a softmax are its logarithms, that of an argmax's class is 1 and others 0; NaN where nothing is
            known.
        dtype: its coarsest type among inputs and outputs.
    """

    point: tuple[Fraction, ...]
    outputs: tuple[float, ...]
    logits: tuple[float, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A file that a graph was read from, or written to.

    Attributes:
        name: for reports.
        model: its path, its bytes, or the model that onnx has read from them.
        inputs: where its inputs are in the graph's.
        outputs: where its outputs are in the graph's, and what was taken off them.
        digest: SHA-256 of the file when it was read, empty where it has no path.
        maps: by name of an output that is a list of maps, their keys in the order of the graph.
    """

    name: str
    model: bytes | Path | onnx.ModelProto
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    digest: str = ""
    maps: Mapping[str, Sequence[int | str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: str | Path | bytes | onnx.ModelProto,
        inputs: tuple[Port, ...],
        outputs: tuple[Port, ...],
        maps: Mapping[str, Sequence[int | str]],
    ) -> OnnxFile:
        """The file of a graph, as it is now."""
        if isinstance(source, bytes | onnx.ModelProto):
            return cls("the given model", source, inputs, outputs, maps=maps)
        path = Path(source)
        return cls(path.name, path.resolve(), inputs, outputs, _digest(path), maps)

    def as_pair(self) -> OnnxFile:
        """The file behind a graph that gives 0 and the logit l of its one sigmoid: σ(l) is the second of their softmax."""
        return replace(self, outputs=tuple(map(_as_pair, self.outputs)))

    def check_unchanged(self) -> None:
        """Refuse a file that is no longer as it was read.

        Raises:
            StorageError: such a file.
        """
        if isinstance(self.model, Path) and _digest(self.model) != self.digest:
            raise StorageError(f"expected {self.name!r} as it was read; got another file")

    def open(self, *, optimised: bool = True) -> onnxruntime.InferenceSession:
        """A session on the file, see `open_session`.

        Raises:
            StorageError: a file that is no longer as it was read, or that onnxruntime cannot load.
        """
        self.check_unchanged()
        model = self.model.SerializeToString() if isinstance(self.model, onnx.ModelProto) else self.model
        return open_session(model, optimised=optimised)

    def run(
        self, points: Sequence[Sequence[Fraction]], session: onnxruntime.InferenceSession | None = None
    ) -> list[FileRun]:
        """What onnxruntime computes at points of the graph's input, by a session on the file or by one opened for them.

        Raises:
            StorageError: as `open`, which is asked where no session is given.
            GraphError: points beyond the range of the inputs' type, inputs or outputs that are no floats, what
                onnxruntime cannot compute.
        """
        session = self.open() if session is None else session
        return [self._at(session, point) for point in points]

    def _at(self, session: onnxruntime.InferenceSession, point: Sequence[Fraction]) -> FileRun:
        given = np.array(nearest_floats(point))
        ends = {end.name: end for end in session.get_inputs()}
        feeds, seen = {}, np.empty(len(given))
        types: list[np.dtype[Any]] = [np.dtype(np.float64)]
        for port in self.inputs:
            end = ends.get(port.name)
            if end is None or end.type not in ELEMENT_TYPES:
                raise GraphError(f"expected inputs that are floats; got {end and end.type} for {port.name!r}")
            with np.errstate(over="ignore"):
                values = given[port.slice].astype(ELEMENT_TYPES[end.type])
            if not np.isfinite(values).all():
                beyond = given[port.slice][~np.isfinite(values)][0]
                raise GraphError(f"expected numbers in the range of {values.dtype}; got {beyond} in {port.name!r}")
            seen[port.slice] = values
            feeds[port.name] = np.broadcast_to(values.reshape(port.shape), _sizes(end.shape, port.shape))
            types.append(values.dtype)
        try:
            results = session.run([port.name for port in self.outputs], feeds)
        except (*REFUSALS, ValueError) as error:
            raise GraphError(f"expected {self.name!r} to run; got: {error}") from None
        outputs: list[float] = []
        logits = np.full(max(port.start + port.size for port in self.outputs), np.nan)
        for port, result in zip(self.outputs, results, strict=True):
            flat = _one_of_batch(self._array(result, port), port)
            numbers = np.array([_shown(port.ending, place) for place in flat.tolist()])
            outputs += numbers.tolist()
            found = flat if port.ending is None else _logits(port.ending, flat)
            logits[port.slice] = np.where(np.isnan(found), logits[port.slice], found)  # another may share the logits
            types.append(np.dtype(getattr(result, "dtype", np.float32)))
        coarsest = max((kind for kind in types if kind.kind == "f"), key=lambda kind: float(np.finfo(kind).eps))
        return FileRun(tuple(map(Fraction, seen.tolist())), tuple(outputs), tuple(logits.tolist()), coarsest)

    def _array(self, result: Any, port: Port) -> NDArray[Any]:  # noqa: ANN401 - whatever onnxruntime gives
        """An output as an array: that of maps in the order of the graph, that of labels as their numbers.

        Raises:
            GraphError: what is neither numbers nor known labels.
        """
        try:
            if isinstance(result, list):
                result = [[row[key] for key in self.maps[port.name]] for row in result]
            if port.ending is not None and port.ending.labels:
                known = {label: place for place, label in enumerate(port.ending.labels)}
                result = np.array([known[label] for label in result.reshape(-1).tolist()]).reshape(result.shape)
            return np.asarray(result, dtype=np.float64)
        except (LookupError, TypeError, ValueError):
            raise GraphError(f"expected numbers or known labels in the output {port.name!r}; got others") from None

    def outputs_of(self, logits: Sequence[Fraction]) -> tuple[float, ...]:
        """The file's outputs, by the exact outputs of its graph: where something was taken off, computed in float64."""
        found: list[float] = []
        for port in self.outputs:
            own = logits[port.slice]
            found += nearest_floats(own) if port.ending is None else _ended(port.ending, own).tolist()
        return tuple(found)

    def agrees(self, run: FileRun, logits: Sequence[Fraction], allowed: float) -> bool:
        """Whether outputs are what logits give that are off by no more than ``allowed`` from the exact ones.

        Outputs may be off by twice that, as those of a log-softmax are; a label must be that of a logit so near the largest.
        """
        if allowed == math.inf:
            return True
        wanted, start = np.array(self.outputs_of(logits)), 0
        for port in self.outputs:
            place = slice(start, start := start + math.prod(port.shape))
            outputs = np.array(run.outputs[place])
            if port.ending is not None and port.ending.kind is EndingKind.ARGMAX:
                if not _is_largest(port.ending, logits[port.slice], outputs, 2 * allowed):
                    return False
            elif not (np.abs(outputs - wanted[place]) <= 2 * allowed).all():
                return False
        return True


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _sizes(file: Sequence[object], port: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the file takes: its own, with the port's sizes where it has none."""
    if len(file) != len(port):
        return port
    return tuple(size if isinstance(size, int) and size > 0 else own for size, own in zip(file, port, strict=True))


def _as_pair(port: Port) -> Port:
    ending = port.ending
    if ending is None:
        return port
    pair = replace(ending, kind=EndingKind.SOFTMAX, shape=(1, 2), axis=1, entries=np.ones_like(ending.entries))
    return replace(port, size=2, ending=pair)


def _shown(ending: Ending | None, output: float) -> float:
    """The output as the file has it; the number of its class where it has a text."""
    label = ending.labels[int(output)] if ending is not None and ending.labels else output
    return output if isinstance(label, str) else float(label)


def _one_of_batch(array: Vector, port: Port) -> Vector:
    """The output at the one point, flat: where the file's batch is larger, the point was repeated."""
    if array.ndim == len(port.shape):
        array = array[tuple(map(slice, port.shape))]
    if array.size != math.prod(port.shape):
        raise GraphError(f"expected {math.prod(port.shape)} entries in the output {port.name!r}; got {array.size}")
    return array.reshape(-1)


def _ended(ending: Ending, logits: Sequence[Fraction]) -> Vector:
    """What the ending makes of exact logits."""
    values = np.array(logits, dtype=object).reshape(ending.shape)
    if ending.kind is EndingKind.ARGMAX:
        classes = _argmax(ending, values).reshape(-1)[ending.entries].reshape(-1)
        return np.array([_shown(ending, place) for place in classes.tolist()], dtype=np.float64)
    if ending.axis is not None:
        values = values - values.max(axis=ending.axis, keepdims=True)
    found = np.array(nearest_floats(values.reshape(-1))).reshape(ending.shape)
    with np.errstate(over="ignore"):
        if ending.kind is EndingKind.SIGMOID:
            found = 1 / (1 + np.exp(-found))
        else:
            found = found - np.log(np.exp(found).sum(axis=ending.axis, keepdims=True))
            found = found if ending.kind is EndingKind.LOG_SOFTMAX else np.exp(found)
    return np.asarray(found.reshape(-1)[ending.entries].reshape(-1))


def _argmax(ending: Ending, values: NDArray[Any]) -> NDArray[np.int64]:
    assert ending.axis is not None  # noqa: S101 - an argmax has one
    if not ending.prefers_last:
        return np.asarray(values.argmax(axis=ending.axis))
    return np.asarray(values.shape[ending.axis] - 1 - np.flip(values, ending.axis).argmax(axis=ending.axis))


def _logits(ending: Ending, outputs: Vector) -> Vector:
    """Logits that give the outputs; NaN where no output tells."""
    axis, shape = ending.axis, ending.shape
    labels = ending.kind is EndingKind.ARGMAX
    whole = tuple(size for place, size in enumerate(shape) if place != axis) if labels else shape
    found = np.full(math.prod(whole), np.nan)
    found[ending.entries.reshape(-1)] = outputs
    found = found.reshape(whole)
    if labels:
        assert axis is not None  # noqa: S101 - an argmax has one
        places = np.arange(shape[axis]).reshape([-1 if place == axis else 1 for place in range(len(shape))])
        chosen = np.expand_dims(found, axis)
        return np.where(np.isnan(chosen), np.nan, (places == chosen).astype(np.float64)).reshape(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if ending.kind is EndingKind.SIGMOID:
            found = np.clip(np.log(found) - np.log1p(-found), -_SATURATED, _SATURATED)
        elif ending.kind is EndingKind.SOFTMAX:
            if axis is not None and shape[axis] == 2:  # either of a pair tells the other
                found = np.where(np.isnan(found), 1 - np.flip(found, axis), found)
            found = np.maximum(np.log(found), -_SATURATED)
    return found.reshape(-1)


def _is_largest(ending: Ending, logits: Sequence[Fraction], labels: Vector, slack: float) -> bool:
    """Whether the logit of every label is the largest of its group, up to the slack."""
    axis = ending.axis
    assert axis is not None  # noqa: S101 - an argmax has one
    numbers = [_shown(ending, place) for place in range(ending.shape[axis])]
    values = np.moveaxis(np.array(logits, dtype=object).reshape(ending.shape), axis, -1)
    groups = values.reshape(-1, values.shape[-1])[ending.entries.reshape(-1)]
    return all(
        label in numbers and group[numbers.index(label)] >= max(group) - Fraction(slack)
        for label, group in zip(labels, groups, strict=True)
    )
