"""Which outputs of an ONNX file are read, what they need, and what the file calls its classes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper, numpy_helper

from veriflow.errors import GraphError
from veriflow.wording import perhaps

from .operators.endings import label_values

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

_LISTS = {
    "ZipMap": ("classlabels_strings", "classlabels_int64s"),
    "LinearClassifier": ("classlabels_strings", "classlabels_ints"),
    "LabelEncoder": ("values_strings", "values_int64s"),
}


def wanted_outputs(body: onnx.GraphProto, output: str | None, *, scores: bool) -> list[str]:
    """The output of that name, or all of them; with ``scores`` without labels and texts, if others are left.

    Raises:
        GraphError: an output that is not there.
    """
    names = [value.name for value in body.output]
    if output is None:
        kept = [value.name for value in body.output if _is_score(value)] if scores else []
        return kept or names
    if output not in names:
        known = ", ".join(map(repr, names))
        raise GraphError(f"expected an output among {known}; got {output!r}{perhaps(output, names)}")
    return [output]


def _is_score(value: onnx.ValueInfoProto) -> bool:
    """Whether an output is of a float type, or a list of maps from classes to probabilities."""
    kind = value.type.WhichOneof("value")
    return kind == "sequence_type" or (kind == "tensor_type" and value.type.tensor_type.elem_type in _FLOATS)


def needed_nodes(body: onnx.GraphProto, outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on, in the file's order."""
    needed, kept = set(outputs), []
    for node in reversed(body.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def class_names(body: onnx.GraphProto, count: int) -> tuple[str, ...]:
    """The names of that many classes, where the file has them: of the maps, or of the labels that are chosen from.

    They stand in ai.onnx.ml's ZipMap, LinearClassifier and LabelEncoder, and in constants that ArrayFeatureExtractor or
    Gather choose from by what ArgMax gives. Where a file has several lists of that length, the last one counts; a
    LabelEncoder renames what was found before it.
    """
    constants = {tensor.name: tensor for tensor in body.initializer}
    chosen = {name for node in body.node if node.op_type == "ArgMax" for name in node.output}
    found: Sequence[int | str] = ()
    for node in body.node:
        values: Sequence[int | str] = []
        if node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[1] in chosen:
            tensor = constants.get(node.input[0])
            values = [] if tensor is None else label_values(numpy_helper.to_array(tensor))
        elif node.op_type in _LISTS:
            values = _list(node, *_LISTS[node.op_type])
            if node.op_type == "LabelEncoder":
                keys = _list(node, "keys_int64s", "keys_strings", "keys_floats")
                table = dict(zip(keys, values, strict=False))
                values = [table[label] for label in found or range(count) if label in table]
        if len(values) == count:
            found = values
    names = tuple(map(str, found))
    return names if len(set(names)) == count else ()


def _list(node: onnx.NodeProto, *names: str) -> list[int | str]:
    """The first of several attributes that is there and not empty."""
    lists = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    values: Sequence[bytes | int] = next((lists[name] for name in names if lists.get(name)), [])
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]


def map_labels(body: onnx.GraphProto) -> dict[str, tuple[int | str, ...]]:
    """By the name of a ZipMap's output, the keys of its maps in the order of the entries that it reads."""
    return {node.output[0]: tuple(_list(node, *_LISTS["ZipMap"])) for node in body.node if node.op_type == "ZipMap"}
