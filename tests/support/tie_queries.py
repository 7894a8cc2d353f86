"""Random queries made to be hard to get right: every region, 1 to 40 ReLUs, degenerate rows, thresholds at exact ties.

All numbers are small dyadic ones, so that ties are ties in floats too and the truth can be had by enumeration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Node, Relu
from veriflow.queries.constraints import Formula, y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Region
from veriflow.testing.enumeration import violating_point

REGIONS = (
    "L1 ball",
    "Linf ball",
    "box",
    "L1 shell",
    "Linf shell",
    "exact box",
    "ball times box",
    "shell times shell",
    "sphere",
    "flat box",
    "point",
)
NEAR = Fraction(1, 10**4)
"""Engines that work in floats may leave open what changes with its thresholds by this much."""

TIES = ("tie", "strict tie", "just above", "just below", "clear", "hopeless")


def tie_query(seed: int) -> Query:
    """The region goes round with the seed, and so does the kind of threshold, at another pace."""
    rng = np.random.default_rng(seed)
    kind, tie = REGIONS[seed % len(REGIONS)], TIES[seed // len(REGIONS) % len(TIES)]
    most = 12 if " times " in kind else 40
    units = int(rng.integers(1, 9)) if rng.random() < 0.75 else int(rng.integers(9, most + 1))
    # in one dimension 40 units have 41 patterns, in two 821, in three more than a simplex in rationals can visit
    dim = 1 if units > 16 or rng.random() < 0.15 else (2 if units > 5 or rng.random() < 0.7 else 3)
    region = _region(rng, kind, max(dim, 2) if " times " in kind else dim)
    graph = _graph(rng, region.dim, units)
    return network_query(graph, region, formula_property(_formula(rng, graph, region, tie)))


def near(query: Query, truth: bool) -> bool:
    """Whether thresholds that move by `NEAR`, relative to their size, change whether there is a violation."""
    for sign in (1, -1):
        rows = tuple(
            tuple(replace(c, bound=c.bound + sign * NEAR * max(1, abs(c.bound))) for c in row)
            for row in query.violation
        )
        if (violating_point(replace(query, violation=rows)) is not None) != truth:
            return True
    return False


def _dyadic(rng: np.random.Generator, low: int, high: int, *shape: int, parts: int = 4) -> Vector:
    return rng.integers(low * parts, high * parts + 1, shape) / parts


def _region(rng: np.random.Generator, kind: str, dim: int) -> Region:
    radius, p = float(rng.integers(2, 9)) / 4, (1, math.inf)[int(rng.integers(2))]
    low, wide = _dyadic(rng, -1, 1, dim), _dyadic(rng, 0, 2, dim)
    start, more = ([Fraction(int(v), n) for v in rng.integers(-3, 4, dim)] for n in (3, 7))
    made: dict[str, Callable[[], Region]] = {
        "L1 ball": lambda: Ball(1, radius, dim),
        "Linf ball": lambda: Ball(math.inf, radius, dim),
        "L1 shell": lambda: Ball(1, radius, dim, radius / 2),
        "Linf shell": lambda: Ball(math.inf, radius, dim, radius / 2),
        "sphere": lambda: Ball(p, radius, dim, radius),
        "box": lambda: Box(low, low + wide + 0.25),
        "flat box": lambda: Box(low, low + wide * (np.arange(dim) > 0)),
        "point": lambda: Box(low, low),
        "exact box": lambda: Box.between(start, [v + abs(w) for v, w in zip(start, more, strict=True)]),
        "ball times box": lambda: Product((Ball(p, radius, dim - 1), Box(low[:1], low[:1] + 0.5))),
        "shell times shell": lambda: Product((Ball(p, radius, dim - 1, radius / 2), Ball(1, 0.75, 1, 0.5))),
    }
    return made[kind]()


def _degenerate(rng: np.random.Generator, weight: Vector, bias: Vector) -> None:
    """Rows that are zero, equal, multiples of each other or nearly so, opposite; biases that put kinks on each other."""
    rows = len(weight)
    for _ in range(int(rng.integers(0, 1 + rows))):
        i, j = rng.integers(0, rows, 2)
        what = int(rng.integers(7))
        if what == 0:
            weight[i] = 0
        elif what == 1:
            bias[i] = 0
        elif what == 2:
            weight[i, int(rng.integers(weight.shape[1]))] = 0
        else:
            factor = (1.0, -1.0, 0.5, 1 + 2.0**-20)[what - 3]
            weight[i], bias[i] = factor * weight[j], factor * bias[j]
    # what float32 cannot hold is no constant of a network
    weight[:], bias[:] = weight.astype(np.float32), bias.astype(np.float32)


def _graph(rng: np.random.Generator, dim: int, units: int) -> Graph:
    """Dense layers whose ReLUs are so many in all, two outputs; sometimes the input skips ahead to the last map."""
    layers = int(rng.integers(1, min(3, units) + 1))
    cuts = np.sort(rng.choice(np.arange(1, units), layers - 1, replace=False)).tolist()
    widths = np.diff([0, *cuts, units]).tolist()
    nodes: list[Node] = []
    last, size = "x", dim
    for k, width in enumerate(widths, start=1):
        weight, bias = _dyadic(rng, -1, 1, width, size), _dyadic(rng, -1, 1, width)
        _degenerate(rng, weight, bias)
        nodes += [Affine(f"a{k}", ((last, weight),), bias), Relu(f"h{k}", f"a{k}")]
        last, size = f"h{k}", width
    weight, bias = _dyadic(rng, -1, 1, 2, size), _dyadic(rng, -1, 1, 2)
    _degenerate(rng, weight, bias)
    skip = (("x", _dyadic(rng, -1, 1, 2, dim)),) if rng.random() < 0.4 else ()
    nodes.append(Affine("y", ((last, weight), *skip), bias))
    return Graph("x", dim, tuple(nodes), "y")


def _formula(rng: np.random.Generator, graph: Graph, region: Region, tie: str) -> Formula:
    """What is to hold; its threshold is the largest value of a score at chosen points of the region, or is beside it."""
    a, b = (int(v) for v in rng.integers(-2, 3, 2))
    score = a * y[0] + b * y[1] if (a, b) != (0, 0) else y[0] - y[1]
    c = tuple(float(v) for v in ((a, b) if (a, b) != (0, 0) else (1, -1)))
    values = []
    for point in _points(rng, region):
        out = evaluate_exact(graph, point)["y"]
        values.append((Fraction(c[0]) * out[0] + Fraction(c[1]) * out[1], out))
    most, outputs = max(values, key=lambda entry: entry[0])
    shift = {"just above": Fraction(1, 2**30), "just below": -Fraction(1, 2**30), "clear": -Fraction(1, 8)}
    limit = most + (Fraction(3, 2) if tie == "hopeless" else shift.get(tie, Fraction(0)))
    below = score <= limit if tie == "strict tie" else score < limit
    match int(rng.integers(4)):
        case 0:  # a second way to violate it
            return below & (y[1] > outputs[1] - Fraction(int(rng.integers(1, 9)), 4))
        case 1:  # a second thing that a violation needs, a tie too
            return below | (y[0] > outputs[0])
        case 2:
            return below | (y[1] > outputs[1] + Fraction(1, 4)) | (y[0] < outputs[0] - Fraction(1, 4))
    return below


def _points(rng: np.random.Generator, region: Region) -> list[list[Fraction]]:
    """Vertices, faces and inner points of the region."""
    middle = [Fraction(float(a + b)) / 2 for a, b in zip(region.lower, region.upper, strict=True)]
    if isinstance(region, Box):
        low, high = region.ends
        drawn = [
            [a + (b - a) * Fraction(int(rng.integers(9)), 8) for a, b in zip(low, high, strict=True)] for _ in range(12)
        ]
        return [*map(list, itertools.product(*zip(low, high, strict=True))), *drawn]
    found = [list(map(Fraction, point)) for point in region.vertices.tolist()] + [middle]
    eighths = rng.integers(-8, 9, (40, region.dim))
    reach = [Fraction(float(v)) for v in region.upper - np.array([float(m) for m in middle])]
    found += [[m + r * Fraction(int(e), 8) for m, r, e in zip(middle, reach, row, strict=True)] for row in eighths]
    return [point for point in found if region.contains(point)]
