"""Small random graphs and queries with float32 constants, in the shape that flows and networks give them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from veriflow.piecewise.graph import Affine, Divisor, Graph, dense
from veriflow.queries.constraints import y
from veriflow.queries.properties import Property, classified_as, formula_property, output_between
from veriflow.queries.query import Query
from veriflow.testing.random_queries import (
    REGIONS,
    exact,
    float32_array,
    inside_points,
    points_about,
    random_flow,
    random_graph,
    random_network,
    threshold_query,
)

__all__ = [
    "PROPERTIES",
    "REGIONS",
    "exact",
    "float32_array",
    "in_other_units",
    "inside_points",
    "linear",
    "points_about",
    "random_flow",
    "random_graph",
    "random_network",
    "small_query",
    "threshold_query",
    "with_divisors",
]


def linear(weights: list[float], bias: float = 0.0) -> Graph:
    """A network of one output without ReLUs."""
    rows = np.array([weights], dtype=float)
    return Graph("x", rows.shape[1], (Affine("y", (("x", rows),), np.array([bias])),), "y")


PROPERTIES: dict[str, Property] = {
    "largest": classified_as(0),
    "between": output_between(1, -0.25, 0.5),
    "margin": classified_as(1, 0.1),
    "mixed": formula_property(
        (y[0] - y[1] > -0.15) & (y[2] <= 0.25) & ((2 * y[1] + 0.5 * y[0] < y[2] / 3 - Fraction(1, 7)) | (y[0] >= 0.2))
    ),
}


def small_query(region: str, prop: str, seed: int = 0) -> Query:
    """One of the regions with one of the properties over a random graph of three inputs and outputs."""
    graph = random_graph(seed)
    chosen = PROPERTIES[prop]
    ends = REGIONS[region].rounded_outward()
    return Query(graph, ends, chosen.violation(graph.output_size), chosen.text, "x")


def in_other_units(query: Query, power: int, seed: int) -> Query:
    """The same question with every ReLU unit measured in a unit of its own, between 2^−power and 2^power."""
    graph, rng = query.graph, np.random.default_rng(seed)
    units = {name: np.ones(size) for name, size in graph.sizes.items()}
    for relu in graph.relus:
        units[relu.input] = units[relu.output] = 2.0 ** rng.integers(-power, power + 1, graph.sizes[relu.input])
    nodes = tuple(
        Affine(
            node.output,
            tuple((name, units[node.output][:, None] * dense(weight) / units[name]) for name, weight in node.terms),
            units[node.output] * node.bias,
        )
        if isinstance(node, Affine)
        else node
        for node in graph.nodes
    )
    return replace(query, graph=Graph(graph.input, graph.input_size, nodes, graph.output))


def with_divisors(query: Query, seed: int, *, roots: bool = False) -> Query:
    """The query with constants of all 53 bits whose every map is divided, by floats or by roots that are none."""
    rng = np.random.default_rng(seed)

    def divided(node: Affine) -> Affine:
        squares = [Fraction(float(v)) for v in rng.uniform(0.3, 3.0, len(node.bias))]
        known = Divisor.of(rng.uniform(0.6, 1.7, len(node.bias)))
        terms = tuple((name, weight * (1 + 2.0**-40)) for name, weight in node.terms)
        return Affine(node.output, terms, node.bias * (1 - 2.0**-45), Divisor.roots(squares) if roots else known)

    graph = query.graph
    nodes = tuple(divided(node) if isinstance(node, Affine) else node for node in graph.nodes)
    return replace(query, graph=Graph(graph.input, graph.input_size, nodes, graph.output))
