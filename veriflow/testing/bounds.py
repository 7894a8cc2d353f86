"""What every way to bound a graph over a region obeys: all tensors stay within the bounds, in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ..piecewise.bounds.tensor_bounds import Bounds
from ..piecewise.evaluate import evaluate_exact
from ..piecewise.graph import Graph
from ..regions.ball import Ball
from ..regions.region import Region
from .random_queries import REGIONS, exact, inside_points, random_graph
from .requirements import require

Bounding = Callable[[Graph, Region], Bounds]
"""Gives bounds on every tensor of a graph that hold all over a region."""

_REGIONS: dict[str, Region] = {
    **REGIONS,
    "L2 ball": Ball(2, 0.6, 3),
    "L2 shell": Ball(2, 0.6, 3, 0.4),
    "point": Ball(1, 0.0, 3),
}


def check_bound(bound: Bounding, points: int = 40) -> None:
    """Check bounds of small random graphs over regions of every kind, at so many points of each in exact rationals.

    Besides seeded points these are, for each direction of an axis, the farthest point of the region, where bounds are tight.

    Raises:
        AssertionError: a tensor without bounds or of another shape, a bound that is no number, a value beyond its bound.
    """
    rng = np.random.default_rng(0)
    for name, region in _REGIONS.items():
        for seed in range(3):
            graph = random_graph(seed)
            bounds = bound(graph, region)
            _check_shapes(bounds, graph)
            for point in _points(region, rng, points):
                _check_values(bounds, graph, point, name)


def _points(region: Region, rng: np.random.Generator, count: int) -> list[list[Fraction]]:
    axes = np.concatenate([np.eye(region.dim), -np.eye(region.dim)])
    corners = [exact(point) for point in region.farthest(axes)]
    return [*filter(region.contains, corners), *(exact(point) for point in inside_points(region, rng, count))]


def _check_shapes(bounds: Bounds, graph: Graph) -> None:
    for name, size in graph.sizes.items():
        for side in (bounds.lower, bounds.upper):
            require(name in side, f"expected bounds on every tensor; got none on {name!r}")
            require(side[name].shape == (size,), f"expected {size} bounds on {name!r}; got {side[name].shape}")
            require(not np.isnan(side[name]).any(), f"expected numbers as bounds on {name!r}; got NaN")


def _check_values(bounds: Bounds, graph: Graph, point: list[Fraction], region: str) -> None:
    for name, values in evaluate_exact(graph, point).items():
        for i, value in enumerate(values):
            low, high = bounds.lower[name][i], bounds.upper[name][i]
            place = f"{name}[{i}] over the {region} at ({', '.join(map(str, map(float, point)))})"
            require(_at_most(low, value), f"expected a lower bound on {place}, which is {float(value)!r}; got {low!r}")
            require(
                _at_most(-high, -value), f"expected an upper bound on {place}, which is {float(value)!r}; got {high!r}"
            )


def _at_most(bound: float, value: Fraction) -> bool:
    return bound == -math.inf or (math.isfinite(bound) and Fraction(float(bound)) <= value)
