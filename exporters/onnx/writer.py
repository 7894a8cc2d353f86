"""Graph → ONNX.

Written are Gemm (transB, with bias), Relu and Add, opset 13, IR 8, input X ``[1, d]``, output Y ``[1, k]``: what Marabou,
nnenum, αβ-CROWN, vibecheck and pynever read in float32 (nnenum and pynever only without Add, see `shifted_chain`). Constants
pass bit for bit where the file's type holds them; where the graph divides, the constants are the quotients in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy import sparse

from veriflow.errors import GraphError
from veriflow.files.whole_files import write_atomically
from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.graph import Affine, Graph, dense, with_rounded_quotients

from ..forms.float32_form import is_float32

Precision = Literal["float", "double"]

OPSET, IR_VERSION = 13, 8
_MOST_BYTES = 2**31 - 1  # what a protocol buffer may hold
_TYPES: Mapping[Precision, tuple[int, type]] = {
    "float": (onnx.TensorProto.FLOAT, np.float32),
    "double": (onnx.TensorProto.DOUBLE, np.float64),
}
_MOST_PADDING = 2**28  # bytes of zeros that sparse weights may gain as Gemms


def graph_to_onnx(graph: Graph, path: str | Path | None = None, precision: Precision | None = None) -> bytes:
    """The graph as an ONNX file's bytes, also written to ``path`` where one is given.

    The input is called X and the output Y, other tensors as in the graph. Every weight of an affine map is a Gemm, or
    nothing where it is one identity among several, and Adds join them. A sparse weight is written with all its zeros.

    Args:
        graph: any graph.
        path: where to write, if anywhere.
        precision: FLOAT or DOUBLE, to which constants are rounded; FLOAT where that rounds none, if None.

    Raises:
        GraphError: more constants than an ONNX file holds, sparse weights that would be mostly zeros in a large file, as
            those of large convolutions are, constants beyond float32 in FLOAT.
        StorageError: a file that cannot be written.
    """
    graph = with_rounded_quotients(graph)
    precision = precision or ("float" if is_float32(graph) else "double")
    width = 4 if precision == "float" else 8
    weights = [w for n in graph.nodes if isinstance(n, Affine) for _, w in n.terms]
    size = width * sum(math.prod(w.shape) for w in weights)
    if size > _MOST_BYTES:
        raise GraphError(f"expected weights of at most {_MOST_BYTES} bytes, as an ONNX file holds; got {size}")
    padding = width * sum(math.prod(w.shape) - w.nnz for w in weights if sparse.issparse(w))
    if padding > _MOST_PADDING:
        raise GraphError(f"expected sparse weights that gain at most {_MOST_PADDING} bytes as Gemms; got {padding}")
    data: bytes = _Writer(graph, precision).model().SerializeToString(deterministic=True)
    if path is not None:
        write_atomically(path, data)
    return data


class _Writer:
    def __init__(self, graph: Graph, precision: Precision) -> None:
        self.graph = graph
        self.type, self.dtype = _TYPES[precision]
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
            helper.make_tensor_value_info(name, self.type, [1, size])
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
        with np.errstate(over="ignore"):
            written: NDArray[Any] = np.ascontiguousarray(values, dtype=self.dtype)
        if not np.isfinite(written).all():
            raise GraphError(f"expected numbers in the range of float32 in {name!r}; got {np.abs(values).max():g}")
        name = self._unused(name)
        self.constants.append(numpy_helper.from_array(written, name))
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
