"""A smaller query: ReLU units that are stable all over the region are folded into affine maps.

Layers are taken in order, each after the layers before it are folded. A unit is unstable where sampled points are on both
sides of zero, stable where bounds prove it, and otherwise branch and bound is asked whether its input changes sign, while
there is time. Nothing is asked about the property, so that no verdict goes into the smaller query.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from veriflow.errors import QueryError
from veriflow.numerics.arrays import Signs
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import Graph
from veriflow.piecewise.simplify import fold_stable_units
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.region import Region

from ..bab.box_domains import RegionBoxes, split_boxes
from ..engines.bab import verify_branch_and_bound
from ..engines.limits import Limits
from ..witness.verdict import Outcome

POINTS = 4096
"""Points of the region at which units are evaluated, to find unstable ones."""

HALVINGS = 6
"""Times that the region's box is halved for bounds."""

UNIT_SECONDS = 2.0
"""Seconds of branch and bound for one unit."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """A query with the violations of a given one, on a smaller graph that equals the given one's inside the region only.

    Attributes:
        query: the smaller one, with the same inputs; its data, latent and further points are whole. It must not be asked
            over another region.
        bounds: bounds over the region for its graph, tighter than the symbolic ones over all of it at once.
        relus: ReLU units of the given query and of this one.
    """

    query: Query
    bounds: Bounds
    relus: tuple[int, int]

    @property
    def counts(self) -> dict[str, int]:
        """ReLU units before and after, as manifests and documents have them."""
        return dict(zip(("before", "after"), self.relus, strict=True))


def reduce_query(query: Query, *, timeout: float = 60.0) -> Reduction:
    """Fold the ReLU units that are stable all over the region: never negative, or never positive.

    The graphs are equal in real arithmetic at every point of the region: no constant is changed. A unit counts as stable
    where bounds prove it, or the bab engine with the tolerance of its verdicts; after ``timeout`` seconds bounds alone.

    Raises:
        QueryError: an L2 ball.
    """
    if not query.region.is_linear:
        raise QueryError(f"expected a region of linear constraints; got {query.region}")
    deadline = time.monotonic() + timeout
    with torch.no_grad():
        values = evaluate(query.graph, query.region.draw(POINTS, seed=0))
    phases: dict[str, Signs] = {}
    for relu in query.graph.relus:
        layer = fold_stable_units(query.graph.ending_at(relu.input), phases)
        above, below = ((sign * values[relu.input] > 0).any(0).numpy() for sign in (1, -1))
        phases[relu.output] = _phases(layer, query.region, above, below, deadline)
    applied = {name for one in query.applications for name in (one.input, one.output)}
    keep = {query.data, *query.others, *applied, *(() if query.latent is None else (query.latent,))}
    graph = fold_stable_units(query.graph, phases, keep)
    bounds = bounds_in_parts(graph, query.region)
    return Reduction(replace(query, graph=graph), bounds, (query.graph.relu_count, graph.relu_count))


def _phases(graph: Graph, region: Region, above: NDArray[np.bool_], below: NDArray[np.bool_], deadline: float) -> Signs:
    """The phase of each unit whose input is an output of the graph: 1 never negative, −1 never positive, 0 unstable or open.

    ``above`` and ``below`` say which were positive and negative at some point.
    """
    bounds = bounds_in_parts(graph, region)
    phases = np.where(bounds.lower[graph.output] >= 0, 1, np.where(bounds.upper[graph.output] <= 0, -1, 0)).astype(
        np.int8
    )
    # bounds of a map without ReLUs are the best there are
    for unit in np.flatnonzero((phases == 0) & ~(above & below)).tolist() if graph.relus else []:
        sign = 1 if above[unit] else -1
        if _never_crosses(graph, region, unit, sign, deadline):
            phases[unit] = sign
    return phases


def bounds_in_parts(graph: Graph, region: Region) -> Bounds:
    """Bounds over the region: the tighter of those over the whole and the hull of those over boxes that cover it."""
    lower, upper = region.lower[None], region.upper[None]
    for _ in range(HALVINGS):
        lower, upper, _ = split_boxes(lower, upper, np.ones_like(lower), region)
    whole = symbolic_bounds(graph, region)
    parts = symbolic_bounds(graph, RegionBoxes(lower, upper, region))
    return Bounds(
        {name: np.maximum(values, parts.lower[name].min(axis=0)) for name, values in whole.lower.items()},
        {name: np.minimum(values, parts.upper[name].max(axis=0)) for name, values in whole.upper.items()},
    )


def _never_crosses(graph: Graph, region: Region, unit: int, sign: int, deadline: float) -> bool:
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    crossing = Constraint(((unit, Fraction(-sign)),), Fraction(0), strict=True)
    query = Query(graph, region, ((crossing,),), "", graph.input)
    return verify_branch_and_bound(query, Limits(timeout=min(UNIT_SECONDS, left))).outcome is Outcome.HOLDS
