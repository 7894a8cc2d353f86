"""The truth of a small query: every activation pattern, by a simplex method in rationals. No bounds, no floats, no solver."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from scipy import sparse

from ..piecewise.graph import Affine, Relu
from ..queries.query import Query
from ..regions.ball import Ball
from ..regions.box import Box
from ..regions.region import Region

Form = tuple[Fraction, ...]
"""A linear form of the inputs: its coefficients, then its constant."""

Row = tuple[Form, bool]
"""Form <= 0, or form < 0 where the second entry is True."""


def violating_point(query: Query) -> list[Fraction] | None:
    """A point of the region that violates the property, or None where there is none."""
    inputs = [_unit(i, query.region.dim) for i in range(query.region.dim)]
    for part in _convex_parts(query.region):
        inside = feasible_point(part, query.region.dim)
        if inside is not None:
            found = _search(query, {query.graph.input: inputs}, 0, part, inside)
            if found is not None:
                return found
    return None


def _search(
    query: Query, tensors: dict[str, list[Form]], place: int, rows: list[Row], inside: list[Fraction]
) -> list[Fraction] | None:
    """A violating point among those that meet the rows, of which ``inside`` is one; nodes before ``place`` are done."""
    dim, nodes = query.region.dim, query.graph.nodes
    while place < len(nodes) and isinstance(node := nodes[place], Affine):
        tensors = tensors | {node.output: _affine(node, tensors)}
        place += 1
    if place == len(nodes):
        return _violation(query, tensors[query.graph.output], rows)
    node = nodes[place]
    assert isinstance(node, Relu)  # noqa: S101 - what is asked here
    for pattern, within, point in _patterns(tensors[node.input], rows, inside):
        zero = (Fraction(0),) * (dim + 1)
        active = [form if on else zero for form, on in zip(tensors[node.input], pattern, strict=True)]
        found = _search(query, tensors | {node.output: active}, place + 1, within, point)
        if found is not None:
            return found
    return None


def _patterns(
    forms: list[Form], rows: list[Row], inside: list[Fraction]
) -> Iterator[tuple[list[bool], list[Row], list[Fraction]]]:
    """Every pattern of signs that the rows allow, with the rows that it adds and a point that meets them."""
    if not forms:
        yield [], rows, inside
        return
    for on in (True, False):
        sign = _negated(forms[0]) if on else forms[0]
        within = [*rows, (sign, False)]
        point = inside if _value(sign, inside) <= 0 else feasible_point(within, len(inside))
        if point is not None:
            for rest, further, last in _patterns(forms[1:], within, point):
                yield [on, *rest], further, last


def _violation(query: Query, outputs: list[Form], rows: list[Row]) -> list[Fraction] | None:
    size = query.region.dim + 1
    for disjunct in query.violation:
        wanted = []
        for constraint in disjunct:
            left = [Fraction(0)] * size
            left[-1] = constraint.bound
            for i, c in constraint.coefficients:
                left = [a - c * b for a, b in zip(left, outputs[i], strict=True)]
            wanted.append((tuple(left), constraint.strict))
        found = feasible_point([*rows, *wanted], size - 1)
        if found is not None:
            return found
    return None


def _affine(node: Affine, tensors: dict[str, list[Form]]) -> list[Form]:
    size = len(next(iter(tensors.values()))[0])
    found = [[Fraction(0)] * (size - 1) + [Fraction(float(b))] for b in node.bias]
    for name, weight in node.terms:
        dense = weight.toarray() if sparse.issparse(weight) else np.asarray(weight)
        for i, j in np.argwhere(dense):
            c = Fraction(float(dense[i, j]))
            found[i] = [a + c * b for a, b in zip(found[i], tensors[name][j], strict=True)]
    if node.divisor is None:
        return [tuple(row) for row in found]
    assert node.divisor.is_exact, "a root between two floats is no number"  # noqa: S101 - what is asked here
    divisors = map(Fraction, node.divisor.low.tolist())
    return [tuple(value / s for value in row) for row, s in zip(found, divisors, strict=True)]


def _value(form: Form, point: list[Fraction]) -> Fraction:
    return sum((c * v for c, v in zip(form, point, strict=False)), form[-1])


def _unit(place: int, dim: int) -> Form:
    return tuple(Fraction(int(i == place)) for i in range(dim + 1))


def _negated(form: Form) -> Form:
    return tuple(-value for value in form)


def _convex_parts(region: Region) -> list[list[Row]]:
    """Polyhedra whose union is the region."""
    each = [[_placed(rows, place, region.dim) for rows in _of_part(part)] for place, part in region.placed_parts]
    return [[row for rows in chosen for row in rows] for chosen in itertools.product(*each)]


def _placed(rows: list[Row], place: slice, dim: int) -> list[Row]:
    before, after = (Fraction(0),) * place.start, (Fraction(0),) * (dim - place.stop)
    return [((*before, *form[:-1], *after, form[-1]), strict) for form, strict in rows]


def _of_part(part: Region) -> list[list[Row]]:
    if isinstance(part, Box):
        lower, upper = part.ends
        low = [(*_negated(_unit(i, part.dim))[:-1], v) for i, v in enumerate(lower)]
        high = [(*_unit(i, part.dim)[:-1], -v) for i, v in enumerate(upper)]
        return [[(form, False) for form in (*low, *high)]]
    assert isinstance(part, Ball) and part.p != 2, "an L2 ball is no union of polyhedra"  # noqa: S101 - what is asked here
    normals = (
        [tuple(map(Fraction, signs)) for signs in itertools.product((1, -1), repeat=part.dim)]
        if part.p == 1
        else [tuple(sign * v for v in _unit(i, part.dim)[:-1]) for i in range(part.dim) for sign in (1, -1)]
    )
    filled = [((*normal, -Fraction(part.radius)), False) for normal in normals]
    if part.limit < math.inf:
        units = [_unit(i, part.dim)[:-1] for i in range(part.dim)]
        filled += [((*side, -Fraction(part.limit)), False) for unit in units for side in (unit, _negated(unit))]
    if not part.inner:
        return [filled]
    return [[*filled, ((*_negated(normal), Fraction(part.inner)), False)] for normal in normals]


def feasible_point(rows: list[Row], dim: int) -> list[Fraction] | None:
    """A point that satisfies every row, or None: the general simplex with Bland's rule.

    A strict row is met with an infinitesimal to spare (Dutertre and de Moura, CAV 2006); values are pairs of a rational and
    a multiple of the infinitesimal, which becomes a small enough number in the end.
    """
    if any(form[-1] > 0 or (strict and form[-1] == 0) for form, strict in rows if not any(form[:-1])):
        return None
    rows = _tightest(rows)
    limits = {dim + i: (-form[-1], Fraction(-1 if strict else 0)) for i, (form, strict) in enumerate(rows)}
    table = [list(form[:-1]) for form, _ in rows]
    basic, free = [dim + i for i in range(len(rows))], list(range(dim))
    value = {name: (Fraction(0), Fraction(0)) for name in (*basic, *free)}
    while True:
        broken = [(name, i) for i, name in enumerate(basic) if name in limits and value[name] > limits[name]]
        if not broken:
            return _concrete(rows, [value[i] for i in range(dim)])
        leaving, i = min(broken)
        entering = [(name, j) for j, name in enumerate(free) if table[i][j] > 0 or (table[i][j] and name not in limits)]
        if not entering:
            return None
        name, j = min(entering)
        step = tuple((limit - now) / table[i][j] for limit, now in zip(limits[leaving], value[leaving], strict=True))
        value[name] = (value[name][0] + step[0], value[name][1] + step[1])
        for k, other in enumerate(basic):
            if table[k][j]:
                value[other] = (value[other][0] + table[k][j] * step[0], value[other][1] + table[k][j] * step[1])
        basic[i], free[j] = name, leaving
        _pivot(table, i, j)


def _tightest(rows: list[Row]) -> list[Row]:
    """One row for each direction, the one that implies the others: in one dimension two at most are left."""
    found: dict[Form, tuple[Fraction, bool]] = {}
    for form, strict in rows:
        size = next((abs(c) for c in form[:-1] if c), None)
        if size is not None:
            direction, limit = tuple(c / size for c in form[:-1]), (form[-1] / size, strict)
            found[direction] = max(found.get(direction, limit), limit)
    return [((*direction, constant), strict) for direction, (constant, strict) in found.items()]


def _pivot(table: list[list[Fraction]], i: int, j: int) -> None:
    factor = table[i][j]
    row = [-v / factor for v in table[i]]
    row[j] = 1 / factor
    for k, other in enumerate(table):
        if k != i and other[j]:
            times = other[j]
            table[k] = [a + times * b for a, b in zip(other, row, strict=True)]
            table[k][j] = times * row[j]
    table[i] = row


def _concrete(rows: list[Row], point: list[tuple[Fraction, Fraction]]) -> list[Fraction]:
    small = Fraction(1)
    while True:
        found = [value + small * more for value, more in point]
        levels = [(_value(form, found), strict) for form, strict in rows]
        if all(level < 0 or (level == 0 and not strict) for level, strict in levels):
            return found
        small /= 2
