"""Graph ↔ ONNX.

Written are Gemm (transB, with bias), Relu and Add in float32, opset 13, IR 8, input X ``[1, d]``, output Y ``[1, k]``:
what Marabou, nnenum, αβ-CROWN, vibecheck and pynever read (nnenum and pynever only without Add, see `shifted_chain`).
Read are the operators of `onnx_operators`. Constants pass both ways bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy import sparse

from veriflow.errors import GraphError, StorageError
from veriflow.files import write_atomically
from veriflow.piecewise.graph import Affine, Graph, Matrix, Vector, dense

from .numerals import are_float32
from .onnx_operators import MOST_ENTRIES, Constant, Importer, Operation, Shape, Tensor

OPSET, IR_VERSION = 13, 8
_MOST_BYTES = 2**31 - 1  # what a protocol buffer may hold
_OLDEST_OPSET = 7  # before it, broadcasting was an attribute
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def graph_to_onnx(graph: Graph, path: str | Path | None = None) -> bytes:
    """The graph as an ONNX file's bytes, also written to ``path`` where one is given.

    The input is called X and the output Y, other tensors as in the graph. Every weight of an affine map is a Gemm, or
    nothing where it is one identity among several, and Adds join them.

    Raises:
        GraphError: a constant that is not a float32 number, more constants than an ONNX file holds.
        StorageError: a file that cannot be written.
    """
    size = 4 * sum(math.prod(w.shape) for n in graph.nodes if isinstance(n, Affine) for _, w in n.terms)
    if size > _MOST_BYTES:
        raise GraphError(f"expected weights of at most {_MOST_BYTES} bytes, as an ONNX file holds; got {size}")
    data: bytes = _Writer(graph).model().SerializeToString(deterministic=True)
    if path is not None:
        write_atomically(path, data)
    return data


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names = {graph.input: "X"}
        taken = {"X", "Y"}
        for node in graph.nodes:
            name = node.output
            while name in taken:
                name += "'"
            self.names[node.output] = "Y" if node.output == graph.output else name
            taken.add(name)

    def model(self) -> onnx.ModelProto:
        for node in self.graph.nodes:
            if isinstance(node, Affine):
                self._affine(node)
            else:
                self._node("Relu", [self.names[node.input]], self.names[node.output])
        if self.graph.output == self.graph.input:
            size = self.graph.input_size
            self._gemm("X", np.eye(size), np.zeros(size), "Y")
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
            for name, size in (("X", self.graph.input_size), ("Y", self.graph.output_size))
        ]
        body = helper.make_graph(self.nodes, "veriflow", ends[:1], ends[1:], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(body, opset_imports=opset, ir_version=IR_VERSION, producer_name="veriflow")

    def _affine(self, node: Affine) -> None:
        output = self.names[node.output]
        terms = list(node.terms) or [(self.graph.input, np.zeros((len(node.bias), self.graph.input_size)))]
        plain = [_is_identity(weight) for _, weight in terms]
        if all(plain):
            plain[0] = bool(len(terms) > 1 and not node.bias.any())
        bearer = plain.index(False) if not all(plain) else None
        summands = []
        for k, (name, weight) in enumerate(terms):
            if plain[k]:
                summands.append(self.names[name])
                continue
            part = output if len(terms) == 1 else self._unused(f"{output}.{k}")
            self._gemm(self.names[name], weight, node.bias if k == bearer else np.zeros(len(node.bias)), part)
            summands.append(part)
        total = summands[0]
        for k, summand in enumerate(summands[1:], start=1):
            last = k == len(summands) - 1
            total = self._node("Add", [total, summand], output if last else self._unused(f"{output}.sum.{k}"))

    def _gemm(self, source: str, weight: Matrix, bias: Vector, output: str) -> None:
        names = [self._constant(f"{output}.weight", dense(weight)), self._constant(f"{output}.bias", bias)]
        self._node("Gemm", [source, *names], output, transB=1)

    def _constant(self, name: str, values: Vector) -> str:
        exact = are_float32(values)
        if not exact.all():
            raise GraphError(f"expected float32 numbers in {name!r}; got {values[~exact][0]!r}")
        name = self._unused(name)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{operator}.{len(self.nodes)}", **attributes))
        return output

    def _unused(self, name: str) -> str:
        while name in self.names.values():
            name += "'"
        return name


def _is_identity(weight: Matrix) -> bool:
    rows, columns = weight.shape
    if rows != columns:
        return False
    entries = sparse.coo_array(weight)
    entries.eliminate_zeros()
    return entries.nnz == rows and bool((entries.row == entries.col).all() and (entries.data == 1).all())


def read_onnx(path: str | Path) -> Graph:
    """The network in an ONNX file; tensors are named as in the file, constants keep their bits (in float64).

    One float input and one output; a batch axis that is 1, or symbolic and then taken as 1; opset 7 or later.
    External data is read from the file's folder.

    Raises:
        StorageError: a file that is missing, too large or no ONNX model.
        GraphError: operators other than those of `exporters.onnx_operators`, several inputs, open or huge shapes,
            constants that are not finite float32 or float64 numbers, a cycle.
    """
    model = _loaded(Path(path))
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise GraphError(f"expected a valid ONNX model; got: {_first_line(error)}") from None
    _check_opsets(model)
    body = model.graph
    constants = {tensor.name: _array(tensor) for tensor in body.initializer}
    inputs = [value for value in body.input if value.name not in constants]
    if len(inputs) != 1 or len(body.output) != 1 or body.sparse_initializer:
        raise GraphError(
            f"expected one input, one output and dense constants; got {len(inputs)} inputs, {len(body.output)} outputs "
            f"and {len(body.sparse_initializer)} sparse constants"
        )
    start = Tensor(inputs[0].name, _input_shape(inputs[0]))
    importer = Importer(start, {**constants, start.name: start})
    for node in body.node:
        importer.add(_operation(node))
    return importer.graph(body.output[0].name)


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise StorageError(f"expected an ONNX file of at most {_MOST_BYTES} bytes; got {size} in {str(path)!r}")
        model = onnx.load(path)
    except OSError as error:
        raise StorageError(f"expected a readable ONNX file; got {error}") from None
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise StorageError(f"expected an ONNX model in {str(path)!r}; got: {_first_line(error)}") from None
    if not model.graph.node and not model.graph.output:
        raise StorageError(f"expected an ONNX model in {str(path)!r}; got a file without a graph")
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _check_opsets(model: onnx.ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < _OLDEST_OPSET:
            raise GraphError(f"expected opset {_OLDEST_OPSET} or later; got {opset.version}")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(
                f"expected standard operators; got {node.op_type} of {node.domain!r} in node {node.name!r}"
            )


def _array(tensor: onnx.TensorProto) -> Constant:
    """A constant of the file as float64 or, for shapes, int64; its size is checked before anything is allocated."""
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    if tensor.data_type not in (*_FLOATS, *_INTEGERS):
        raise GraphError(f"expected constants of type FLOAT, DOUBLE, INT32 or INT64; got {kind} in {tensor.name!r}")
    entries = math.prod(tensor.dims)
    if not 0 < entries <= MOST_ENTRIES:
        raise GraphError(f"expected constants of 1 to {MOST_ENTRIES} entries; got {entries} in {tensor.name!r}")
    try:
        values: NDArray[np.float64] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise GraphError(f"expected {entries} entries in {tensor.name!r}; got: {_first_line(error)}") from None
    if tensor.data_type in _INTEGERS:
        return values.astype(np.int64)
    if not np.isfinite(values).all():
        raise GraphError(f"expected finite constants; got NaN or infinity in {tensor.name!r}")
    return values.astype(np.float64)


def _input_shape(value: onnx.ValueInfoProto) -> Shape:
    kind = value.type.tensor_type
    if kind.elem_type not in _FLOATS:
        raise GraphError(f"expected an input of type FLOAT or DOUBLE; got {value.name!r} of another")
    sizes = [size.dim_value for size in kind.shape.dim]
    if len(sizes) > 1 and sizes[0] == 0:
        sizes[0] = 1  # a symbolic batch
    if len(sizes) > 1 and sizes[0] != 1:
        raise GraphError(f"expected a batch of 1 or of any size; got one of {sizes[0]} in input {value.name!r}")
    if not 0 < math.prod(sizes) <= MOST_ENTRIES or min(sizes, default=1) < 1:
        raise GraphError(
            f"expected known sizes after the batch axis; got {sizes} in input {value.name!r}, 0 where open"
        )
    return tuple(sizes)


def _operation(node: onnx.NodeProto) -> Operation:
    attributes: Mapping[str, object] = {a.name: _attribute(node, a) for a in node.attribute}
    return Operation(node.op_type, node.name or node.output[0], tuple(node.input), tuple(node.output), attributes)


def _attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> object:
    value: object = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
        return np.asarray(value, dtype=np.float64 if "float" in attribute.name else np.int64)
    return value
