"""Einsum: equations that are linear in the one operand that depends on the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import ascii_letters

import numpy as np
from scipy import sparse

from veriflow.numerics.arrays import Vector

from .importer import Importer, Operation, Tensor


def einsum(importer: Importer, operation: Operation) -> Tensor:
    """Einsum of one tensor and constants, one constant after the other: no two constants are multiplied."""
    equation, values = str(operation.attributes.get("equation", "")), operation.values()
    inputs, arrow, output = _in_letters(equation, [len(value.shape) for value in values]).partition("->")
    terms = inputs.split(",")
    if not arrow:
        output = "".join(sorted(label for label in set(inputs) - {","} if inputs.count(label) == 1))
    known = set("".join(terms))
    if (
        len(terms) != len(values)
        or any(len(term) != len(value.shape) for term, value in zip(terms, values, strict=False))
        or not all(label.isalpha() for label in known)
        or not set(output) <= known
        or len(set(output)) < len(output)
    ):
        shapes = [value.shape for value in values]
        raise operation.refused("an equation of letters that fits", f"{equation!r} for {shapes}")
    tensors = [k for k, value in enumerate(values) if isinstance(value, Tensor)]
    if len(tensors) != 1:
        raise operation.refused("one operand that depends on the input", f"{len(tensors)} of them")
    sizes: dict[str, int] = {}
    for label, size in (
        (a, n) for term, value in zip(terms, values, strict=True) for a, n in zip(term, value.shape, strict=True)
    ):
        if sizes.setdefault(label, size) != size:
            raise operation.refused(f"one size of {label!r}", f"{sizes[label]} and {size}")
    (place,) = tensors
    tensor, labels = operation.tensor(place), terms[place]
    rest = [(term, operation.numbers(k)) for k, term in enumerate(terms) if k != place]
    if not rest and sorted(labels) != sorted(output):
        rest = [("", np.ones(()))]
    for k, (term, numbers) in enumerate(rest, start=1):
        later = set(output).union(*(other for other, _ in rest[k:]))
        alone = set(term) - set(labels) - later  # added up afterwards: a sum of constants could round
        kept = "".join(label for label in sizes if label in (set(labels + term) & later) | alone)
        tensor = _contracted(importer, operation, tensor, labels, numbers, term, kept, sizes)
        labels = kept
        if alone:
            kept = "".join(label for label in labels if label not in alone)
            tensor, labels = _contracted(importer, operation, tensor, labels, np.ones(()), "", kept, sizes), kept
    return tensor.chosen(tensor.entries.transpose([labels.index(label) for label in output]))


def _in_letters(equation: str, ranks: list[int]) -> str:
    """The equation without blanks, and with a letter for each axis that dots stand for, counted from the last one."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    counts = [rank - len(term) + 3 for term, rank in zip(inputs.split(","), ranks, strict=False) if "..." in term]
    if not counts or not arrow or min(counts) < 0:
        return inputs + arrow + output
    letters = "".join(sorted(set(ascii_letters) - set(equation)))[: max(counts)]
    found = [
        term.replace("...", letters[len(letters) - rank + len(term) - 3 :])
        for term, rank in zip(inputs.split(","), ranks, strict=False)
    ]
    return ",".join(found) + arrow + output.replace("...", letters)


def _contracted(
    importer: Importer,
    operation: Operation,
    tensor: Tensor,
    labels: str,
    numbers: Vector,
    term: str,
    kept: str,
    sizes: Mapping[str, int],
) -> Tensor:
    """Σ tensor[labels] · numbers[term] over the labels that are not kept, each of which the tensor has."""
    every = kept + "".join(dict.fromkeys(label for label in labels + term if label not in kept))
    full = tuple(sizes[label] for label in every)
    importer.reserve(operation, *full)
    grids = dict(zip(every, np.ogrid[tuple(slice(size) for size in full)], strict=True))
    positions = np.arange(tensor.entries.size).reshape(tensor.shape)
    columns = np.broadcast_to(positions[tuple(grids[label] for label in labels)], full).reshape(-1)
    data = np.broadcast_to(numbers[tuple(grids[label] for label in term)], full).reshape(-1)
    shape = tuple(sizes[label] for label in kept)
    rows = math.prod(shape)
    starts = np.arange(rows + 1) * (data.size // rows)
    weight = sparse.csr_array((data, columns, starts), shape=(rows, tensor.entries.size))
    return importer.affine(
        operation, "", tensor, weight.toarray() if weight.nnz == math.prod(weight.shape) else weight, 0.0, shape
    )
