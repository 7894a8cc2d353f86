"""A last Sigmoid, Softmax, LogSoftmax or ArgMax, which is taken off the network and kept as what it was."""

from __future__ import annotations

import math

import numpy as np

from .onnx_graph import EndingKind, Importer, Operation, Removed, Tensor


def _ended(tensor: Tensor, removed: Removed, shape: tuple[int, ...]) -> Tensor:
    return Tensor(tensor.name, np.arange(math.prod(shape)).reshape(shape), removed)


def sigmoid(importer: Importer, operation: Operation) -> Tensor:
    """Sigmoid."""
    del importer
    tensor = operation.tensor()
    return _ended(tensor, Removed(EndingKind.SIGMOID, operation.name, tensor), tensor.shape)


def softmax(importer: Importer, operation: Operation) -> Tensor:
    """Softmax and LogSoftmax; before opset 13 over all axes from the given one on, as if they were one."""
    del importer
    logits, kind = operation.tensor(), EndingKind(operation.operator)
    shape, rank = logits.shape, len(logits.shape)
    axis = operation.axis(operation.attributes.get("axis", 1 if operation.opset < 13 else -1), rank)
    if operation.opset < 13:
        logits = logits.chosen(logits.entries.reshape(math.prod(shape[:axis]), -1))
        axis = 1
    return _ended(logits, Removed(kind, operation.name, logits, axis), shape)


def argmax(importer: Importer, operation: Operation) -> Tensor:
    """ArgMax."""
    del importer
    logits, last = operation.tensor(), operation.flag("select_last_index")
    axis = operation.axis(operation.attributes.get("axis", 0), len(logits.shape))
    middle = (1,) if operation.flag("keepdims", 1) else ()
    shape = (*logits.shape[:axis], *middle, *logits.shape[axis + 1 :])
    return _ended(logits, Removed(EndingKind.ARGMAX, operation.name, logits, axis, last), shape)
