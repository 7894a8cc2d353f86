"""A query as an input query of Marabou, the text that ``Marabou --input-query FILE`` reads.

Regions are in their native form: an L1 ball is Σ |z| ≤ r over Marabou's absolute-value constraints. (As ``z = p − n``
with p, n ≥ 0 it is linear, but the preprocessor of Marabou 2.0.0 tightens such bounds for ever.) Every variable has the
proven bounds of its tensor as facts that Marabou starts from. Numbers are written with all their digits; Marabou's own
writer keeps ten after the point, which is another query.

Variables are the input, what enters and leaves ReLUs, and the output: Marabou's tableau has a row for every equation. The
maps between them are products in float64. Bounds and the property are widened by what that can change, so that every
violation of the query is one of the input query.

Source: Wu et al., *Marabou 2.0: A Versatile Formal Analyzer of Neural Networks*, CAV 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from veriflow.errors import QueryError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Affine, Relu, dense
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.region import Part

from .forms.fused_affine import fuse_affine
from .forms.portable_form import with_extra_outputs

_EQUAL, _AT_LEAST, _AT_MOST = 0, 1, 2


class _Lines:
    """The variables, equations, ReLUs and absolute values as they come."""

    def __init__(self) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.equations: list[str] = []
        self.bends: list[str] = []

    def variables(self, lower: Sequence[float], upper: Sequence[float]) -> range:
        start = len(self.lower)
        self.lower += lower
        self.upper += upper
        return range(start, len(self.lower))

    def equation(self, kind: int, terms: list[tuple[int, float]], scalar: float) -> None:
        addends = "".join(f",{variable},{coefficient!r}" for variable, coefficient in terms)
        self.equations.append(f"{len(self.equations)},{kind},{scalar!r}{addends}")

    def bend(self, kind: str, before: int, after: int) -> None:
        self.bends.append(f"{len(self.bends)},{kind},{after},{before}")

    def text(self, inputs: range, outputs: range) -> str:
        count = len(self.lower)
        head = [count, count, count, len(self.equations), len(self.bends)]
        ends = [
            line for part in (inputs, outputs) for line in [f"{len(part)}", *(f"{i},{v}" for i, v in enumerate(part))]
        ]
        bounds = [f"{v},{value!r}" for side in (self.lower, self.upper) for v, value in enumerate(side)]
        return "\n".join([*map(str, head), *ends, *bounds, *self.equations, *self.bends]) + "\n"


def to_marabou(query: Query, disjunct: tuple[Constraint, ...], bounds: Bounds | None = None) -> str:
    """The input query that is satisfiable where the region has an input that meets one disjunct of the violation.

    Its input variables are numbered from zero in the order of the query's input. Strict constraints are non-strict.
    Marabou works in floats, with tolerances of its own: replay every ``sat``.

    Args:
        query: over boxes, balls and shells of norm 1 or ∞, and products of them.
        disjunct: one row of ``query.violation``.
        bounds: bounds over the region for the query's graph; `symbolic_bounds`, if None.

    Raises:
        QueryError: an L2 ball, which is not linear.
    """
    region, graph = query.region, query.graph.ending_at(query.graph.output)
    if not region.is_linear:
        raise QueryError(f"expected a region of linear constraints; got {region}")
    outputs = graph.output_size
    shells = [(place, part) for place, part in region.placed_parts if part.p == math.inf and part.inner]
    if shells:
        graph, bounds = with_extra_outputs(graph, [], [(place, math.inf) for place, _ in shells]), None
    bounds = symbolic_bounds(graph, region) if bounds is None else bounds
    graph, deviations = fuse_affine(graph, bounds)
    lines = _Lines()
    inputs = lines.variables(bounds.lower[graph.input].tolist(), bounds.upper[graph.input].tolist())
    numbers = {graph.input: inputs}
    for node in graph.nodes:
        low, high, off = (t[node.output].tolist() for t in (bounds.lower, bounds.upper, deviations))
        lower = [_below(value, most) for value, most in zip(low, off, strict=True)]
        upper = [-_below(-value, most) for value, most in zip(high, off, strict=True)]
        numbers[node.output] = lines.variables(lower, upper)
        if isinstance(node, Relu):
            for before, after in zip(numbers[node.input], numbers[node.output], strict=True):
                lines.bend("relu", before, after)
        else:
            _affine(lines, node, numbers)
    ends = numbers[graph.output]
    for place, part in region.placed_parts:
        if part.p == 1:
            _l1_norm(lines, inputs[place], part)
    for k, (_, part) in enumerate(shells, start=outputs):
        off = float(deviations[graph.output][k])
        lines.lower[ends[k]] = max(lines.lower[ends[k]], _below(part.inner, off))
    for constraint in disjunct:
        terms = [(ends[i], float(c)) for i, c in constraint.coefficients]
        off = sum(abs(float(c)) * float(deviations[graph.output][i]) for i, c in constraint.coefficients)
        lines.equation(_AT_LEAST, terms, _below(float(constraint.bound), off))
    return lines.text(inputs, ends[:outputs])


def _below(number: float, deviation: float) -> float:
    """A float at most the number minus the deviation; the number itself where the deviation is zero."""
    return math.nextafter(number - 2 * deviation, -math.inf) if deviation else number


def _affine(lines: _Lines, node: Affine, numbers: dict[str, range]) -> None:
    terms: list[list[tuple[int, float]]] = [[(v, -1.0)] for v in numbers[node.output]]
    for name, weight in node.terms:
        matrix = dense(weight)
        for i, j in zip(*matrix.nonzero(), strict=True):
            terms[i].append((numbers[name][j], float(matrix[i, j])))
    for row, bias in zip(terms, node.bias, strict=True):
        lines.equation(_EQUAL, row, 0.0 - float(bias))


def _l1_norm(lines: _Lines, inputs: range, region: Part) -> None:
    magnitudes = lines.variables([0.0] * len(inputs), [region.reach] * len(inputs))
    for before, after in zip(inputs, magnitudes, strict=True):
        lines.bend("absoluteValue", before, after)
    norm = [(v, 1.0) for v in magnitudes]
    lines.equation(_AT_MOST, norm, region.radius)
    if region.inner:
        lines.equation(_AT_LEAST, norm, region.inner)
