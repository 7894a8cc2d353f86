"""Small random graphs and queries with float32 constants, in the shape that flows and networks give them."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import torch

from ..numerics.arrays import Vector
from ..piecewise.evaluate import evaluate
from ..piecewise.graph import Affine, Graph, Node, Relu, compose, identity
from ..queries.constraints import y
from ..queries.properties import formula_property
from ..queries.query import Query, network_query
from ..regions.ball import Ball
from ..regions.box import Box
from ..regions.product import Product
from ..regions.region import Region


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
