"""Piecewise affine graphs: what a flow and a network under test are lowered to."""

from .bounds import Bounds, Regions, backward_rows, interval_bounds, linear_lower_bounds, symbolic_bounds
from .evaluate import evaluate, evaluate_exact
from .graph import Affine, Graph, Relu, compose
from .lower import lower_flow, lower_network
from .simplify import drop_dead_units, fuse_affine

__all__ = [
    "Affine",
    "Bounds",
    "Graph",
    "Regions",
    "Relu",
    "backward_rows",
    "compose",
    "drop_dead_units",
    "evaluate",
    "evaluate_exact",
    "fuse_affine",
    "interval_bounds",
    "linear_lower_bounds",
    "lower_flow",
    "lower_network",
    "symbolic_bounds",
]
