"""Piecewise affine graphs: what a flow and a network under test are lowered to."""

from .bounds import (
    Bounds,
    LinearBounds,
    Regions,
    Relaxation,
    backward_rows,
    interval_bounds,
    linear_lower_bounds,
    symbolic_bounds,
)
from .evaluate import enclose_exact, evaluate, evaluate_exact, nearest_floats
from .graph import Affine, Divisor, Graph, Relu, compose, with_rounded_quotients
from .interior_point import InteriorPoint, Iterate
from .lifting import NO_PAIRS, Lifting, lift
from .lower import lower_flow, lower_network
from .optimise import Conjunctions, Exclusion, exclude
from .piece_ascent import PieceAscent
from .simplify import drop_dead_units, fold_stable_units, fuse_affine, join_shifts

__all__ = [
    "NO_PAIRS",
    "Affine",
    "Bounds",
    "Conjunctions",
    "Divisor",
    "Exclusion",
    "Graph",
    "InteriorPoint",
    "Iterate",
    "Lifting",
    "LinearBounds",
    "PieceAscent",
    "Regions",
    "Relaxation",
    "Relu",
    "backward_rows",
    "compose",
    "drop_dead_units",
    "enclose_exact",
    "evaluate",
    "evaluate_exact",
    "exclude",
    "fold_stable_units",
    "fuse_affine",
    "interval_bounds",
    "join_shifts",
    "lift",
    "linear_lower_bounds",
    "lower_flow",
    "lower_network",
    "nearest_floats",
    "symbolic_bounds",
    "with_rounded_quotients",
]
