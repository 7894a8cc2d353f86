"""Families of random queries: a kind of region and a statement, and a seed for the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
from small_queries import random_flow, random_network

from veriflow.piecewise.graph import Affine, Graph, Relu, compose
from veriflow.queries.constraints import Constraint, y
from veriflow.queries.properties import (
    classified_as,
    confident,
    formula_property,
    never_confident,
    never_confidently_wrong,
    output_between,
)
from veriflow.queries.query import Query, Setting, Statement
from veriflow.queries.relations import abstains_outside, equivalent, fair, lipschitz, monotone, robust, same_decision
from veriflow.queries.restriction import restricted_queries, specification_queries
from veriflow.queries.specification import Case, DeclaredNetwork, Specification
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Region

REGIONS: dict[str, Region] = {
    "L1-ball": Ball(1, 1.0, 2),
    "L1-shell": Ball(1, 1.25, 2, 0.75),
    "L1-sphere": Ball(1, 0.75, 2, 0.75),
    "L1-trimmed": Ball(1, 1.25, 2, limit=0.75),
    "L1-trimmed-shell": Ball(1, 1.25, 2, 0.75, 0.625),
    "Linf-ball": Ball(math.inf, 0.75, 2),
    "Linf-shell": Ball(math.inf, 1.0, 2, 0.5),
    "Linf-ball-3d": Ball(math.inf, 0.5, 3),
    "L1-ball-3d": Ball(1, 0.75, 3),
    "L1-trimmed-3d": Ball(1, 1.0, 3, limit=0.375),
    "box": Box(np.array([-0.5, 0.25]), np.array([1.0, 0.75])),
    "exact-box": Box.between([Fraction(-1, 3), Fraction(1, 10)], [Fraction(2, 7), Fraction(3, 5)]),
    "point": Box(np.array([0.5, -0.25]), np.array([0.5, -0.25])),
    "product": Product((Ball(1, 0.75, 2), Box(np.array([0.25]), np.array([0.5])))),
    "shells": Product((Ball(math.inf, 0.5, 1, 0.25), Ball(1, 0.75, 1, 0.5))),
}
"""Kinds of regions."""

STATEMENTS: dict[str, Callable[[np.random.Generator, Graph], Statement]] = {
    "classified_as": lambda rng, _: classified_as(int(rng.integers(2))),
    "margin": lambda rng, _: classified_as(0, _eighths(rng, -6, 4)),
    "confident": lambda rng, _: confident(0, _eighths(rng, 1, 4)),
    "some-class": lambda rng, _: confident(None, _eighths(rng, 1, 2)),
    "never_confident": lambda rng, _: never_confident(_eighths(rng, 4, 14)),
    "never-wrong": lambda rng, _: never_confidently_wrong(1, 0.75),
    "output_between": lambda rng, _: output_between(1, -_eighths(rng, 2, 9), _eighths(rng, 2, 9)),
    "formula": lambda rng, _: formula_property(
        ((y[0] < _eighths(rng, 0, 6)) | (y[1] >= _eighths(rng, -2, 3))) & (2 * y[0] - y[1] / 3 > -_eighths(rng, 2, 12))
    ),
}
"""Properties of one point."""

RELATIONS: dict[str, Callable[[np.random.Generator, Graph], Statement]] = {
    "robust-Linf": lambda rng, _: robust(_eighths(rng, 1, 2), math.inf, tolerance=_eighths(rng, 0, 3)),
    "robust-L1": lambda rng, _: robust(_eighths(rng, 1, 3), 1, 1, tolerance=_eighths(rng, 1, 3)),
    "fair-values": lambda rng, _: fair(0, [0, 1], tolerance=_eighths(rng, 0, 4)),
    "fair-within": lambda rng, _: fair(1, within=(-0.5, 0.5), tolerance=_eighths(rng, 0, 4)),
    "fair-allow": lambda rng, _: fair(0, [0, 1], allow={1: 0.25}, tolerance=_eighths(rng, 1, 5)),
    "monotone": lambda rng, _: monotone(0, 1, by=0.5, tolerance=_eighths(rng, 0, 2)),
    "monotone-down": lambda rng, _: monotone(1, y[1] - y[0], increasing=False, by=0.25, tolerance=_eighths(rng, 0, 2)),
    "lipschitz": lambda rng, _: lipschitz(Fraction(int(rng.integers(2, 12)), 8), math.inf, 0.25, 0, tolerance=0.125),
    "equivalent": lambda rng, network: equivalent(_nudged(rng, network), _eighths(rng, 1, 3)),
    "same_decision": lambda rng, network: same_decision(_nudged(rng, network), tolerance=_eighths(rng, 0, 1)),
    "abstains_outside": lambda rng, _: abstains_outside(_eighths(rng, 4, 16), 1.5),
}
"""Statements about several points or networks; they are asked on balls and boxes."""

RESTRICTED = {
    "L1-ball": Ball(1, 1.0, 2),
    "Linf-ball": Ball(math.inf, 1.0, 2),
    "L1-shell": Ball(1, 1.0, 2, 0.5),
    "L1-trimmed": Ball(1, 1.0, 2, limit=0.625),
}
"""Balls and shells for specifications."""

RELATED = ("L1-ball", "Linf-ball", "box")


def _eighths(rng: np.random.Generator, low: int, high: int) -> float:
    return int(rng.integers(low, high + 1)) / 8


def dyadic(graph: Graph) -> Graph:
    """The graph with every number rounded to eighths."""
    nodes = [
        replace(
            node, terms=tuple((name, np.round(8 * w) / 8) for name, w in node.terms), bias=np.round(8 * node.bias) / 8
        )
        if isinstance(node, Affine)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def _nudged(rng: np.random.Generator, network: Graph) -> Graph:
    """The network with some numbers an eighth larger or smaller."""
    nodes = [
        replace(node, bias=node.bias + rng.integers(-1, 2, node.bias.shape) / 8) if isinstance(node, Affine) else node
        for node in network.nodes
    ]
    return replace(network, nodes=tuple(nodes))


def _asked(region: Region, statement: Callable[[np.random.Generator, Graph], Statement], seed: int) -> Query:
    rng = np.random.default_rng(seed)
    decoder = dyadic(random_flow(rng, region.dim, 1, 2, depth=1))
    network = dyadic(random_network(rng, (region.dim, 3, 2)))
    return statement(rng, network).query(Setting(decoder, network, region))


class Shear:
    """A flow that is exact in both directions: x = (z_0, z_1 + h(z_0)) with h a small ReLU network."""

    dim = 2
    features = ("first", "second")

    def __init__(self, rng: np.random.Generator) -> None:
        self.hidden = rng.integers(-8, 9, (2, 1)) / 8, rng.integers(-4, 5, 2) / 8
        self.out = rng.integers(-8, 9, 2) / 8

    def graph(self, direction: str = "forward") -> Graph:
        """From latent to data, or back for "inverse"."""
        start, end, sign = ("z", "x", 1) if direction == "forward" else ("x", "z", -1)
        weight, bias = self.hidden
        nodes = (
            Affine("a", ((start, np.hstack([weight, np.zeros((2, 1))])),), bias),
            Relu("h", "a"),
            Affine(end, ((start, np.eye(2)), ("h", sign * np.stack([np.zeros(2), self.out]))), np.zeros(2)),
        )
        return Graph(start, 2, nodes, end)


def _restricted(ball: Ball, direction: str, seed: int) -> Query:
    """A specification of one box, or of two, restricted to a ball or shell of a `Shear`."""
    rng = np.random.default_rng(seed)
    flow, network = Shear(rng), dyadic(random_network(rng, (2, 3, 2)))
    corner = [Fraction(int(value), 8) for value in rng.integers(-8, 6, 2)]
    sides = [low + Fraction(int(value), 8) for low, value in zip(corner, rng.integers(1, 9, 2), strict=True)]
    outputs = Constraint(((2, Fraction(1)), (3, Fraction(-1))), Fraction(int(rng.integers(-4, 9)), 8))
    also = Constraint(((0, Fraction(1)), (1, Fraction(1))), Fraction(int(rng.integers(-8, 2)), 8))
    cases = [Case(tuple(corner), tuple(sides), ((outputs, also),))]
    if direction == "latent-to-data":
        far = tuple(value + 1 for value in corner), tuple(value + 1 for value in sides)
        cases.append(Case(*far, ((outputs,),)))
    spec = Specification((DeclaredNetwork(2, 2),), tuple(cases), "a box of data")
    return replace(restricted_queries(flow, ball, network, spec, direction)[0], flow=None)


def _pair(seed: int) -> Query:
    """Two networks whose inputs a specification says to be equal."""
    rng = np.random.default_rng(seed)
    first = dyadic(random_network(rng, (2, 3, 1)))
    second = _nudged(rng, first)
    one, zero = Fraction(1), Fraction(0)
    equal = [Constraint(((i, sign), (i + 2, -sign)), zero) for i in (0, 1) for sign in (one, -one)]
    apart = Constraint(((4, one), (5, -one)), Fraction(int(rng.integers(0, 4)), 8))
    case = Case((-one,) * 4, (one,) * 4, ((*equal, apart),))
    spec = Specification((DeclaredNetwork(2, 1), DeclaredNetwork(2, 1)), (case,), "two networks apart")
    return specification_queries([first, second], spec)[0]


def _deep(p: float, seed: int) -> Query:
    """Two blocks and two hidden layers."""
    rng = np.random.default_rng(seed)
    graph = compose(dyadic(random_flow(rng, 2, 2, 3)), dyadic(random_network(rng, (2, 3, 3, 2))))
    region = Ball(p, 1.0, 2)
    prop = classified_as(0, _eighths(rng, -8, 4))
    return Query(graph, region, prop.violation(2), prop.text, "x")


FAMILIES: dict[str, Callable[[int], Query]] = {
    **{f"{kind}.{name}": partial(_asked, REGIONS[kind], made) for kind in REGIONS for name, made in STATEMENTS.items()},
    **{
        f"{kind}.{name}": partial(_asked, REGIONS[kind], made)
        for kind in RELATED
        for name, made in RELATIONS.items()
        if not (name == "abstains_outside" and kind == "box")
    },
    **{
        f"{kind}.{direction}": partial(_restricted, ball, direction)
        for kind, ball in RESTRICTED.items()
        for direction in ("latent-to-data", "data-to-latent")
    },
    **{f"{kind}.deep": partial(_deep, p) for kind, p in (("L1-ball", 1), ("Linf-ball", math.inf))},
    "box.two-networks": _pair,
}
"""Kind and statement → from a seed to a query."""
