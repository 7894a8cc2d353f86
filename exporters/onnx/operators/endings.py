"""The last Sigmoid, Softmax, LogSoftmax or ArgMax of a network, which is recorded and left out of the graph.

What classifiers add after it is recorded with it: 1 − σ(l) is σ(−l), the pair (1 − σ(l), σ(l)) is the Softmax of (0, l), an
ArgMax of probabilities is the ArgMax of their logits, and labels looked up by an ArgMax become the names of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import sparse

from veriflow.errors import GraphError
from veriflow.piecewise.graph import Affine

from . import choices
from .importer import EndingKind, Entries, Importer, Operation, PassingKind, Removed, Shape, Tensor

_PLACES: Mapping[EndingKind | PassingKind, str] = {
    PassingKind.COMPARISON: "before Where",
    PassingKind.TOTAL: "before the quotient by it",
}
_PROBABILITIES = (EndingKind.SIGMOID, EndingKind.SOFTMAX)


def ended(removed: Removed, shape: Shape) -> Tensor:
    """The whole result of a removed operation, in a shape."""
    return Tensor(removed.logits.name, np.arange(math.prod(shape)).reshape(shape), removed)


def removed_of(tensor: Tensor) -> Removed:
    """The removed operation whose result a tensor is."""
    if tensor.removed is None:
        raise TypeError("expected a tensor behind an ending; got another one")
    return tensor.removed


def misplaced(operation: Operation, removed: Removed) -> GraphError:
    """The error for an operator that may not follow the removed operation."""
    place = _PLACES.get(removed.kind, "at the end of the network")
    return GraphError(
        f"expected {removed.kind} {place} alone; got {removed.kind} node {removed.node!r} before "
        f"{operation.operator} node {operation.name!r}"
    )


def sigmoid(importer: Importer, operation: Operation) -> Tensor:
    """Sigmoid."""
    del importer
    tensor = operation.tensor()
    return ended(Removed(EndingKind.SIGMOID, operation.name, tensor), tensor.shape)


def softmax(importer: Importer, operation: Operation) -> Tensor:
    """Softmax and LogSoftmax; before opset 13 over all axes from the given one on, as if they were one."""
    del importer
    logits, kind = operation.tensor(), EndingKind(operation.operator)
    shape, rank = logits.shape, len(logits.shape)
    axis = operation.axis(operation.attributes.get("axis", 1 if operation.opset < 13 else -1), rank)
    if operation.opset < 13:
        logits = logits.chosen(logits.entries.reshape(math.prod(shape[:axis]), -1))
        axis = 1
    return ended(Removed(kind, operation.name, logits, axis), shape)


def argmax(importer: Importer, operation: Operation) -> Tensor:
    """ArgMax, of probabilities as of their logits: all three functions before it keep the order of logits."""
    del importer
    tensor, last = operation.tensor(), operation.flag("select_last_index")
    axis = operation.axis(operation.attributes.get("axis", 0), len(tensor.shape))
    middle = (1,) if operation.flag("keepdims", 1) else ()
    shape = (*tensor.shape[:axis], *middle, *tensor.shape[axis + 1 :])
    if tensor.removed is not None:
        if not isinstance(tensor.removed.kind, EndingKind) or tensor.removed.kind is EndingKind.ARGMAX:
            raise misplaced(operation, tensor.removed)
        groups = _groups(tensor.removed)[tensor.entries]
        if (groups != groups.take([0], axis)).any():
            raise operation.refused(f"entries of one {tensor.removed.kind} to choose from", "those of several")
        tensor = logits_of(tensor)
    return ended(Removed(EndingKind.ARGMAX, operation.name, tensor, axis, last), shape)


def _groups(removed: Removed) -> Entries:
    """For each entry of the flat result the number of its group; within a group entries are ordered as their logits."""
    shape = removed.logits.shape
    if removed.axis is None:
        return np.zeros(math.prod(shape), dtype=np.int64)
    places = np.arange(math.prod(shape)).reshape(shape)
    return np.broadcast_to(places.min(axis=removed.axis, keepdims=True), shape).reshape(-1)


def logits_of(tensor: Tensor) -> Tensor:
    """The logit of each entry behind a Sigmoid, Softmax or LogSoftmax."""
    logits = removed_of(tensor).logits
    return logits.chosen(logits.entries.reshape(-1)[tensor.entries])


def with_own_logits(importer: Importer, operation: Operation, tensor: Tensor) -> Tensor:
    """An output as all of an ending of logits of its own, in their order; as it is where it is no such ending's.

    All of an ending in another order is one of logits in that order; entries of a Softmax of two are Sigmoids.
    """
    removed = tensor.removed
    if removed is None or removed.kind in (EndingKind.ARGMAX, *PassingKind) or _is_whole(tensor):
        return tensor
    if tensor.entries.size == removed.logits.entries.size and np.unique(tensor.entries).size == tensor.entries.size:
        if removed.axis is None:
            return ended(Removed(removed.kind, removed.node, logits_of(tensor)), tensor.shape)
        groups, size = _groups(removed)[tensor.entries], removed.logits.shape[removed.axis]
        for axis, length in enumerate(tensor.shape):
            if length == size and (groups == groups.take([0], axis)).all():
                return ended(Removed(removed.kind, removed.node, logits_of(tensor), axis), tensor.shape)
    if removed.kind is EndingKind.SOFTMAX and removed.logits.shape[removed.axis or 0] == 2:
        return ended(
            Removed(EndingKind.SIGMOID, removed.node, _sigmoid_logits(importer, operation, tensor)), tensor.shape
        )
    return tensor


def complement(importer: Importer, operation: Operation) -> Tensor:
    """Sub of 1 and a Sigmoid: σ(−l) = 1 − σ(l)."""
    tensor = operation.arguments[1]
    if not isinstance(tensor, Tensor) or isinstance(operation.arguments[0], Tensor):
        raise misplaced(operation, removed_of(operation.tensor()))
    removed, one = removed_of(tensor), operation.numbers(0)
    if (
        removed.kind is not EndingKind.SIGMOID
        or (one != 1).any()
        or np.broadcast_shapes(one.shape, tensor.shape) != (tensor.shape)
    ):
        raise misplaced(operation, removed)
    logits = importer.combine(operation, "", [(logits_of(tensor), -1.0)], 0.0)
    source = removed if _is_whole(tensor) else None
    return ended(replace(removed, node=operation.name, logits=logits, source=source), tensor.shape)


def _sigmoid_logits(importer: Importer, operation: Operation, tensor: Tensor) -> Tensor:
    """The logit of each entry behind a Sigmoid, or behind a Softmax of two, which is σ of their difference."""
    removed = removed_of(tensor)
    if removed.kind is EndingKind.SIGMOID:
        return logits_of(tensor)
    if removed.kind is not EndingKind.SOFTMAX or removed.logits.shape[removed.axis or 0] != 2:
        raise misplaced(operation, removed)
    other = np.flip(np.arange(removed.logits.entries.size).reshape(removed.logits.shape), removed.axis).reshape(-1)
    own, others = (logits_of(tensor.chosen(places)) for places in (tensor.entries, other[tensor.entries]))
    return importer.combine(operation, "difference", [(own, 1.0), (others, -1.0)], 0.0)


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor is all of its ending's result, in order."""
    count = removed_of(tensor).logits.entries.size
    return bool(np.array_equal(tensor.entries.reshape(-1), np.arange(count)))


def joined(importer: Importer, operation: Operation) -> Tensor:
    """Concat of entries of one ending, of several Sigmoids, or of 1 − σ(l) and σ(l), which is a Softmax of 0, l."""
    tensors = [value for value in operation.values() if isinstance(value, Tensor) and value.removed is not None]
    parts = [removed_of(tensor) for tensor in tensors]
    if len(tensors) < len(operation.arguments):
        raise misplaced(operation, parts[0])
    axis = operation.axis(operation.attributes.get("axis", 1), len(tensors[0].shape))
    if all(part is parts[0] for part in parts):
        places = choices.concat(
            importer, replace(operation, arguments=tuple(replace(t, removed=None) for t in tensors))
        )
        return replace(places, removed=parts[0])
    if len(parts) == 2 and all(_is_whole(tensor) and tensor.shape[axis] == 1 for tensor in tensors):
        for positive in (0, 1):
            if parts[1 - positive].source is parts[positive]:
                return paired(importer, operation, logits_of(tensors[positive]), axis, positive)
    logits = tuple(_sigmoid_logits(importer, operation, tensor) for tensor in tensors)
    together = choices.concat(importer, replace(operation, arguments=logits))
    return ended(Removed(EndingKind.SIGMOID, operation.name, together), together.shape)


def paired(importer: Importer, operation: Operation, logit: Tensor, axis: int, positive: int) -> Tensor:
    """1 − σ(l) and σ(l), the latter at place ``positive`` of the axis, along which the logit has one entry."""
    empty = np.full(logit.shape, -1)
    places = [empty, logit.entries] if positive else [logit.entries, empty]
    logits = importer.combine(operation, "logits", [(logit.chosen(np.concatenate(places, axis)), 1.0)], 0.0)
    return ended(Removed(EndingKind.SOFTMAX, operation.name, logits, axis), logits.shape)


def magnitude(importer: Importer, operation: Operation) -> Tensor:
    """Abs of probabilities, which are not negative."""
    del importer
    tensor = operation.tensor()
    if removed_of(tensor).kind not in _PROBABILITIES:
        raise misplaced(operation, removed_of(tensor))
    return tensor


def probabilities_added(importer: Importer, operation: Operation) -> Tensor:
    """ReduceSum of all the probabilities of a row, by which they are divided later."""
    del importer
    tensor, axes = operation.tensor(), operation.integers("axes", 1) or []
    removed, rank = removed_of(tensor), len(tensor.shape)
    if removed.kind not in _PROBABILITIES or not _is_whole(tensor) or operation.axes(axes, rank) != [rank - 1]:
        raise misplaced(operation, removed)
    shape = (*tensor.shape[:-1], *((1,) if operation.flag("keepdims", 1) else ()))
    return ended(Removed(PassingKind.TOTAL, operation.name, removed.logits, source=removed), shape)


def share(importer: Importer, operation: Operation) -> Tensor:
    """Div of probabilities by their sum, where that is 1."""
    tensor, total = operation.tensor(), operation.arguments[1]
    removed = removed_of(tensor)
    if not isinstance(total, Tensor) or total.removed is None or total.removed.source is not removed:
        raise misplaced(operation, removed)
    sums = math.prod(tensor.shape[:-1])
    if (
        not _is_whole(tensor)
        or total.entries.size != sums
        or importer.broadcast_shape(operation, tensor.shape, total.shape) != tensor.shape
    ):
        raise operation.refused("all probabilities over the sums of their rows", f"{tensor.shape} over {total.shape}")
    return normalised(importer, operation, tensor)


def normalised(importer: Importer, operation: Operation, tensor: Tensor) -> Tensor:
    """Probabilities along the last axis divided by their sum: a Softmax as it is, two Sigmoids of l and −l as one of 0, l."""
    removed = removed_of(tensor)
    last = len(tensor.shape) - 1
    rows = removed.axis == last and tensor.shape == removed.logits.shape and _is_whole(tensor)
    if removed.kind is EndingKind.SOFTMAX and rows:
        return tensor
    if removed.kind is EndingKind.SIGMOID and tensor.shape[last] == 2:
        logits = logits_of(tensor)
        first, second = logits.entries[..., 0], logits.entries[..., 1]
        pairs = zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True)
        if all(_opposite(importer, logits.name, i, j) for i, j in pairs):
            return paired(importer, operation, logits.chosen(logits.entries[..., 1:]), last, 1)
    raise operation.refused(
        "probabilities that add up to 1 before they are divided by their sum (or a label as the output)",
        f"those of {removed.kind} node {removed.node!r}",
    )


def _opposite(importer: Importer, name: str, i: int, j: int) -> bool:
    """Whether two entries of a vector are each other's negative, as the maps that compute them say."""
    while True:
        node = next((node for node in importer.nodes if node.output == name), None)
        if not isinstance(node, Affine) or node.bias[i] != -node.bias[j]:
            return False
        if node.divisor is not None and len({*node.divisor.low[[i, j]], *node.divisor.high[[i, j]]}) > 1:
            return False
        rows = [(read, sparse.csr_array(weight[[i, j]])) for read, weight in node.terms]
        if all((abs(pair[[0]] + pair[[1]])).sum() == 0 for _, pair in rows):
            return True
        ((name, pair),) = rows if len(rows) == 1 else [("", rows[0][1])]
        if not name or pair.nnz != 2 or len(set(pair.data.tolist())) != 1 or pair.indptr.tolist() != [0, 1, 2]:
            return False
        i, j = (int(place) for place in pair.indices)


def threshold(importer: Importer, operation: Operation) -> Tensor:
    """Greater, and Binarizer, of Sigmoids and 1/2: whether each logit is above 0, an ArgMax of 0 and it."""
    tensor = operation.tensor()
    removed = removed_of(tensor)
    half = operation.attributes.get("threshold", 0.0) if operation.operator == "Binarizer" else operation.numbers(1)
    if removed.kind is not EndingKind.SIGMOID or np.size(half) != 1 or np.any(half != 0.5):
        raise misplaced(operation, removed)
    logit = logits_of(tensor).chosen(logits_of(tensor).entries.reshape(-1, 1))
    logits = removed_of(paired(importer, operation, logit, 1, 1)).logits
    return ended(Removed(EndingKind.ARGMAX, operation.name, logits, 1), tensor.shape)


def log_of_softmax(importer: Importer, operation: Operation) -> Tensor:
    """Log of a Softmax."""
    del importer
    tensor = operation.tensor()
    removed = removed_of(tensor)
    if removed.kind is not EndingKind.SOFTMAX:
        raise misplaced(operation, removed)
    return replace(tensor, removed=replace(removed, kind=EndingKind.LOG_SOFTMAX, node=operation.name))


def label(importer: Importer, operation: Operation) -> Tensor:
    """Gather and ArrayFeatureExtractor of labels by the number that ArgMax gives; or of entries behind an ending."""
    gathers = operation.operator == "Gather"
    data = operation.value(0)
    if isinstance(data, Tensor):
        return choices.gather(importer, operation) if gathers else choices.extracted(importer, operation)
    chosen = removed_of(operation.tensor(1))
    if chosen.kind is not EndingKind.ARGMAX or chosen.labels or data.dtype.kind not in "iuOUS":
        raise operation.refused("labels, or constant indices", f"{operation.names[1]!r}, which depends on the input")
    count = chosen.logits.shape[chosen.axis or 0]
    if data.size != count or (gathers and (data.ndim != 1 or operation.attributes.get("axis", 0) != 0)):
        raise operation.refused(f"{count} labels", f"shape {data.shape}")
    entries = operation.tensor(1).entries
    named = replace(chosen, labels=label_values(data))
    return Tensor(chosen.logits.name, entries if gathers else entries.reshape(1, -1), named)


def label_values(data: Entries) -> tuple[int | str, ...]:
    """Labels that a file holds as an array of whole numbers or text."""
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in data.reshape(-1).tolist())
