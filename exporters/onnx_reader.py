"""ONNX → graph: what a file must be before its operators are looked at, and the network that it holds."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from veriflow.endings import Ending as EndingName
from veriflow.errors import GraphError, StorageError
from veriflow.files import open_file, read_bytes
from veriflow.piecewise import Graph, join_shifts

from .onnx_folding import folded
from .onnx_graph import LARGEST_TENSOR, MOST_ENTRIES, EndingKind, Importer, Operation, Shape, Tensor, Value
from .onnx_operators import translate

_log = logging.getLogger(__name__)

_OLDEST_OPSET = 7  # before it, broadcasting was an attribute
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_CONSTANTS = (*range(1, 8), *range(9, 14))  # numbers and truth values of whole bytes; 8 is text


@dataclass(frozen=True, eq=False)
class Ending:
    """The last operation of an output, which is not piecewise affine and was taken off.

    The port's slice of the graph's output holds the operation's input, the logits, in the order of ``shape``.

    Attributes:
        kind: Sigmoid, Softmax, LogSoftmax or ArgMax.
        shape: of the logits.
        axis: along which the operation runs, None for Sigmoid, which works entry by entry.
        prefers_last: whether ArgMax takes the last of several largest entries, not the first.
        entries: the output, in its own shape, as positions in the operation's flat result; that result has the shape
            of the logits, for ArgMax without the axis.
    """

    kind: EndingKind
    shape: Shape
    axis: int | None
    prefers_last: bool
    entries: NDArray[np.int64]


LogitEnding = tuple[EndingName, int]
"""What stands after the logits, and how many logits there are."""

_NAMES: dict[EndingKind, EndingName] = {
    EndingKind.SIGMOID: "sigmoid",
    EndingKind.SOFTMAX: "softmax",
    EndingKind.LOG_SOFTMAX: "log-softmax",
    EndingKind.ARGMAX: "argmax",
}


@dataclass(frozen=True, eq=False)
class Port:
    """One input or output of the file, and where it lies in the graph's flat input or output.

    Attributes:
        name: as in the file.
        shape: as in the file, with an open batch taken as 1.
        start: its first entry in the flat vector.
        size: number of its entries there: those of ``shape``, or of ``ending.shape``.
        ending: what was taken off an output, if anything.
    """

    name: str
    shape: Shape
    start: int
    size: int
    ending: Ending | None = None

    @property
    def slice(self) -> slice:
        """Its entries in the flat vector."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """What an ONNX file computes.

    Attributes:
        graph: from all inputs to all outputs, each one flat vector in the order of the file.
        inputs: the file's inputs, without those that are constants.
        outputs: the file's outputs.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_onnx(path: str | Path) -> Graph:
    """The graph of `read_network`, for a network of affine maps and ReLUs to its very end.

    Raises:
        StorageError, GraphError: as `read_network`; GraphError also for a last Sigmoid, Softmax, LogSoftmax or ArgMax.
    """
    network = read_network(path)
    for port in network.outputs:
        if port.ending is not None:
            raise GraphError(
                f"expected a network of affine maps and ReLUs to its end; got {port.ending.kind} before output "
                f"{port.name!r}, which exporters.read_network takes off"
            )
    return network.graph


def read_logits(path: str | Path) -> tuple[Graph, LogitEnding | None]:
    """The graph of `read_network` up to the logits, and what follows them: its kind in lower case, and how many logits.

    Raises:
        StorageError, GraphError: as `read_network`; GraphError also for an ending beside other outputs, one that takes
            the logits in groups or in another order, and an ArgMax that prefers the last of several.
    """
    network = read_network(path)
    endings = [port.ending for port in network.outputs if port.ending is not None]
    if not endings:
        return network.graph, None
    ending, count = endings[0], network.graph.output_size
    along = ending.axis is None or ending.shape[ending.axis] == count
    if len(network.outputs) > 1 or not along or ending.prefers_last or (np.diff(ending.entries.reshape(-1)) != 1).any():
        raise GraphError(
            f"expected one {ending.kind} over all logits in their order; got another one in {Path(path).name!r}"
        )
    return network.graph, (_NAMES[ending.kind], count)


def read_network(path: str | Path) -> OnnxNetwork:
    """The network in an ONNX file, opset 7 or later: constants keep their bits (in float64), vectors their names.

    Inputs are float or double; an open first axis is a batch and taken as 1. A vector of the graph has the order of
    its first appearance: a later Transpose changes the order in which it is read, not the vector. External data is read
    from the file's folder. Operators: see docs/formats.md.

    Raises:
        StorageError: a file that is missing, too large or no ONNX model, external data that is missing or elsewhere.
        GraphError: other operators, open or huge shapes, constants that are not finite numbers, a cycle.
    """
    model = _loaded(Path(path))
    opset = _opset(model)
    network = _Reading(model.graph, opset).network()
    _log.info("read %s, opset %d: %r", path, opset, network.graph)
    return network


class _Reading:
    """One pass over the nodes of a file."""

    def __init__(self, body: onnx.GraphProto, opset: int) -> None:
        self.body, self.opset = body, opset
        self.values: dict[str, Value] = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
        inputs = [(value.name, _input_shape(value)) for value in body.input if value.name not in self.values]
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
        outputs = Operation("Output", "outputs", opset, (), (), "outputs", 1, {})
        self.importer = Importer({self.start: top}, taken | {self.start}, outputs)

    def network(self) -> OnnxNetwork:
        for node in self.body.node:
            self._add(node)
        tensors, ports, top = [], [], 0
        for value in self.body.output:
            tensor = self._value(value.name, "the outputs")
            if not isinstance(tensor, Tensor):
                raise GraphError(f"expected an output that depends on the input; got the constant {value.name!r}")
            removed, shape, ending = tensor.removed, tensor.shape, None
            if removed is not None:
                entries, tensor = tensor.entries, removed.logits
                ending = Ending(removed.kind, tensor.shape, removed.axis, removed.prefers_last, entries)
            ports.append(Port(value.name, shape, top, tensor.entries.size, ending))
            tensors.append(tensor)
            top += tensor.entries.size
        name = ports[0].name if len(ports) == 1 else "outputs"
        self.importer.operation = Operation("Output", name, self.opset, (), (), name, 1, {})
        graph = join_shifts(self.importer.graph(self.start, tensors))
        return OnnxNetwork(graph, tuple(self.inputs), tuple(ports))

    def _value(self, name: str, reader: str) -> Value:
        if name not in self.values:
            raise GraphError(f"expected tensors that veriflow computes; got {name!r}, which {reader} reads")
        return self.values[name]

    def _add(self, node: onnx.NodeProto) -> None:
        name = node.name or node.output[0]
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
            self.importer.operation = operation
            constants = {read: value for read, value in zip(node.input, arguments, strict=True) if read}
            results = folded(self.importer, node, self.opset, constants)
        self.values.update(zip(node.output, results, strict=False))


def _attribute(attribute: onnx.AttributeProto) -> object:
    value: object = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(read_bytes(path))
    except (DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"expected an ONNX model in {str(path)!r}; got: {_first_line(error)}") from None
    if not model.graph.output:
        raise StorageError(f"expected an ONNX model in {str(path)!r}; got a file without a graph or its outputs")
    room = MOST_ENTRIES
    for tensor in _tensors(model.graph):
        room -= _entries(tensor)
        if room < 0:
            raise GraphError(f"expected constants of at most {MOST_ENTRIES} entries together; got more")
        if tensor.data_location == TensorProto.EXTERNAL:
            _embed(tensor, path.parent)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise GraphError(f"expected a valid ONNX model; got: {_first_line(error)}") from None
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _opset(model: onnx.ModelProto) -> int:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(
                f"expected standard operators; got {node.op_type} of {node.domain!r} in node {node.name!r}"
            )
    if model.graph.sparse_initializer:
        raise GraphError(f"expected dense constants; got {len(model.graph.sparse_initializer)} sparse ones")
    newest = onnx.defs.onnx_opset_version()
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if not versions or not _OLDEST_OPSET <= max(versions) <= newest:
        raise GraphError(f"expected opset {_OLDEST_OPSET} to {newest}; got {max(versions, default='none')}")
    return int(max(versions))


def _tensors(body: onnx.GraphProto) -> Iterator[TensorProto]:
    """The constants of a file, wherever they stand."""
    yield from body.initializer
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def _entries(tensor: TensorProto) -> int:
    """How many entries the tensor has; nothing is allocated before it is known that it holds them."""
    if tensor.data_type not in _CONSTANTS:
        kinds = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else ""
        raise GraphError(f"expected constants that are numbers; got {kinds or tensor.data_type} in {tensor.name!r}")
    entries: int = math.prod(tensor.dims)
    if min(tensor.dims, default=1) < 0 or entries > MOST_ENTRIES:
        raise GraphError(
            f"expected constants of 0 to {MOST_ENTRIES} entries; got {list(tensor.dims)} in {tensor.name!r}"
        )
    if tensor.data_location != TensorProto.EXTERNAL:
        try:
            numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise GraphError(f"expected {entries} entries in {tensor.name!r}; got: {_first_line(error)}") from None
    return entries


def _embed(tensor: TensorProto, folder: Path) -> None:
    """Read a constant's external data, which lies in the file's folder, into the constant."""
    keys = {entry.key: entry.value for entry in tensor.external_data}
    size = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    try:
        file = (folder / keys.get("location", "")).resolve()
        start, length = int(keys.get("offset", 0)), int(keys.get("length", size))
        if not file.is_relative_to(folder.resolve()) or start < 0 or length != size:
            raise StorageError(
                f"expected {size} bytes of {tensor.name!r} in a file of the model's folder; got {length} at {start} "
                f"in {keys.get('location')!r}"
            )
        with open_file(file, most=2**40) as stream:
            stream.seek(start)
            data = stream.read(min(size, os.fstat(stream.fileno()).st_size))
    except (OSError, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"expected the external data of {tensor.name!r}; got {_first_line(error)}") from None
    if len(data) != size:
        raise StorageError(f"expected {size} bytes of {tensor.name!r} in {keys['location']!r}; got {len(data)}")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = data


def _input_shape(value: onnx.ValueInfoProto) -> Shape:
    kind = value.type.tensor_type
    if kind.elem_type not in _FLOATS:
        raise GraphError(f"expected an input of type FLOAT or DOUBLE; got {value.name!r} of another")
    if not kind.HasField("shape"):
        raise GraphError(f"expected an input with a shape; got {value.name!r} without one")
    sizes = [size.dim_value if size.dim_value > 0 else 0 for size in kind.shape.dim]
    if sizes and sizes[0] == 0:
        sizes[0] = 1  # an open batch
    if not 0 < math.prod(sizes) <= LARGEST_TENSOR:
        raise GraphError(
            f"expected known sizes after the batch axis; got {sizes} in input {value.name!r}, 0 where open"
        )
    return tuple(sizes)
