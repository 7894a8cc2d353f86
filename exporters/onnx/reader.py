"""ONNX → graph: the network that a file holds, its inputs and outputs, and what stands at its end."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from veriflow.errors import GraphError
from veriflow.piecewise.graph import Graph
from veriflow.piecewise.simplify import join_shifts
from veriflow.queries.logits import EndingName, LogitEnding

from .batch import first_row
from .classes import class_names, logits_in_row, naming_outputs, namings
from .operators.endings import ended, with_own_logits
from .operators.folding import folded
from .operators.importer import (
    LARGEST_TENSOR,
    MOST_FOLDED,
    MOST_FOLDS,
    EndingKind,
    Importer,
    Operation,
    Removed,
    Tensor,
    Value,
)
from .operators.table import translate
from .outputs import map_labels, needed_nodes, wanted_outputs
from .own_file import OnnxFile
from .ports import Ending, Port
from .source import Source, check_batches, constant_tensors, input_shape, load_model, standard_opset

_log = logging.getLogger(__name__)

MOST_NODES = 10_000
"""Nodes that the outputs to read may take."""

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


_NAMES: dict[EndingKind, EndingName] = {
    EndingKind.SIGMOID: "sigmoid",
    EndingKind.SOFTMAX: "softmax",
    EndingKind.LOG_SOFTMAX: "log-softmax",
    EndingKind.ARGMAX: "argmax",
}


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """What an ONNX file computes.

    Attributes:
        graph: from all inputs to all outputs, each one flat vector in the order of the file; it knows the file.
        inputs: the file's inputs, without those that are constants.
        outputs: the file's outputs.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_onnx(source: Source, output: str | None = None) -> Graph:
    """The graph of `read_network`, for a network of affine maps and ReLUs to its very end; of a batch one row.

    Args:
        source: as for `read_network`.
        output: the output to read; all by default, but labels and texts beside outputs of a float type.

    Raises:
        StorageError, GraphError: as `read_network`; GraphError also for a last Sigmoid, Softmax, LogSoftmax or ArgMax.
    """
    network, _ = _read(source, output)
    for port in network.outputs:
        if port.ending is not None:
            raise GraphError(
                f"expected a network of affine maps and ReLUs to its end; got {port.ending.kind} before output "
                f"{port.name!r}, which read_logits takes off"
            )
    return network.graph


class Logits(NamedTuple):
    """A network up to its logits.

    Attributes:
        graph: to the logits, or to the outputs where there is no ending.
        ending: what follows the logits.
        classes: what the file calls the classes that logits or scores stand for, in order, two for one sigmoid; empty
            where it does not say.
        inputs: the file's inputs.
    """

    graph: Graph
    ending: LogitEnding | None
    classes: tuple[str, ...] = ()
    inputs: tuple[Port, ...] = ()


def read_logits(source: Source, output: str | None = None, inputs: int | None = None) -> Logits:
    """The graph of `read_network` up to the logits, and what the file says about them.

    Args:
        source: as for `read_network`.
        output: as for `read_onnx`.
        inputs: how many inputs are asked about; a batch of a fixed size stays whole where it has as many entries.

    Raises:
        StorageError, GraphError: as `read_network`; GraphError also for an ending beside other outputs, one that takes
            the logits in groups or in another order, and an ArgMax that prefers the last of several.
    """
    network, classes = _read(source, output, inputs=inputs)
    endings = [port.ending for port in network.outputs if port.ending is not None]
    count = network.graph.output_size
    if not endings:
        return Logits(network.graph, None, classes if len(classes) == count else (), network.inputs)
    ending = endings[0]
    entries = np.concatenate([other.entries.reshape(-1) for other in endings])
    along = ending.axis is None or ending.shape[ending.axis] == count
    one = len(endings) == len(network.outputs) and len({port.start for port in network.outputs}) == 1
    whole = np.arange(1 if ending.kind is EndingKind.ARGMAX else count)
    if not one or not along or ending.prefers_last or not np.array_equal(entries, whole):
        got = "a part of one" if one and np.unique(entries).size < whole.size else "another one"
        raise GraphError(
            f"expected one {ending.kind} over all logits in their order, or one output to read; got {got} before "
            f"{', '.join(repr(port.name) for port in network.outputs)}"
        )
    known = LogitEnding(_NAMES[ending.kind], count, ending.labels)
    return Logits(network.graph, known, classes, network.inputs)


def one_row(network: OnnxNetwork) -> OnnxNetwork:
    """The network of one row, where the first axis of all inputs and outputs is a batch of a fixed size; else as it is.

    Rows of a batch do not mix, and each is treated like the others, constant by constant.
    """
    shapes = [port.shape if port.ending is None else port.ending.shape for port in network.outputs]
    rows = {(shape[:1] or (1,))[0] for shape in shapes}
    rows |= {port.shape[0] if len(port.shape) > 1 else 1 for port in network.inputs}
    if rows == {1} or len(rows) > 1:
        return network
    (count,) = rows
    if not all(port.ending is None or _is_by_rows(port.ending, count) for port in network.outputs):
        return network
    inputs, outputs = ({port.start: port.slice for port in ports} for ports in (network.inputs, network.outputs))
    graph = first_row(network.graph, count, list(inputs.values()), list(outputs.values()))
    if graph is None:
        return network
    return OnnxNetwork(
        graph,
        tuple(_row_of(port, count) for port in network.inputs),
        tuple(_row_of(port, count) for port in network.outputs),
    )


def _is_by_rows(ending: Ending, rows: int) -> bool:
    """Whether an ending runs within the rows of its logits, and each row of the output is made of its own row alike."""
    size = math.prod(ending.shape) // (ending.shape[ending.axis or 0] if ending.kind is EndingKind.ARGMAX else 1)
    if ending.axis == 0 or ending.entries.shape[:1] != (rows,):
        return False
    own = ending.entries.reshape(rows, -1) - size // rows * np.arange(rows)[:, None]
    return bool(((own >= 0) & (own < size // rows) & (own == own[0])).all())


def _row_of(port: Port, rows: int) -> Port:
    """The first row of a port; rows lie one after another in the flat vector, as do the ports' own."""
    ending, start, size = port.ending, port.start // rows, port.size // rows
    if ending is None:
        return Port(port.name, (1, *port.shape[1:]), start, size)
    first = replace(ending, shape=(1, *ending.shape[1:]), entries=ending.entries[:1])
    return Port(port.name, first.entries.shape, start, size, first)


def read_network(source: Source, output: str | None = None) -> OnnxNetwork:
    """The network in an ONNX file, opset 7 or later: constants keep their bits (in float64), vectors their names.

    Inputs are of a float type; an open first axis is a batch and taken as 1. A vector of the graph has the order of
    its first appearance: a later Transpose changes the order in which it is read, not the vector. External data is read
    from the file's folder. Operators: see docs/formats.md.

    Args:
        source: a file, its bytes, or a model that onnx has read.
        output: the only output to read; all by default.

    Raises:
        StorageError: a file that is missing, too large or no ONNX model, external data that is missing or elsewhere.
        GraphError: other operators before the output, open or huge shapes, constants that are not finite numbers, a
            cycle, an output that is not there.
    """
    return _read(source, output, everything=True)[0]


def _read(
    source: Source, output: str | None, *, everything: bool = False, inputs: int | None = None
) -> tuple[OnnxNetwork, tuple[str, ...]]:
    """The network of a file: all outputs and the whole batch, or scores of one row and the names of their classes."""
    model = load_model(source)
    opset = standard_opset(model)
    reading = _Reading(model.graph, opset, wanted_outputs(model.graph, output, scores=not everything))
    if not everything:
        reading.give_own_logits()
    network = reading.network()
    classes = () if everything else reading.classes()
    if not everything and network.graph.input_size != inputs:
        network = one_row(network)
    file = OnnxFile.of(source, network.inputs, network.outputs, map_labels(model.graph))
    _log.info("read %s, opset %d: %r", file.name, opset, network.graph)
    return replace(network, graph=replace(network.graph, source=file)), classes


class _Reading:
    """One pass over the nodes of a file."""

    def __init__(self, body: onnx.GraphProto, opset: int, wanted: Sequence[str]) -> None:
        self.body, self.opset, self.wanted = body, opset, wanted
        self.constants = {tensor.name: tensor for tensor in body.initializer}
        self.values: dict[str, Value] = {}
        given = [value for value in body.input if value.name not in self.constants]
        inputs = [(value.name, input_shape(value)) for value in given]
        check_batches(given)
        sizes = [math.prod(shape) for _, shape in inputs]
        if not inputs or sum(sizes) > LARGEST_TENSOR:
            raise GraphError(f"expected inputs of 1 to {LARGEST_TENSOR} entries together; got {sum(sizes)}")
        taken = {name for node in body.node for name in node.output} | {value.name for value in body.input}
        self.start = inputs[0][0] if len(inputs) == 1 else "inputs"
        while len(inputs) > 1 and self.start in taken:
            self.start += "'"
        self.inputs, top = [], 0
        for (name, shape), size in zip(inputs, sizes, strict=True):
            self.inputs.append(Port(name, shape, top, size))
            self.values[name] = Tensor(self.start, np.arange(top, top + size).reshape(shape))
            top += size
        name = wanted[0] if len(wanted) == 1 else "outputs"
        self.outputs = Operation("Output", name, opset, (), (), name, 1, {})
        held = sum(math.prod(tensor.dims) for tensor in constant_tensors(body))
        self.importer = Importer({self.start: top}, taken | {self.start}, folded_room=MOST_FOLDED + MOST_FOLDS * held)
        nodes = needed_nodes(self.body, self.wanted)
        if len(nodes) > MOST_NODES:
            raise GraphError(f"expected outputs that take at most {MOST_NODES} nodes; got {len(nodes)}")
        for node in nodes:
            self._add(node)

    def give_own_logits(self) -> None:
        """Make an output that is alone all of an ending's, where it can be."""
        tensor = self._value(self.wanted[0], "the outputs")
        if len(self.wanted) == 1 and isinstance(tensor, Tensor):
            self.values[self.wanted[0]] = with_own_logits(self.importer, self.outputs, tensor)

    def classes(self) -> tuple[str, ...]:
        """What the file calls the classes that the outputs stand for, by labels anywhere in it."""
        outputs = [self.values[name] for name in self.wanted]
        tensors = [tensor for tensor in outputs if isinstance(tensor, Tensor)]
        whole = {t.removed or t: t if t.removed is None else ended(t.removed, t.removed.logits.shape) for t in tensors}
        logits = [logit for tensor in whole.values() for logit in logits_in_row(tensor)]
        for node in needed_nodes(self.body, naming_outputs(self.body))[:MOST_NODES]:
            if node.output[0] not in self.values:
                with contextlib.suppress(GraphError):  # what labels are found behind is not read
                    self._add(node)
        found = list(namings(self.body, self.values, self.wanted))
        return class_names(self.importer.nodes, logits, found)

    def network(self) -> OnnxNetwork:
        """The graph to the outputs."""
        tensors, ports, top = [], [], 0
        places: dict[Removed, int] = {}
        for name in self.wanted:
            tensor = self._value(name, "the outputs")
            if not isinstance(tensor, Tensor):
                raise GraphError(f"expected an output that depends on the input; got the constant {name!r}")
            removed, shape, ending = tensor.removed, tensor.shape, None
            if removed is not None:
                if not isinstance(removed.kind, EndingKind):
                    raise GraphError(f"expected an output that is a number; got the {removed.kind} {name!r}")
                entries, tensor = tensor.entries, removed.logits
                ending = Ending(removed.kind, tensor.shape, removed.axis, removed.prefers_last, entries, removed.labels)
                start = places.setdefault(removed, top)
            else:
                start = top
            ports.append(Port(name, shape, start, tensor.entries.size, ending))
            if start == top:
                tensors.append(tensor)
                top += tensor.entries.size
        graph = join_shifts(self.importer.graph(self.outputs, self.start, tensors))
        return OnnxNetwork(graph, tuple(self.inputs), tuple(ports))

    def _value(self, name: str, reader: str) -> Value:
        if name not in self.values and name in self.constants:
            self.values[name] = numpy_helper.to_array(self.constants[name])
        if name not in self.values:
            raise GraphError(f"expected tensors that veriflow computes; got {name!r}, which {reader} reads")
        return self.values[name]

    def _add(self, node: onnx.NodeProto) -> None:
        name = node.name or node.output[0]
        if node.domain not in _DOMAINS:
            raise GraphError(f"expected standard operators; got {node.op_type} of {node.domain!r} in node {name!r}")
        arguments = tuple(self._value(value, f"node {name!r}") if value else None for value in node.input)
        operation = Operation(
            node.op_type,
            name,
            self.opset,
            arguments,
            tuple(node.input),
            node.output[0],
            len(node.output),
            {attribute.name: _attribute(attribute) for attribute in node.attribute},
        )
        results: Sequence[Value]
        if any(isinstance(value, Tensor) for value in arguments):
            results = translate(self.importer, operation)
        else:
            constants = {read: value for read, value in zip(node.input, arguments, strict=True) if read}
            results = folded(self.importer, operation, node, constants)
        self.values.update(zip(node.output, results, strict=False))


def _attribute(attribute: onnx.AttributeProto) -> object:
    value: object = helper.get_attribute_value(attribute)
    if isinstance(value, list):
        return [_decoded(entry) for entry in value]
    return _decoded(value)


def _decoded(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
