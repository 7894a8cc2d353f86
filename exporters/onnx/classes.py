"""What an ONNX file calls its classes: the labels behind ArgMax and the keys of maps, by the logits that they stand for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import onnx
from scipy import sparse

from veriflow.piecewise.graph import Affine, Node

from .operators.endings import logits_of
from .operators.importer import EndingKind, Removed, Tensor, Value
from .outputs import map_labels

Logit = tuple[str, int] | None
"""An entry of one of the graph's vectors, or the number 0."""

Form = Mapping[tuple[str, int], Fraction]
"""A sum of multiples of entries; that of the entry ("", 0) is a constant."""

_LABELLING = ("ZipMap", "LinearClassifier", "LabelEncoder")
_CHOOSING = ("ArrayFeatureExtractor", "Gather")

_SHORT = 2
"""Entries of a sum through which logits are always followed."""


class Naming(NamedTuple):
    """The labels of logits, as one node of the file has them.

    Attributes:
        logits: of one row.
        labels: one for each.
        own: whether they are those of the output that is read.
    """

    logits: tuple[Logit, ...]
    labels: tuple[int | str, ...]
    own: bool


def naming_outputs(body: onnx.GraphProto) -> list[str]:
    """Results of the nodes that bring labels into a file."""
    constants = {tensor.name for tensor in body.initializer}
    constants |= {node.output[0] for node in body.node if node.op_type == "Constant"}
    return [
        node.output[0]
        for node in body.node
        if node.op_type in _LABELLING or (node.op_type in _CHOOSING and node.input[0] in constants)
    ]


def namings(body: onnx.GraphProto, values: Mapping[str, Value], wanted: Sequence[str]) -> Iterator[Naming]:
    """All labels that belong to logits, but for those that a LabelEncoder replaces."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    keys = map_labels(body)
    replaced: set[Removed | None] = set()
    for node in body.node:
        if node.op_type == "LabelEncoder" and node.input[0] in tensors:
            replaced.add(tensors[node.input[0]].removed)
        if node.output[0] in keys and node.input[0] in tensors:
            tensor = tensors[node.input[0]]
            yield Naming(logits_in_row(tensor), keys[node.output[0]], node.output[0] in wanted)
    labelled = {tensor.removed: tensor for tensor in tensors.values() if tensor.removed and tensor.removed.labels}
    chosen = {tensors[name].removed for name in wanted if name in tensors}
    for removed in labelled:
        if removed is not None and removed not in replaced:
            yield Naming(_row(removed.logits, removed.axis), removed.labels, removed in chosen)


def logits_in_row(tensor: Tensor) -> tuple[Logit, ...]:
    """The logits of the first row of a tensor, two for one Sigmoid alone: 0 and l."""
    removed = tensor.removed
    if removed is None:
        return _row(tensor, None)
    if removed.kind is EndingKind.ARGMAX:
        return _row(removed.logits, removed.axis)
    if not isinstance(removed.kind, EndingKind):
        return ()
    logits = _row(logits_of(tensor), None)
    return (None, *logits) if removed.kind is EndingKind.SIGMOID and len(logits) == 1 else logits


def _row(tensor: Tensor, axis: int | None) -> tuple[Logit, ...]:
    entries = tensor.entries
    if axis is not None:
        first = tuple(slice(None) if place == axis else 0 for place in range(entries.ndim))
        entries = entries[first]
    elif entries.ndim > 1:
        entries = entries[0]
    return tuple((tensor.name, entry) for entry in entries.reshape(-1).tolist())


def class_names(nodes: Sequence[Node], logits: Sequence[Logit], found: Sequence[Naming]) -> tuple[str, ...]:
    """The names of the classes that logits stand for, those that the output itself has first; empty where none are known.

    Labels belong to logits that are the same numbers, or of two to the sign of their difference. Where a file has a name
    for different logits, none is given.
    """
    affine = {node.output: node for node in nodes if isinstance(node, Affine)}
    lists = [
        (naming.own, tuple(map(str, names)))
        for naming in found
        if len(naming.labels) == len(naming.logits) == len(logits)
        and (names := _ordered(affine, logits, naming)) is not None
    ]
    places: dict[str, int] = {}
    for _, names in lists:
        if any(places.setdefault(name, place) != place for place, name in enumerate(names)):
            return ()
    return max(reversed(lists), key=lambda one: one[0], default=(False, ()))[1]


def _ordered(affine: dict[str, Affine], logits: Sequence[Logit], naming: Naming) -> Sequence[int | str] | None:
    """The labels in the order of the given logits; None where they are those of others."""
    if len(logits) == 2:
        own, other = (_direction(affine, pair) for pair in (logits, naming.logits))
        if not own or own.keys() != other.keys():
            return None
        signs = {own[key] / other[key] for key in own}
        return None if len(signs) > 1 else naming.labels if signs == {1} else naming.labels[::-1]
    known = {_key(affine, logit): place for place, logit in enumerate(naming.logits)}
    places = [known.get(_key(affine, logit)) for logit in logits]
    found = [place for place in places if place is not None]
    return [naming.labels[place] for place in found] if sorted(found) == list(range(len(logits))) else None


def _key(affine: dict[str, Affine], logit: Logit) -> frozenset[tuple[tuple[str, int], Fraction]]:
    return frozenset(_resolved(affine, {} if logit is None else {logit: Fraction(1)}, _SHORT).items())


def _direction(affine: dict[str, Affine], pair: Sequence[Logit]) -> Form:
    """The second logit minus the first, over the size of its largest coefficient, through one more sum of any length."""
    form: dict[tuple[str, int], Fraction] = defaultdict(Fraction)
    for logit, sign in zip(pair, (-1, 1), strict=True):
        if logit is not None:
            form[logit] += sign
    form = _resolved(affine, form, _SHORT)
    form = _resolved({name: affine[name] for name, _ in form if name in affine}, form, math.inf)
    size = max(map(abs, form.values()), default=Fraction(1))
    return {key: value / size for key, value in form.items()}


def _resolved(affine: dict[str, Affine], form: Form, most: float) -> dict[tuple[str, int], Fraction]:
    """The form with entries replaced by what the maps, in the order of the graph, make them of, if of so few others."""
    total: dict[tuple[str, int], Fraction] = defaultdict(Fraction, form)
    for name, node in reversed(affine.items()):
        places = [place for read, place in total if read == name] if node.divisor is None else []
        for place in places:
            rows = [(read, sparse.csr_array(weight[[place]])) for read, weight in node.terms]
            if sum(row.nnz for _, row in rows) > most:
                continue
            factor = total.pop((name, place))
            total["", 0] += factor * Fraction(float(node.bias[place]))
            for read, row in rows:
                for column, weight in zip(row.indices.tolist(), row.data.tolist(), strict=True):
                    total[read, column] += factor * Fraction(weight)
    return {key: value for key, value in total.items() if value}
