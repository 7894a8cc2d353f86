"""Interval arithmetic through a graph: the coarsest and cheapest bounds."""

from __future__ import annotations

import numpy as np

from ...numerics.arrays import Vector
from ...numerics.products import times
from ...numerics.rounding import UNDERFLOW_OF_COEFFICIENTS, gamma
from ..graph import Graph, Node, Relu
from .tensor_bounds import Bounds, Regions


def interval_bounds(graph: Graph, region: Regions) -> Bounds:
    """Bounds by interval arithmetic, layer by layer: the cheapest and the loosest."""
    bounds = Bounds({graph.input: region.lower}, {graph.input: region.upper})
    for node in graph.nodes:
        bounds = bounds.extended(node.output, *interval_step(node, bounds))
    return bounds


def interval_step(node: Node, bounds: Bounds) -> tuple[Vector, Vector]:
    """Bounds on a node's output from those on its inputs."""
    if isinstance(node, Relu):
        return np.maximum(bounds.lower[node.input], 0.0), np.maximum(bounds.upper[node.input], 0.0)
    low, high, terms = node.rounded.bias, node.rounded.bias, 1 + node.roundings
    for name, weight, turned, absolute in node.products:
        middle, radius = (bounds.lower[name] + bounds.upper[name]) / 2, (bounds.upper[name] - bounds.lower[name]) / 2
        centre, spread = times(middle, turned), times(radius, absolute)
        low, high = low + centre - spread, high + centre + spread
        terms += 2 * weight.shape[1]
    error = gamma(terms) * 2 * bounds.terms(node) + UNDERFLOW_OF_COEFFICIENTS
    return low - error, high + error
