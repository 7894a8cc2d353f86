"""Small random graphs and queries with float32 constants, in the shape that flows and networks give them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import torch

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import Affine, Divisor, Graph, Node, Relu, compose, dense, identity
from veriflow.queries.constraints import y
from veriflow.queries.properties import Property, classified_as, formula_property, output_between
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Region


def float32_array(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Vector:
    """Normal numbers, exact in float32, with all their bits in use."""
    return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)


def random_network(rng: np.random.Generator, sizes: tuple[int, ...], start: str = "x") -> Graph:
    """A dense ReLU network; ``sizes`` from the input to the output."""
    nodes: list[Node] = []
    last = start
    for k, (n, m) in enumerate(pairwise(sizes), start=1):
        nodes.append(
            Affine(f"a{k}", ((last, float32_array(rng, m, n, scale=n**-0.5)),), float32_array(rng, m, scale=0.2))
        )
        last = f"a{k}"
        if k < len(sizes) - 1:
            nodes.append(Relu(f"h{k}", last))
            last = f"h{k}"
    return Graph(start, sizes[0], tuple(nodes), last)


def linear(weights: list[float], bias: float = 0.0) -> Graph:
    """A network of one output without ReLUs."""
    rows = np.array([weights], dtype=float)
    return Graph("x", rows.shape[1], (Affine("y", (("x", rows),), np.array([bias])),), "y")


def random_flow(rng: np.random.Generator, dim: int, blocks: int, width: int, depth: int = 2) -> Graph:
    """Residual blocks ``s + V relu(… relu(W s + b)) + c`` and an affine map to the data, as a lowered flow has them."""
    nodes: list[Node] = []
    stream = "z"
    for k in range(1, blocks + 1):
        last, size = stream, dim
        for layer in range(1, depth + 1):
            weight = float32_array(rng, width, size, scale=size**-0.5)
            nodes.append(Affine(f"s{k}_a{layer}", ((last, weight),), float32_array(rng, width, scale=0.3)))
            nodes.append(Relu(f"s{k}_h{layer}", f"s{k}_a{layer}"))
            last, size = f"s{k}_h{layer}", width
        terms = ((stream, identity(dim)), (last, float32_array(rng, dim, width, scale=0.5 * width**-0.5)))
        nodes.append(Affine(f"s{k}", terms, float32_array(rng, dim, scale=0.1)))
        stream = f"s{k}"
    nodes.append(Affine("x", ((stream, float32_array(rng, dim, dim, scale=dim**-0.5)),), float32_array(rng, dim)))
    return Graph("z", dim, tuple(nodes), "x")


def random_graph(seed: int, dim: int = 3, width: int = 4, outputs: int = 3, blocks: int = 2) -> Graph:
    """A network after a flow."""
    rng = np.random.default_rng(seed)
    return compose(random_flow(rng, dim, blocks, width), random_network(rng, (dim, width, width, outputs)))


REGIONS: dict[str, Region] = {
    "L1 ball": Ball(1, 0.7, 3),
    "L1 shell": Ball(1, 0.9, 3, 0.3),
    "trimmed L1 ball": Ball(1, 0.3, 3, limit=0.125),
    "Linf ball": Ball(math.inf, 0.4, 3),
    "Linf shell": Ball(math.inf, 0.5, 3, 0.2),
    "box": Box(np.array([-0.3, 0.1, -1.0]), np.array([0.5, 0.2, 0.25])),
    "ball times box": Product((Ball(1, 0.7, 2), Box(np.array([0.1]), np.array([0.4])))),
    "shell times shell": Product((Ball(math.inf, 0.4, 1, 0.1), Ball(1, 0.6, 2, 0.2))),
}

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


def points_about(region: Region, rng: np.random.Generator, count: int) -> Vector:
    """Float32 points ``[count, dim]`` in and a little around the region's box."""
    middle, reach = (region.lower + region.upper) / 2, 0.6 * (region.upper - region.lower)
    points = middle + reach * rng.uniform(-1, 1, (count, region.dim))
    return points.astype(np.float32).astype(np.float64)


def exact(point: Vector) -> list[Fraction]:
    """A float vector as rationals."""
    return [Fraction(float(value)) for value in point]


def inside_points(region: Region, rng: np.random.Generator, count: int) -> list[Vector]:
    """Float32 points of the region, at most ``count``."""
    return list(islice((p for p in points_about(region, rng, 50 * count) if region.contains(exact(p))), count))


def threshold_query(seed: int) -> Query:
    """A ball, and a threshold near the largest output, so that both answers occur and margins are small."""
    rng = np.random.default_rng(seed)
    dim, width = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    graph = compose(random_flow(rng, dim, 1, width, depth=1), random_network(rng, (dim, width, 2)))
    region = Ball(1 if seed % 2 else math.inf, float(rng.uniform(0.2, 1.5)), dim).rounded_outward()
    points = torch.from_numpy(np.stack(inside_points(region, rng, 200)))
    outputs = evaluate(graph, points)[graph.output]
    gap = (outputs[:, 1] - outputs[:, 0]).max().item() + rng.choice([-0.3, -0.02, 0.005, 0.05, 0.5])
    if seed % 3 == 0:
        other = outputs[:, 0].max().item() + rng.choice([-0.1, 0.1])
        prop = formula_property((y[1] - y[0] <= gap) & (y[0] < other))
    else:
        prop = formula_property(y[1] - y[0] < gap)
    return network_query(graph, region, prop)


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
