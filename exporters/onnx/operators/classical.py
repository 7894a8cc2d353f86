"""Operators of the domain ai.onnx.ml, in which scikit-learn's scalers and linear models are written."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from veriflow.numerics.arrays import Vector

from . import choices
from .endings import ended, misplaced, normalised, paired, removed_of
from .importer import EndingKind, Importer, Operation, Removed, Tensor
from .products import matrix_product


def _floats(operation: Operation, attribute: str, count: int, default: float | None = None) -> Vector:
    """A list of float32 numbers, as float64; one number stands for all."""
    values = np.asarray(operation.attributes.get(attribute, []), dtype=np.float32).astype(np.float64)
    if not values.size and default is not None:
        return np.full(count, default)
    if values.size not in (1, count) or not np.isfinite(values).all():
        raise operation.refused(f"{count} finite {attribute}", f"{values.size} numbers")
    return np.broadcast_to(values, count)


def _labels(operation: Operation, *attributes: str) -> tuple[int | str, ...]:
    for attribute in attributes:
        if found := operation.attributes.get(attribute):
            return tuple(found)
    return ()


def scaler(importer: Importer, operation: Operation) -> Tensor:
    """Scaler: (x − offset) · scale."""
    tensor = operation.tensor()
    count = tensor.shape[-1]
    offset, scale = _floats(operation, "offset", count, 0.0), _floats(operation, "scale", count, 1.0)
    if offset.any():
        tensor = importer.combine(operation, "centred", [(tensor, 1.0)], -offset)
    return importer.combine(operation, "", [(tensor, np.broadcast_to(scale, tensor.shape))], 0.0)


def normalizer(importer: Importer, operation: Operation) -> Tensor:
    """Normalizer and LpNormalization of probabilities by their sum; of data they are not piecewise affine."""
    tensor, norm = operation.tensor(), operation.attributes.get("norm", "MAX")
    if operation.operator == "LpNormalization":
        norm = f"L{operation.attributes.get('p', 2)}"
    last = len(tensor.shape) - 1
    if tensor.removed is None:
        raise operation.refused(
            "operators that are piecewise affine", f"a division of each row by its {norm} norm, which is not"
        )
    if norm != "L1" or operation.axis(operation.attributes.get("axis", -1), last + 1) != last:
        raise misplaced(operation, tensor.removed)
    return normalised(importer, operation, tensor)


def imputer(importer: Importer, operation: Operation) -> Tensor:
    """Imputer of missing values: inputs are numbers, so that none is missing."""
    del importer
    if not math.isnan(operation.attributes.get("replaced_value_float", 0.0)):
        raise operation.refused("NaN as the value to replace", operation.attributes.get("replaced_value_float", 0.0))
    return operation.tensor()


def feature_vectorizer(importer: Importer, operation: Operation) -> Tensor:
    """FeatureVectorizer: the columns of all inputs, one after the other."""
    widths = [value.shape[-1] for value in operation.values()]
    wanted = operation.integers("inputdimensions") or widths
    if wanted != widths:
        raise operation.refused(f"inputs of {wanted} columns", widths)
    return choices.concat(importer, replace(operation, attributes={"axis": 1}))


def linear_regressor(importer: Importer, operation: Operation) -> Tensor:
    """LinearRegressor without a function behind it."""
    if operation.attributes.get("post_transform", "NONE") != "NONE":
        raise operation.refused("post_transform NONE", operation.attributes["post_transform"])
    return _linear(importer, operation, "", operation.attributes.get("targets", 1))


def _linear(importer: Importer, operation: Operation, part: str, rows: int) -> Tensor:
    tensor = operation.tensor()
    if len(tensor.shape) != 2:
        tensor = tensor.chosen(tensor.entries.reshape(1, -1))
    count = tensor.shape[1]
    weight = _floats(operation, "coefficients", rows * count).reshape(rows, count)
    matrix, shape = matrix_product(importer, operation, tensor, weight.T, first=True)
    return importer.affine(operation, part, tensor, matrix, _floats(operation, "intercepts", rows, 0.0), shape)


def linear_classifier(importer: Importer, operation: Operation) -> tuple[Tensor, Tensor]:
    """LinearClassifier: the label of the largest score, and the scores or what LOGISTIC and SOFTMAX make of them."""
    labels = _labels(operation, "classlabels_strings", "classlabels_ints")
    transform = operation.attributes.get("post_transform", "NONE")
    rows = len(operation.attributes.get("intercepts", labels))
    if rows != len(labels) or rows < 2 or transform not in ("NONE", "LOGISTIC", "SOFTMAX"):
        raise operation.refused(
            "a score for each of two or more classes, and post_transform NONE, LOGISTIC or SOFTMAX",
            f"{rows} scores for {len(labels)} classes and {transform}",
        )
    scores = _linear(importer, operation, "scores", rows)
    chosen = Removed(EndingKind.ARGMAX, operation.name, scores, 1, labels=labels)
    if transform == "NONE":
        result = scores
    elif transform == "SOFTMAX":
        result = ended(Removed(EndingKind.SOFTMAX, operation.name, scores, 1), scores.shape)
    else:
        result = ended(Removed(EndingKind.SIGMOID, operation.name, scores), scores.shape)
        if rows == 2:
            result = _pair(importer, operation, scores, result)
    return ended(chosen, scores.shape[:1]), result


def _pair(importer: Importer, operation: Operation, scores: Tensor, sigmoids: Tensor) -> Tensor:
    """Two Sigmoids as one Softmax, where their scores are each other's negative."""
    weight = np.asarray(operation.attributes.get("coefficients", []), dtype=np.float32).reshape(2, -1)
    shift = _floats(operation, "intercepts", 2, 0.0)
    if (weight[0] != -weight[1]).any() or shift[0] != -shift[1]:
        return sigmoids
    return paired(importer, operation, scores.chosen(scores.entries[:, 1:]), 1, 1)


def label_encoder(importer: Importer, operation: Operation) -> Tensor:
    """LabelEncoder behind an ArgMax: other labels for its numbers."""
    del importer
    tensor = operation.tensor()
    removed = removed_of(tensor)
    if removed.kind is not EndingKind.ARGMAX:
        raise misplaced(operation, removed)
    keys = _labels(operation, "keys_int64s", "keys_strings", "keys_floats")
    values = _labels(operation, "values_strings", "values_int64s")
    before = removed.labels or tuple(range(removed.logits.shape[removed.axis or 0]))
    table = dict(zip(keys, values, strict=False))
    missing = [label for label in before if label not in table]
    if missing or len(keys) != len(values):
        raise operation.refused(f"a value for each of {list(before)}", f"{len(table)} without {missing}")
    return replace(tensor, removed=replace(removed, labels=tuple(table[label] for label in before)))
