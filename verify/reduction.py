"""A smaller query for others: ReLU units that keep to one phase all over the region are folded away.

Units of one layer after the other are settled: by points of the region at which they are on both sides of zero, by symbolic
bounds, by optimised ones, and, while there is time, by the `bab` engine, which is asked whether a unit's input ever gets to
its other side. Every layer is looked at behind those that are folded already. No answer is about the property.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from veriflow.piecewise import Conjunctions, Graph, evaluate, exclude, fold_stable_units, symbolic_bounds
from veriflow.properties import Constraint
from veriflow.query import Query
from veriflow.regions import Region

from .attack import draw_points
from .branch_and_bound import verify_branch_and_bound
from .verdict import Outcome

Signs = NDArray[np.int8]

POINTS = 4096
"""How many points of the region are looked at for units that are on both sides of zero."""

UNIT_SECONDS = 2.0
"""How long the engine may take for one unit."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """A query that has the same violations as another one over the same region.

    Attributes:
        query: the smaller one. Its graph equals the other's inside the region only.
        before: ReLU units of the given query.
        after: those of the smaller one.
    """

    query: Query
    before: int
    after: int


def reduce_query(query: Query, *, timeout: float = 60.0) -> Reduction:
    deadline = time.monotonic() + timeout
    needed = query.graph.ending_at
    phases: dict[str, Signs] = {}
    values = evaluate(query.graph, draw_points(query.region, POINTS, seed=0))
    for relu in query.graph.relus:
        part = fold_stable_units(query.graph.ending_at(relu.input), phases)
        seen = values[relu.input]
        phases[relu.output] = _phases(
            part, query.region, (seen > 0).any(0).numpy(), (seen < 0).any(0).numpy(), deadline
        )
    keep = {query.data, *query.others, *([query.latent] if query.latent else [])}
    graph = fold_stable_units(query.graph, phases, keep)
    return Reduction(replace(query, graph=graph), query.graph.relu_count, graph.relu_count)


COUNT = {}
def _phases(graph: Graph, region: Region, above, below, deadline: float) -> Signs:
    bounds = symbolic_bounds(graph, region)
    low, high = bounds.lower[graph.output], bounds.upper[graph.output]
    phases = np.where(low >= 0, 1, np.where(high <= 0, -1, 0)).astype(np.int8)
    COUNT['symbolic'] = COUNT.get('symbolic',0)+int((phases!=0).sum())
    open_units = np.flatnonzero((phases == 0) & ~(above & below))
    if not open_units.size:
        return phases
    signs = np.where(above[open_units], 1, -1)
    rows = np.zeros((len(open_units), graph.output_size))
    rows[np.arange(len(open_units)), open_units] = -signs
    found = exclude(
        graph, region, Conjunctions(rows, np.zeros(len(rows)), tuple((k,) for k in range(len(rows))))
    ).excluded
    phases[open_units[found]] = signs[found]
    COUNT['exclude'] = COUNT.get('exclude',0)+int(found.sum())
    for unit, sign in zip(open_units[~found], signs[~found], strict=True):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        crossed = Constraint(((int(unit), Fraction(int(-sign))),), Fraction(0), strict=True)
        one = Query(graph, region, ((crossed,),), "", graph.input)
        t=time.monotonic()
        verdict = verify_branch_and_bound(one, timeout=min(UNIT_SECONDS, left))
        COUNT['bab '+verdict.outcome] = COUNT.get('bab '+verdict.outcome,0)+1
        COUNT['t '+verdict.outcome] = COUNT.get('t '+verdict.outcome,0)+time.monotonic()-t
        if verdict.outcome is Outcome.HOLDS:
            phases[unit] = sign
    return phases
