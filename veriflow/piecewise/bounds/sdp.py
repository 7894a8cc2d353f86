"""Semidefinite bounds: a quadratic relaxation of all unstable units over a domain, and what multipliers prove by it.

A point is ``x = (1, z, h)``: the input and the outputs of the unstable units, scaled by powers of two to at most one. Each unit
with input f and output h has ``h (h − f) = 0``, ``h ≥ 0``, ``h ≥ f`` and ``h (h − u) ≤ 0``, each coordinate between l and u has
``(z − l)(z − u) ≤ 0``, and in an L2 ball ``Σ z² − r² ≤ 0``. For multipliers θ of these constraints, not negative for
inequalities, a margin is at least ``margin(x) + Σ θ a(x) b(x) = xᵀ Q(θ) x``, and this is at least t where ``Q(θ) − t e₀e₀ᵀ`` is
positive semidefinite. Linear bounds relax one unit after the other; these relax all pairs at once.

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
from ...numerics.rounding import UNDERFLOW, gamma, growth
from ...runtime.deadline import check_deadline
from ..graph import Affine, Graph
from .tensor_bounds import Bounds, Regions

NO_PAIRS = np.zeros((0, 2), dtype=np.intp)

VIOLATION = 1e-3
"""Products that moments have below minus this are violated: cuts for the next program. Functions have size one."""

TINY = 1e-150
"""Absolute margin for underflow in the matrix and its quadratic form.

Proof: factors and points have entries of at most two, so that each operation loses 2⁻¹⁰⁷³ at most, times a multiplier. Below
10¹⁵⁰ for the multiplier, that is below 10⁻¹⁷²; above, the relative margin for rounding is above 10¹³⁴.
"""


@dataclass(frozen=True, eq=False)
class AffineForms:
    """Affine functions of a point x = (1, z, h), with margins for rounding.

    Attributes:
        rows: coefficients ``[count, n]``, the constant first.
        sizes: upper bounds on Σ |coefficient| |entry| over the domain, ``[count]``.
        errors: how far the values of the rows may be from the exact ones there, ``[count]``.
    """

    rows: Vector
    sizes: Vector
    errors: Vector

    def __getitem__(self, places: Indices | Mask | slice) -> AffineForms:
        return AffineForms(self.rows[places], self.sizes[places], self.errors[places])

    @classmethod
    def stacked(cls, parts: Sequence[AffineForms]) -> AffineForms:
        """One stack of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True, eq=False)
class SemidefiniteRelaxation:
    """A margin over a domain, and quadratic constraints ``Σ a(x) b(x) = 0`` or ``≤ 0`` of the points x = (1, z, h) there.

    Attributes:
        margin: the affine function to be bounded from below.
        input: the graph's input, as functions of x.
        base: functions of which all factors are combinations: the ``n`` entries of x, then the inputs of units.
        left, right: the factors a and b of all products, sparse ``[count, base]``.
        sums: the constraint of each product ``[count]``, ascending; most constraints have one product.
        equal: which constraints are equalities ``[m]``.
        units: those of the graph whose outputs are h, in order; the first constraints, equalities, are theirs.
        sides: functions that are never negative, sparse ``[2 · units of the graph, base]``: outputs, then outputs − inputs.
        pairs: of ``sides``, whose products are the last constraints ``[·, 2]``.
    """

    margin: AffineForms
    input: AffineForms
    base: AffineForms
    left: sparse.csr_array
    right: sparse.csr_array
    sums: Indices
    equal: Mask
    units: Indices
    sides: sparse.csr_array
    pairs: Indices

    @property
    def shape(self) -> tuple[int, int]:
        """The number of entries of x, and of constraints."""
        return self.base.rows.shape[1], len(self.equal)

    def values(self, point: Vector) -> Vector:
        """The left-hand sides of all constraints at a point x ``[n]``."""
        values = self.base.rows @ point
        return np.asarray(np.bincount(self.sums, (self.left @ values) * (self.right @ values)), dtype=np.float64)

    def violated(self, moments: Vector, most: int) -> Indices:
        """Pairs of ``sides`` whose products are most negative under moments ``[n, n]`` of x: ``[up to most, 2]``."""
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
        """``Q(θ) − t e₀e₀ᵀ`` without the part of the margin, linear in ``values``; symmetric ``[n, n]``."""
        check_deadline()
        products = self.left.T @ (sparse.diags_array(values[self.sums]) @ self.right)
        whole = self.base.rows.T @ (products @ self.base.rows)
        whole[0, 0] -= values[-1]
        return np.asarray((whole + whole.T) / 2)

    def proved(self, values: Vector) -> float:
        """The lower bound on the margin that ``values = (θ, t)`` prove: a little below t; −∞ for wrong signs."""
        multipliers = np.abs(values[self.sums])
        if not np.isfinite(values).all() or (values[:-1] < 0)[~self.equal].any():
            return -np.inf
        left, right = abs(self.left), abs(self.right)
        sizes, others = left @ self.base.sizes, right @ self.base.sizes
        errors, misses = left @ self.base.errors, right @ self.base.errors
        off = float(multipliers @ (errors * (others + misses) + sizes * misses) + self.margin.errors[0])
        total = float(multipliers @ (sizes * others) + self.margin.sizes[0] + abs(values[-1]))
        off += gamma(len(self.sums) + 2 * len(self.base.sizes)) * total
        off += _shift_to_semidefinite(self.matrix(values)) * self.shape[0]  # a point's entries are one at most
        return float(values[-1]) - off * (1 + growth(len(self.sums) + len(self.base.sizes))) - TINY


def _shift_to_semidefinite(matrix: Vector) -> float:
    """A number s for which the symmetric matrix plus s I is certainly positive semidefinite; infinity if none is found."""
    if not np.isfinite(matrix).all():
        return np.inf
    share = gamma(2 * len(matrix))
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


def semidefinite_relaxation(
    graph: Graph,
    region: Regions,
    bounds: Bounds,
    signs: NDArray[np.int8],
    row: Vector,
    limit: float,
    pairs: Indices = NO_PAIRS,
    balls: Sequence[tuple[slice, float]] = (),
) -> SemidefiniteRelaxation:
    """The relaxation of the margin ``limit − row @ output`` over a domain; of the region, its box and ``balls`` are used.

    Args:
        graph: whose units are split.
        region: of its inputs.
        bounds: that hold in the domain.
        signs: of every unit ``[units]``: 1 on, −1 off, 0 not split.
        row: ``[outputs]``.
        limit: one number.
        pairs: of `SemidefiniteRelaxation.sides`, whose products are to be constraints ``[count, 2]``.
        balls: coordinates in which the region lies within an L2 ball about zero, and its radius.
    """
    lower, upper = (np.concatenate([side[relu.input] for relu in graph.relus]) for side in (bounds.lower, bounds.upper))
    is_open, free = (lower < 0) & (upper > 0), np.flatnonzero(region.lower < region.upper)
    units, asked = np.flatnonzero(is_open), np.flatnonzero(is_open | (signs != 0))
    ends = np.maximum(np.abs(region.lower), np.abs(region.upper))[free]
    sizes = 2 * _power_near(np.concatenate([np.full(1, 0.5), ends, upper[units]]))
    entries = AffineForms(np.diag(sizes), sizes, np.zeros(len(sizes)))
    first = 1 + len(free)
    input_ = AffineForms(_constants(region.lower, len(sizes)), np.abs(region.lower), np.zeros(len(region.lower)))
    input_ = _replaced(input_, free, entries[1:first])
    tensors = _tensors(graph, input_, lower >= 0, units, entries[first:])
    base = AffineForms.stacked([entries, AffineForms.stacked([tensors[relu.input] for relu in graph.relus])[asked]])
    scale = _power_near(base.sizes)
    base = AffineForms(base.rows / scale[:, None], base.sizes / scale, base.errors / scale)
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
    return SemidefiniteRelaxation(margin, input_, base, left, right, sums, equal, units, sides, pairs)


def _tensors(
    graph: Graph, input_: AffineForms, is_on: Mask, units: Indices, outputs: AffineForms
) -> dict[str, AffineForms]:
    """Every tensor as functions of x: ``outputs`` for ``units``; the other units are on, or zero."""
    tensors = {graph.input: input_}
    for node in graph.nodes:
        check_deadline()
        if isinstance(node, Affine):
            terms, width = [(weight, tensors[name]) for name, weight in node.rounded.terms], input_.rows.shape[1]
            tensors[node.output] = _through_affine(terms, node.rounded.bias, width, node.roundings)
            continue
        place, before = graph.unit_places[node.output], tensors[node.input]
        here, on = (units >= place.start) & (units < place.stop), is_on[place].astype(np.float64)
        kept = AffineForms(before.rows * on[:, None], before.sizes * on, before.errors * on)
        tensors[node.output] = _replaced(kept, units[here] - place.start, outputs[here])
    return tensors


def _through_affine(
    terms: Sequence[tuple[Matrix, AffineForms]], bias: Vector, width: int, roundings: int = 0
) -> AffineForms:
    """``Σ W @ t + bias`` as functions of ``width`` entries; constants are off by ``roundings`` units of roundoff."""
    rows, sizes, errors = _constants(bias, width), np.abs(bias) + UNDERFLOW, np.full(len(bias), UNDERFLOW)
    for weight, forms in terms:
        size = abs(weight)
        rows, sizes, errors = rows + weight @ forms.rows, sizes + size @ forms.sizes, errors + size @ forms.errors
    count = roundings + sum(weight.shape[1] + 1 for weight, _ in terms)
    return AffineForms(rows, sizes, errors + gamma(count) * sizes)


def _constants(values: Vector, width: int) -> Vector:
    """Constant functions."""
    return np.pad(values[:, None], ((0, 0), (0, width - 1)))


def _replaced(forms: AffineForms, places: Indices, others: AffineForms) -> AffineForms:
    """The functions with others at some places."""
    arrays = [array.copy() for array in vars(forms).values()]
    for array, part in zip(arrays, vars(others).values(), strict=True):
        array[places] = part
    return AffineForms(*arrays)


def _less(functions: sparse.csr_array, constants: Vector) -> sparse.csr_array:
    """Functions minus constants."""
    column = sparse.csr_array(constants[:, None])
    return functions - sparse.hstack([column, sparse.csr_array((len(constants), functions.shape[1] - 1))])


def _of_size_one(functions: sparse.csr_array, units: Vector, sums: Indices) -> sparse.csr_array:
    """Combinations of the base times ``units``, scaled by a power of two to about size one in each constraint."""
    functions = functions @ sparse.diags_array(units)
    sizes = np.zeros(sums.max(initial=-1) + 1)
    np.maximum.at(sizes, sums, abs(functions).sum(axis=1))
    return sparse.diags_array(1 / _power_near(sizes)[sums]) @ functions


def _power_near(sizes: Vector) -> Vector:
    """Powers of two, at most so large; one for zero."""
    return np.asarray(np.ldexp(0.5, np.frexp(np.where(sizes > 0, sizes, 1.0))[1]))
