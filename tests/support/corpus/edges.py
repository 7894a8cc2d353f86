"""Queries at the edge: ties, single points, violations at one vertex or on a boundary only, nothing to decide at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import Constraint, Disjunction, Formula, y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.region import Region

Vector = list[float]


def _graph(hidden: list[Vector], bias: Vector, out: list[Vector], last: Vector) -> Graph:
    """``out · relu(hidden · z + bias) + last``."""
    nodes = (
        Affine("a", (("z", np.array(hidden)),), np.array(bias)),
        Relu("h", "a"),
        Affine("y", (("h", np.array(out)),), np.array(last)),
    )
    return Graph("z", len(hidden[0]), nodes, "y")


def _norm(p: float) -> Graph:
    """‖z‖_1 or ‖z‖_inf of two numbers."""
    if p == 1:
        return _graph([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4, [[1] * 4], [0])
    nodes = (
        Affine("a", (("z", np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])),), np.zeros(4)),
        Relu("h", "a"),
        Affine("b", (("h", np.array([[1.0, 1, -1, -1], [0, 0, 1, 1]])),), np.zeros(2)),
        Relu("g", "b"),
        Affine("y", (("g", np.array([[1.0, 1]])),), np.zeros(1)),
    )
    return Graph("z", 2, nodes, "y")


def _step() -> Graph:
    """relu(z_0) − relu(−z_1): over a unit L1 ball 1 at one vertex only, over a unit cube 1 on half of a face."""
    return _graph([[1, 0], [0, -1]], [0, 0], [[1, -1]], [0])


def _ask(graph: Graph, region: Region, formula: Formula) -> Query:
    prop = formula_property(formula)
    return Query(graph, region, prop.violation(graph.output_size), prop.text, graph.input)


def _rows(graph: Graph, region: Region, violation: Disjunction) -> Query:
    return Query(graph, region, violation, "given rows", graph.input)


def _at_least(i: int, bound: Fraction | int, sign: int = 1, strict: bool = False) -> Constraint:
    return Constraint(((i, Fraction(sign)),), Fraction(bound), strict)


def _twins() -> Graph:
    """Two equal outputs."""
    return _graph([[1, 1], [1, -1]], [0, 0.5], [[1, 1], [1, 1]], [0, 0])


def _scaled() -> Graph:
    """Numbers over twelve orders of magnitude; the output is relu(z_0 − z_1)."""
    return _graph([[2.0**20, -(2.0**20)], [2.0**-20, 2.0**-20]], [0, 0], [[2.0**-20, 0]], [0])


def _point(x: Fraction, z: Fraction) -> Box:
    return Box.between([x, z], [x, z])


SMALL = Fraction(1, 10**12)
UNIT_1, UNIT_INF = Ball(1, 1.0, 2), Ball(math.inf, 1.0, 2)
DEAD = _graph([[1, 1], [1, -1]], [-4, -4], [[1, 2], [2, 1]], [0.25, -0.25])
LINEAR = Graph("z", 2, (Affine("y", (("z", np.array([[1.0, 2.0], [-1.0, 0.5]])),), np.array([0.0, 0.25])),), "y")
CONSTANT = _graph([[0, 0]], [1], [[0], [0]], [1, 0])

EDGES: dict[str, Callable[[], Query]] = {
    "edge.vertex-tie": lambda: _ask(_step(), UNIT_1, y[0] < 1),
    "edge.vertex-strict-tie": lambda: _ask(_step(), UNIT_1, y[0] <= 1),
    "edge.vertex-just-above": lambda: _ask(_step(), UNIT_1, y[0] < 1 + SMALL),
    "edge.vertex-just-below": lambda: _ask(_step(), UNIT_1, y[0] <= 1 - SMALL),
    "edge.vertex-clear": lambda: _ask(_step(), UNIT_1, y[0] < 1 - Fraction(1, 100)),
    "edge.face-tie": lambda: _ask(_step(), UNIT_INF, y[0] < 1),
    "edge.face-strict-tie": lambda: _ask(_step(), UNIT_INF, y[0] <= 1),
    "edge.sphere-L1-tie": lambda: _ask(_norm(1), UNIT_1, y[0] < 1),
    "edge.sphere-L1-strict-tie": lambda: _ask(_norm(1), UNIT_1, y[0] <= 1),
    "edge.sphere-Linf-tie": lambda: _ask(_norm(math.inf), UNIT_INF, y[0] < 1),
    "edge.sphere-Linf-strict-tie": lambda: _ask(_norm(math.inf), UNIT_INF, y[0] <= 1),
    "edge.inner-sphere-L1-tie": lambda: _ask(_norm(1), Ball(1, 1.0, 2, 0.5), y[0] > 0.5),
    "edge.inner-sphere-Linf": lambda: _ask(_norm(math.inf), Ball(math.inf, 1.0, 2, 0.5), y[0] >= 0.375),
    "edge.sphere-alone": lambda: _ask(_norm(1), Ball(1, 0.75, 2, 0.75), (y[0] > 0.625) & (y[0] < 0.875)),
    "edge.corner-of-L1-in-cube": lambda: _ask(_norm(1), UNIT_INF, y[0] < 1.9375),
    "edge.past-the-corner": lambda: _ask(_norm(1), UNIT_INF, y[0] < 2.0625),
    "edge.point-violated": lambda: _ask(_step(), Box(np.array([0.5, 0.5]), np.array([0.5, 0.5])), y[0] < 0.375),
    "edge.point-tie": lambda: _ask(_step(), Box(np.array([0.5, 0.5]), np.array([0.5, 0.5])), y[0] < 0.5),
    "edge.point-no-float-tie": lambda: _ask(_step(), _point(Fraction(1, 3), Fraction(1, 7)), y[0] < Fraction(1, 3)),
    "edge.point-no-float-strict": lambda: _ask(_step(), _point(Fraction(1, 3), Fraction(1, 7)), y[0] <= Fraction(1, 3)),
    "edge.point-no-float-holds": lambda: _ask(_step(), _point(Fraction(1, 3), Fraction(-1, 7)), y[0] < Fraction(1, 4)),
    "edge.radius-zero-violated": lambda: _ask(_twins(), Ball(1, 0.0, 2), y[0] >= 0.625),
    "edge.radius-zero-holds": lambda: _ask(_twins(), Ball(math.inf, 0.0, 2), y[0] >= 0.375),
    "edge.one-dimension": lambda: _ask(_graph([[1], [-1]], [0, 0], [[1, 2]], [0]), Ball(1, 1.0, 1), y[0] < 1.75),
    "edge.one-dimension-holds": lambda: _ask(_graph([[1], [-1]], [0, 0], [[1, 2]], [0]), Ball(1, 1.0, 1), y[0] < 2.25),
    "edge.flat-box": lambda: _ask(_step(), Box(np.array([-1, 0.25]), np.array([1, 0.25])), y[0] < 0.875),
    "edge.twins-tie": lambda: _ask(_twins(), UNIT_1, classified_as(0).formula(2)),
    "edge.twins-apart": lambda: _ask(_twins(), UNIT_INF, y[0] - y[1] < 0.125),
    "edge.dead-units": lambda: _ask(DEAD, UNIT_INF, y[0] - y[1] > 0.375),
    "edge.dead-units-violated": lambda: _ask(DEAD, UNIT_INF, y[0] - y[1] > 0.625),
    "edge.no-units": lambda: _ask(LINEAR, UNIT_1, y[0] < 1.875),
    "edge.no-units-holds": lambda: _ask(LINEAR, UNIT_1, y[0] < 2.125),
    "edge.constant": lambda: _ask(CONSTANT, UNIT_1, y[0] - y[1] > 0.5),
    "edge.constant-violated": lambda: _ask(CONSTANT, UNIT_1, y[0] - y[1] > 1.5),
    "edge.scales": lambda: _ask(_scaled(), UNIT_1, y[0] < 0.875),
    "edge.scales-hold": lambda: _ask(_scaled(), UNIT_1, y[0] < 1.125),
    "edge.nothing-to-meet": lambda: _rows(LINEAR, UNIT_1, ((_at_least(0, 1), _at_least(0, 0, -1)),)),
    "edge.one-way-impossible": lambda: _rows(
        LINEAR, UNIT_1, ((_at_least(0, 1), _at_least(0, 0, -1)), (_at_least(1, 1), _at_least(0, -1)))
    ),
    "edge.on-a-line": lambda: _rows(
        _step(), UNIT_1, ((_at_least(0, Fraction(1, 4)), _at_least(0, Fraction(-1, 4), -1)),)
    ),
    "edge.line-without-ends": lambda: _rows(
        _step(), UNIT_1, ((_at_least(0, Fraction(1, 4), strict=True), _at_least(0, Fraction(-1, 4), -1)),)
    ),
    "edge.same-way-twice": lambda: _rows(
        _step(), UNIT_1, ((_at_least(0, Fraction(1, 2)),), (_at_least(0, Fraction(1, 2)),))
    ),
}
"""Name → what makes the query."""
