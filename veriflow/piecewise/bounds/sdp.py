"""Semidefinite bounds: what is known of products of affine functions over a piece of a region.

A point is ``x = (1, z, h)``: the input and the outputs of the unstable units, in units of powers of two in which none is
above one. Each unit with input f and output h has ``h (h − f) = 0``, ``h ≥ 0``, ``h ≥ f`` and ``h (h − u) ≤ 0``, each
coordinate between l and u has ``(z − l)(z − u) ≤ 0``, and in an L2 ball a sum of products, ``Σ z² − r²``, is zero at most. For
multipliers θ of these, where those of inequalities are not below zero, a margin is at least ``margin(x) + Σ θ a(x) b(x) =
xᵀ Q(θ) x``, and this is at least t where ``Q(θ) − t e₀e₀ᵀ`` is positive semidefinite. Linear bounds look at one unit after the
other; these look at all pairs.

Sources: Raghunathan, Steinhardt and Liang, *Semidefinite Relaxations for Certifying Robustness to Adversarial Examples*,
NeurIPS 2018, section 4; for the bound by multipliers Dathathri et al., *Enabling Certification of Verification-Agnostic
Networks via Memory-Efficient Semidefinite Programming*, NeurIPS 2020, section 3.

Rounding: a matrix is positive semidefinite if it still has a Cholesky factor in floats once a share of its trace has been
taken off its diagonal (Rump, *Verification of Positive Definiteness*, BIT 46, 2006, theorem 2.3). What rows of affine functions
and sums of their products are off by acts on numbers whose size is known; it is added up and taken off the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from ...numerics.arrays import Indices, Mask, Matrix, Vector
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph
from .rounding import rounding_share
from .tensor_bounds import Bounds, Regions

NO_PAIRS = np.zeros((0, 2), dtype=np.intp)

VIOLATION = 1e-3
"""How far below zero a product of functions of size one is worth to be forbidden."""

TINY, _LOST = 1e-150, 1e-290
"""More than underflow can lose in all, and in a coefficient."""


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine functions of a point.

    Attributes:
        rows: ``[count, n]``; the constant comes first.
        sizes: the sum of the sizes of all terms, at most, over the piece ``[count]``.
        errors: how much the rows' values may be off by there ``[count]``.
    """

    rows: Vector
    sizes: Vector
    errors: Vector

    def __getitem__(self, places: Indices | Mask | slice) -> Forms:
        return Forms(self.rows[places], self.sizes[places], self.errors[places])

    @classmethod
    def stacked(cls, parts: Sequence[Forms]) -> Forms:
        """One stack of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True, eq=False)
class Lifting:
    """A margin over a piece of a region, and sums of products that are zero there, or zero at most; most are of one.

    Attributes:
        margin: what is to be bounded from below, one function.
        input: the graph's input.
        base: the functions that others are sums of: the entries of a point, ``n``, then the inputs of units.
        left, right: the factors of the products, sparse ``[count, base]``.
        sums: which sum each product belongs to ``[count]``, ascending.
        equal: which sums are zero ``[m]``.
        units: those of the graph whose outputs are the last entries of a point; the first sums are theirs, and zero.
        sides: what is never below zero, sparse ``[2 · units of the graph, base]``: outputs, then outputs less inputs.
        pairs: of ``sides``, whose products are the last sums ``[·, 2]``.
    """

    margin: Forms
    input: Forms
    base: Forms
    left: sparse.csr_array
    right: sparse.csr_array
    sums: Indices
    equal: Mask
    units: Indices
    sides: sparse.csr_array
    pairs: Indices

    @property
    def shape(self) -> tuple[int, int]:
        """How many entries points have, and how many sums there are."""
        return self.base.rows.shape[1], len(self.equal)

    def values(self, point: Vector) -> Vector:
        """All sums of products at a point ``[n]``."""
        values = self.base.rows @ point
        return np.asarray(np.bincount(self.sums, (self.left @ values) * (self.right @ values)), dtype=np.float64)

    def violated(self, moments: Vector, most: int) -> Indices:
        """Pairs of ``sides`` with the least products by moments of points ``[n, n]``, below zero: ``[up to most, 2]``."""
        sides = self.sides @ self.base.rows
        products = np.triu(sides @ (moments / moments[0, 0]) @ sides.T, 1)
        half = len(products) // 2
        products[np.arange(half), half + np.arange(half)] = 0  # of one unit, known to be zero
        least = np.argsort(products, axis=None)[:most]
        pairs = np.stack(np.unravel_index(least, products.shape), axis=-1)
        return np.asarray(pairs[products[pairs[:, 0], pairs[:, 1]] < -VIOLATION])

    def matrix(self, values: Vector) -> Vector:
        """``Q(θ) − t e₀e₀ᵀ`` for ``values = (θ, t)``, symmetric ``[n, n]``."""
        whole = self.change(values)
        whole[0] += self.margin.rows[0] / 2
        whole[:, 0] += self.margin.rows[0] / 2
        return whole

    def change(self, values: Vector) -> Vector:
        """What ``values`` add to the matrix of the margin alone, symmetric ``[n, n]``."""
        check_deadline()
        products = self.left.T @ (sparse.diags_array(values[self.sums]) @ self.right)
        whole = self.base.rows.T @ (products @ self.base.rows)
        whole[0, 0] -= values[-1]
        return np.asarray((whole + whole.T) / 2)

    def proved(self, values: Vector) -> float:
        """What ``values = (θ, t)`` show the margin to be at least: little less than t, or −∞ where they show nothing."""
        multipliers = np.abs(values[self.sums])
        if not np.isfinite(values).all() or (values[:-1] < 0)[~self.equal].any():
            return -np.inf
        left, right = abs(self.left), abs(self.right)
        sizes, others = left @ self.base.sizes, right @ self.base.sizes
        errors, misses = left @ self.base.errors, right @ self.base.errors
        off = float(multipliers @ (errors * (others + misses) + sizes * misses) + self.margin.errors[0])
        total = float(multipliers @ (sizes * others) + self.margin.sizes[0] + abs(values[-1]))
        off += rounding_share(len(self.sums) + 2 * len(self.base.sizes)) * total
        off += _raise(self.matrix(values)) * self.shape[0]  # a point's entries are one at most
        return float(values[-1]) - off * (1 + 1e-9) - TINY


def _raise(matrix: Vector) -> float:
    """What, times the identity, makes a symmetric matrix positive semidefinite for certain when it is added."""
    if not np.isfinite(matrix).all():
        return np.inf
    share = rounding_share(2 * len(matrix))
    size = share * float(np.abs(np.diag(matrix)).sum()) + TINY
    check_deadline()
    try:
        least = float(linalg.eigvalsh(matrix, subset_by_index=[0, 0])[0])
        raised = max(0.0, 4 * size - least)
        lowered = raised - 2 * size - share * len(matrix) * raised
        check_deadline()
        linalg.cholesky(matrix + lowered * np.eye(len(matrix)), lower=True)
    except linalg.LinAlgError:
        return np.inf
    return raised


def lift(
    graph: Graph,
    region: Regions,
    bounds: Bounds,
    signs: NDArray[np.int8],
    row: Vector,
    limit: float,
    pairs: Indices = NO_PAIRS,
    balls: Sequence[tuple[slice, float]] = (),
) -> Lifting:
    """The margin ``limit − row @ output`` over a piece of a region, of which the box around it and ``balls`` are used.

    Args:
        graph: whose units are split.
        region: of its inputs.
        bounds: that hold in the piece.
        signs: of every unit ``[units]``: 1 on, −1 off, 0 not split.
        row: ``[outputs]``.
        limit: one number.
        pairs: of `Lifting.sides`, whose products are to be used ``[count, 2]``.
        balls: coordinates in which the region lies within an L2 ball about zero, and its radius.
    """
    lower, upper = (np.concatenate([side[relu.input] for relu in graph.relus]) for side in (bounds.lower, bounds.upper))
    is_open, free = (lower < 0) & (upper > 0), np.flatnonzero(region.lower < region.upper)
    units, asked = np.flatnonzero(is_open), np.flatnonzero(is_open | (signs != 0))
    ends = np.maximum(np.abs(region.lower), np.abs(region.upper))[free]
    sizes = 2 * _power_near(np.concatenate([np.full(1, 0.5), ends, upper[units]]))
    entries = Forms(np.diag(sizes), sizes, np.zeros(len(sizes)))
    first = 1 + len(free)
    input_ = Forms(_constants(region.lower, len(sizes)), np.abs(region.lower), np.zeros(len(region.lower)))
    input_ = _replaced(input_, free, entries[1:first])
    tensors = _tensors(graph, input_, lower >= 0, units, entries[first:])
    base = Forms.stacked([entries, Forms.stacked([tensors[relu.input] for relu in graph.relus])[asked]])
    scale = _power_near(base.sizes)
    base = Forms(base.rows / scale[:, None], base.sizes / scale, base.errors / scale)
    margin = _through_affine([(-row[None], tensors[graph.output])], np.array([limit]), len(sizes))

    eye = sparse.eye_array(len(base.rows), format="csr")
    z = eye[1:first]
    inputs, outputs = (sparse.lil_array((len(signs), len(base.rows))) for _ in range(2))
    inputs[asked, len(sizes) + np.arange(len(asked))] = 1
    outputs[signs > 0] = inputs[signs > 0]
    outputs[units, first + np.arange(len(units))] = 1
    f, h = inputs.tocsr(), outputs.tocsr()
    on, off = np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)
    sides = sparse.vstack([h, h - f], format="csr")
    sides.eliminate_zeros()
    held = np.concatenate([on, off])
    pairs = pairs[(np.diff(sides.indptr) > 0)[pairs].all(axis=-1)]
    products = [
        (h[units], h[units] - f[units]),
        (_less(z, region.lower[free]), _less(z, region.upper[free])),
        (h[units], _less(h[units], upper[units])),
        (_less(0 * h[units], -np.ones(len(units))), -h[units]),
        (_less(0 * h[units], -np.ones(len(units))), f[units] - h[units]),
        (_less(f[held], lower[held]), _less(f[held], upper[held])),
        (_less(0 * f[on], -np.ones(len(on))), -f[on]),
        (_less(0 * f[off], -np.ones(len(off))), f[off]),
        (sides[pairs[:, 0]], -sides[pairs[:, 1]]),
    ]
    sums = np.arange(sum(left.shape[0] for left, _ in products))
    for place, radius in balls:
        inside = z[(place.start <= free) & (free < place.stop)]
        products.insert(1, (sparse.vstack([inside, radius * eye[:1]]), sparse.vstack([inside, -radius * eye[:1]])))
        sums = np.concatenate([sums[: len(units)], np.full(inside.shape[0] + 1, len(units)), sums[len(units) :] + 1])
    left, right = (_of_size_one(sparse.vstack(side, format="csr"), scale, sums) for side in zip(*products, strict=True))
    equal = np.arange(sums.max(initial=-1) + 1) < len(units)
    sides = _of_size_one(sides, scale, np.arange(sides.shape[0]))
    return Lifting(margin, input_, base, left, right, sums, equal, units, sides, pairs)


def _tensors(graph: Graph, input_: Forms, is_on: Mask, units: Indices, outputs: Forms) -> dict[str, Forms]:
    """Every tensor of the graph: ``units`` have ``outputs``; of the others, those that are on keep their input."""
    tensors = {graph.input: input_}
    for node in graph.nodes:
        check_deadline()
        if isinstance(node, Affine):
            terms, width = [(weight, tensors[name]) for name, weight in node.rounded.terms], input_.rows.shape[1]
            tensors[node.output] = _through_affine(terms, node.rounded.bias, width, node.roundings)
            continue
        place, before = graph.unit_places[node.output], tensors[node.input]
        here, on = (units >= place.start) & (units < place.stop), is_on[place].astype(np.float64)
        kept = Forms(before.rows * on[:, None], before.sizes * on, before.errors * on)
        tensors[node.output] = _replaced(kept, units[here] - place.start, outputs[here])
    return tensors


def _through_affine(terms: Sequence[tuple[Matrix, Forms]], bias: Vector, width: int, roundings: int = 0) -> Forms:
    """``Σ W @ t + bias``, of so many entries; W and bias may be off by so many units of roundoff."""
    rows, sizes, errors = _constants(bias, width), np.abs(bias) + _LOST, np.full(len(bias), _LOST)
    for weight, forms in terms:
        size = abs(weight)
        rows, sizes, errors = rows + weight @ forms.rows, sizes + size @ forms.sizes, errors + size @ forms.errors
    count = roundings + sum(weight.shape[1] + 1 for weight, _ in terms)
    return Forms(rows, sizes, errors + rounding_share(count) * sizes)


def _constants(values: Vector, width: int) -> Vector:
    """Rows of functions that are constant."""
    return np.pad(values[:, None], ((0, 0), (0, width - 1)))


def _replaced(forms: Forms, places: Indices, others: Forms) -> Forms:
    """The functions with others at some places."""
    for array, part in zip(vars(forms).values(), vars(others).values(), strict=True):
        array[places] = part
    return forms


def _less(functions: sparse.csr_array, constants: Vector) -> sparse.csr_array:
    """Functions less constants."""
    column = sparse.csr_array(constants[:, None])
    return functions - sparse.hstack([column, sparse.csr_array((len(constants), functions.shape[1] - 1))])


def _of_size_one(functions: sparse.csr_array, units: Vector, sums: Indices) -> sparse.csr_array:
    """Functions of a base that is measured in ``units``, divided by powers of two near to the largest of each sum's sizes."""
    functions = functions @ sparse.diags_array(units)
    sizes = np.zeros(sums.max(initial=-1) + 1)
    np.maximum.at(sizes, sums, abs(functions).sum(axis=1))
    return sparse.diags_array(1 / _power_near(sizes)[sums]) @ functions


def _power_near(sizes: Vector) -> Vector:
    """Powers of two, at most so large; one for zero."""
    return np.asarray(np.ldexp(0.5, np.frexp(np.where(sizes > 0, sizes, 1.0))[1]))
