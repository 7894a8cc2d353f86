"""A query as a formula of linear real arithmetic: exact rational constants, strict comparisons strict.

Every affine row is an equality that defines a symbol, ``s t = Σ w x + b`` where it is divided. A root s that lies between two
floats, ``low ≤ s ≤ high``, gives all t for which there is such an s, or with bounds some more: ``low t`` is off by at most
``(high − low) |t|``. Every ReLU h = max(y, 0) is ``h ≥ 0 ∧ h ≥ y ∧ (h ≤ 0 ∨ h ≤ y)``.
Where bounds are known, stable ReLUs disappear and each unstable one gets them as facts, with the upper side of its
triangle, ``(u − l) h ≤ u (y − l)`` (Ehlers, *Formal Verification of Piece-Wise Linear Feed-Forward Neural Networks*,
ATVA 2017).
"""

from __future__ import annotations

import math
from fractions import Fraction
from io import StringIO

from pysmt.fnode import FNode
from pysmt.shortcuts import GE, GT, LE, And, Equals, Minus, Or, Plus, Real, Symbol, Times
from pysmt.smtlib import commands
from pysmt.smtlib.script import SmtLibScript
from pysmt.typing import REAL

from veriflow.errors import QueryError
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Affine, Relu, dense
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.region import Part
from veriflow.runtime.deadline import check_deadline

LOGIC = "QF_LRA"
_GRID = 1024


def query_formula(query: Query, bounds: Bounds | None = None) -> FNode:
    """The formula that is satisfiable exactly where the query has a violating input.

    Args:
        query: its input coordinates are the symbols of `input_symbols`.
        bounds: bounds that hold for the graph's tensors all over the region, such as those of `symbolic_bounds`.

    Raises:
        QueryError: an L2 ball, which is not linear.
    """
    return And(_conjuncts(query, bounds))


def input_symbols(query: Query) -> list[FNode]:
    """The real symbols ``z_0, z_1, …`` that stand for the input's coordinates."""
    return [Symbol(f"z_{i}", REAL) for i in range(query.graph.input_size)]


def to_smtlib(query: Query, bounds: Bounds | None = None) -> str:
    """The formula of `query_formula` as an SMT-LIB 2 script in QF_LRA: declarations, one assertion a line, check-sat.

    Raises:
        QueryError: an L2 ball, which is not linear.
    """
    conjuncts = _conjuncts(query, bounds)
    script = SmtLibScript()
    script.add(commands.SET_LOGIC, [LOGIC])
    declared: dict[FNode, None] = {}
    for conjunct in conjuncts:
        check_deadline()
        declared |= dict.fromkeys(sorted(conjunct.get_free_variables(), key=str))
    for symbol in dict.fromkeys([*input_symbols(query), *declared]):
        script.add(commands.DECLARE_FUN, [symbol])
    for conjunct in conjuncts:
        check_deadline()
        script.add(commands.ASSERT, [conjunct])
    script.add(commands.CHECK_SAT, [])
    text = StringIO()
    text.write(f"; can this be violated: {' '.join(query.text.split())}\n; region: {query.region}\n")
    script.serialize(text, daggify=False)
    return text.getvalue()


def _conjuncts(query: Query, bounds: Bounds | None) -> list[FNode]:
    inputs = input_symbols(query)
    conjuncts = [
        c for place, part in query.region.placed_parts for c in _region_conjuncts(part, inputs[place], place.start)
    ]
    graph = query.graph.ending_at(query.graph.output)
    values = {graph.input: inputs}
    for k, node in enumerate(graph.nodes):
        if isinstance(node, Affine):
            values[node.output] = _affine_rows(node, k, values, bounds, conjuncts)
        else:
            values[node.output] = _relu_units(node, k, values[node.input], bounds, conjuncts)
    outputs = values[graph.output]
    conjuncts.append(Or(And(_constraint(c, outputs) for c in row) for row in query.violation))
    return conjuncts


def _region_conjuncts(region: Part, z: list[FNode], start: int) -> list[FNode]:
    ball = region.ball
    if ball is None:
        lower, upper = region.bounding_box().ends
        lows = [GE(v, Real(low)) for v, low in zip(z, lower, strict=True)]
        return lows + [LE(v, Real(high)) for v, high in zip(z, upper, strict=True)]
    if not ball.is_linear:
        raise QueryError(f"expected a region of linear constraints; got {ball}")
    outer, inner = _real(ball.radius), _real(ball.inner)
    if ball.p == math.inf:
        conjuncts = [part for v in z for part in (GE(v, _real(-ball.radius)), LE(v, outer))]
        if ball.inner:
            conjuncts.append(Or(part for v in z for part in (GE(v, inner), LE(v, _real(-ball.inner)))))
        return conjuncts
    return _l1_conjuncts(ball, z, start)


def _l1_conjuncts(region: Ball, z: list[FNode], start: int) -> list[FNode]:
    """``z = p − n`` with p, n ≥ 0 and Σ (p + n) ≤ radius, and |z| ≤ limit where the ball is trimmed.

    For a shell p or n is zero, so that Σ (p + n) is the norm.
    """
    zero = Real(0)
    pairs = [(Symbol(f"p_{i}", REAL), Symbol(f"n_{i}", REAL)) for i in range(start, start + len(z))]
    norm = Plus([part for pair in pairs for part in pair])
    conjuncts = [Equals(v, Minus(p, n)) for v, (p, n) in zip(z, pairs, strict=True)]
    conjuncts += [GE(part, zero) for pair in pairs for part in pair]
    conjuncts.append(LE(norm, _real(region.radius)))
    if region.is_trimmed:
        conjuncts += [part for v in z for part in (GE(v, _real(-region.limit)), LE(v, _real(region.limit)))]
    if region.inner:
        conjuncts += [Or(LE(p, zero), LE(n, zero)) for p, n in pairs]
        conjuncts.append(GE(norm, _real(region.inner)))
    return conjuncts


def _affine_rows(
    node: Affine, k: int, values: dict[str, list[FNode]], bounds: Bounds | None, conjuncts: list[FNode]
) -> list[FNode]:
    """A symbol for every row, defined by an equality; a row that copies an entry is that entry."""
    rows: list[list[FNode]] = [[] for _ in node.bias]
    copies: list[FNode | None] = [None] * len(rows)
    zero = Real(0)
    for name, weight in node.terms:
        for i, line in enumerate(dense(weight)):
            check_deadline()
            for j in (j for j in line.nonzero()[0] if values[name][j] != zero):
                copies[i] = values[name][j] if line[j] == 1 and not rows[i] else None
                rows[i].append(Times(_real(line[j]), values[name][j]))
    results: list[FNode] = []
    for i, (terms, bias, copy) in enumerate(zip(rows, node.bias, copies, strict=True)):
        low, high = (1.0, 1.0) if node.divisor is None else (node.divisor.low[i], node.divisor.high[i])
        if copy is not None and bias == 0 and low == high == 1:
            results.append(copy)
            continue
        result, total = Symbol(f"t_{k}_{i}", REAL), _total([*terms, _real(bias)] if bias else terms)
        results.append(result)
        if low == high:
            conjuncts.append(Equals(result if low == 1 else Times(_real(low), result), total))
            continue
        size = None if bounds is None else float(bounds.magnitude(node.output)[i])
        conjuncts.append(_quotient(result, total, Fraction(low), Fraction(high), size))
    return results


def _quotient(result: FNode, numerator: FNode, low: Fraction, high: Fraction, size: float | None) -> FNode:
    """That the numerator is the result, of at most this size, times a number from low to high."""
    least, most = Times(Real(low), result), Times(Real(high), result)
    if size is not None:
        off = Fraction(2) ** (math.frexp(size)[1] + math.frexp(float(high - low))[1])  # a short number
        return And(LE(numerator, Plus(least, Real(off))), GE(numerator, Minus(least, Real(off))))
    return Or(And(GE(numerator, least), LE(numerator, most)), And(GE(numerator, most), LE(numerator, least)))


def _relu_units(node: Relu, k: int, y: list[FNode], bounds: Bounds | None, conjuncts: list[FNode]) -> list[FNode]:
    zero = Real(0)
    units = []
    for i, before in enumerate(y):
        low, high = -math.inf, math.inf
        if bounds is not None:
            low, high = bounds.lower[node.input][i], bounds.upper[node.input][i]
        if low >= 0 or high <= 0:
            units.append(before if low >= 0 else zero)
            continue
        unit = Symbol(f"t_{k}_{i}", REAL)
        units.append(unit)
        conjuncts += [GE(unit, zero), GE(unit, before), Or(LE(unit, zero), LE(unit, before))]
        if bounds is not None:
            conjuncts += _triangle(unit, before, float(low), float(high))
    return units


def _triangle(unit: FNode, before: FNode, low: float, high: float) -> list[FNode]:
    """The bounds and the upper side; the bounds are rounded outward to short fractions, which doubles Z3's speed."""
    if not (math.isfinite(low * _GRID) and math.isfinite(high * _GRID)):
        return []
    below, above = Fraction(math.floor(low * _GRID), _GRID), Fraction(math.ceil(high * _GRID), _GRID)
    upper = Plus(Times(Real(above), before), Real(-above * below))
    return [GE(before, Real(below)), LE(before, Real(above)), LE(Times(Real(above - below), unit), upper)]


def _constraint(constraint: Constraint, outputs: list[FNode]) -> FNode:
    total = _total([Times(Real(c), outputs[i]) for i, c in constraint.coefficients])
    return (GT if constraint.strict else GE)(total, Real(constraint.bound))


def _total(terms: list[FNode]) -> FNode:
    return Plus(terms) if terms else Real(0)


def _real(value: float) -> FNode:
    return Real(Fraction(float(value)))
