"""Which outputs of an ONNX file are read, the nodes that they depend on, and the keys of those that are maps."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from veriflow.errors import GraphError
from veriflow.wording import perhaps

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


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


def map_labels(body: onnx.GraphProto) -> dict[str, tuple[int | str, ...]]:
    """By the name of a ZipMap's output, the keys of its maps in the order of the entries that it reads."""
    return {node.output[0]: _keys(node) for node in body.node if node.op_type == "ZipMap"}


def _keys(node: onnx.NodeProto) -> tuple[int | str, ...]:
    lists = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    keys = lists.get("classlabels_strings") or lists.get("classlabels_int64s") or []
    return tuple(key.decode("utf-8", "replace") if isinstance(key, bytes) else key for key in keys)
