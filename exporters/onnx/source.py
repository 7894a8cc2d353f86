"""Loads and checks an ONNX model: its constants, its external data and the shapes of its inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from veriflow.errors import GraphError, StorageError
from veriflow.files.whole_files import open_file, read_bytes

from .operators.importer import LARGEST_TENSOR, MOST_AXES, MOST_ENTRIES, Shape

Source: TypeAlias = str | Path | bytes | onnx.ModelProto
"""A file, its bytes, or the model that onnx has read from it."""

_OLDEST_OPSET = 7  # before it, broadcasting was an attribute
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_CONSTANTS = range(1, 14)  # numbers and truth values of whole bytes, and text


def load_model(source: Source) -> onnx.ModelProto:
    """The model as it is, with what is read from elsewhere put into it; a given model is left alone.

    Raises:
        StorageError: a file that is missing, too large or no ONNX model, external data that is missing or elsewhere.
        GraphError: what onnx's checker refuses, constants that are too large or do not fit their shapes.
    """
    folder, name = None, "the given model"
    model = onnx.ModelProto()
    try:
        if isinstance(source, onnx.ModelProto):
            model.CopyFrom(source)
        elif isinstance(source, bytes):
            model.ParseFromString(source)
        else:
            folder, name = Path(source).parent, repr(str(source))
            model.ParseFromString(read_bytes(source))
    except (DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"expected an ONNX model in {name}; got: {_first_line(error)}") from None
    if not model.graph.output:
        raise StorageError(f"expected an ONNX model in {name}; got one without a graph or its outputs")
    room = MOST_ENTRIES
    for tensor in constant_tensors(model.graph):
        room -= _entries(tensor)
        if room < 0:
            raise GraphError(f"expected constants of at most {MOST_ENTRIES} entries together; got more")
        if tensor.data_location == TensorProto.EXTERNAL:
            if folder is None:
                raise StorageError(f"expected a model with all its data; got external data of {tensor.name!r}")
            _embed(tensor, folder)
    _complete_types(model.graph)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise GraphError(f"expected a valid ONNX model; got: {_first_line(error)}") from None
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def standard_opset(model: onnx.ModelProto) -> int:
    """The version of the standard operators.

    Raises:
        GraphError: one that is too old or too new, sparse initializers.
    """
    if model.graph.sparse_initializer:
        raise GraphError(f"expected dense constants; got {len(model.graph.sparse_initializer)} sparse ones")
    newest = onnx.defs.onnx_opset_version()
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if not versions or not _OLDEST_OPSET <= max(versions) <= newest:
        raise GraphError(f"expected opset {_OLDEST_OPSET} to {newest}; got {max(versions, default='none')}")
    return int(max(versions))


def constant_tensors(body: onnx.GraphProto) -> Iterator[TensorProto]:
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


def _complete_types(body: onnx.GraphProto) -> None:
    """Give outputs without a type or a shape some, which the checker asks for and nothing else reads."""
    for value in body.output:
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            tensor = value.type.tensor_type
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            if not tensor.HasField("shape"):
                tensor.shape.SetInParent()


def check_batches(inputs: Sequence[onnx.ValueInfoProto]) -> None:
    """Refuse inputs of fixed size beside a batch: they are constants whose values the export has lost."""
    opened = [value for value in inputs if _sizes(value)[:1] == [0]]
    rows = [_sizes(value)[1:] for value in opened]
    fixed = [value.name for value in inputs if value not in opened and _sizes(value) in [[1, *row] for row in rows]]
    if opened and fixed:
        raise GraphError(
            f"expected one row of each input; got {opened[0].name!r}, whose batch is open, beside "
            f"{' and '.join(map(repr, fixed))} of fixed size: constants, such as those of a normalisation layer, that the "
            "export turned into inputs, and that belong into the file as initializers"
        )


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    """The shape of an input, 0 where it is open."""
    return [max(size.dim_value, 0) for size in value.type.tensor_type.shape.dim]


def input_shape(value: onnx.ValueInfoProto) -> Shape:
    """The shape of an input, with an open batch taken as 1.

    Raises:
        GraphError: another type than a float, other open sizes.
    """
    kind = value.type.tensor_type
    if kind.elem_type not in _FLOATS:
        raise GraphError(f"expected an input of type FLOAT16, FLOAT or DOUBLE; got {value.name!r} of another")
    if not kind.HasField("shape"):
        raise GraphError(f"expected an input with a shape; got {value.name!r} without one")
    sizes = _sizes(value)
    if sizes and sizes[0] == 0:
        sizes[0] = 1  # an open batch
    if len(sizes) > MOST_AXES:
        raise GraphError(f"expected inputs of at most {MOST_AXES} axes; got {len(sizes)} of {value.name!r}")
    if not 0 < math.prod(sizes) <= LARGEST_TENSOR:
        raise GraphError(
            f"expected known sizes after the batch axis; got {sizes} in input {value.name!r}, 0 where open"
        )
    return tuple(sizes)
