"""A smaller query for others: ReLU units that keep to one phase all over the region are folded away.

Units are settled layer by layer, each behind those that are folded already: by points at which they are on both sides of
zero, by bounds, and while there is time by branch and bound, which is asked whether a unit's input ever gets to its other
side. Nothing is asked about the property, so that no verdict goes into the smaller query.
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
from ..witness.verdict import Outcome

POINTS = 4096
"""How many points of the region are looked at for units that are on both sides of zero."""

HALVINGS = 6
"""How often the region's box is halved for bounds."""

UNIT_SECONDS = 2.0
"""How long branch and bound may take for one unit."""


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
    """Fold what is never negative, or never positive, all over the region.

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
    """Of each output that is a unit's input: 1 where it is never negative, −1 where it is never positive, else 0.

    ``above`` and ``below`` say which were seen to be positive and negative.
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
    """Bounds over the region: the better ones of those over it as a whole and those over boxes that cover it."""
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
    return verify_branch_and_bound(query, timeout=min(UNIT_SECONDS, left)).outcome is Outcome.HOLDS
