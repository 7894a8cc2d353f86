"""Small queries whose truth is known, and what every verdict on them obeys."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np

from veriflow.errors import QueryError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query
from veriflow.regions.region import Region
from veriflow.testing.enumeration import violating_point
from veriflow.testing.random_queries import REGIONS, exact, inside_points, random_graph, threshold_query
from veriflow.testing.requirements import require

from ..witness.replay import replay
from ..witness.verdict import Outcome, Verdict

Decide = Callable[[Query], Verdict]


@cache
def known_queries() -> tuple[tuple[Query, Outcome], ...]:
    """Queries over every kind of linear region with their truth, by enumeration of activation patterns in rationals."""
    queries = [threshold_query(seed) for seed in range(12)]
    graph = random_graph(0, width=2, blocks=1)
    for region in REGIONS.values():
        (point,) = inside_points(region, np.random.default_rng(0), 1)
        reached = evaluate_exact(graph, exact(point))[graph.output]
        for bound in (reached[0] - reached[1], Fraction(-8)):
            prop = formula_property(y[0] - y[1] > bound)
            queries.append(Query(graph, region.rounded_outward(), prop.violation(3), prop.text, "x"))
    return tuple((query, Outcome.HOLDS if violating_point(query) is None else Outcome.VIOLATED) for query in queries)


def check_verdicts(decide: Decide, takes: Callable[[Region], bool], every: int = 1) -> None:
    """Check what is decided of every so many of `known_queries` whose region is taken; a QueryError leaves a query out.

    Raises:
        AssertionError: a verdict that is wrong, a witness that does not replay, no reason, or nothing decided at all.
    """
    seen = set()
    for query, truth in known_queries()[::every]:
        if not takes(query.region):
            continue
        try:
            verdict = decide(query)
        except QueryError:
            continue
        asked = f"{query.text!r} over {query.region}"
        seen.add(verdict.outcome)
        require(
            verdict.outcome in (truth, Outcome.UNKNOWN),
            f"expected {truth} or unknown of {asked}; got {verdict.outcome}",
        )
        require(verdict.reason and "\n" not in verdict.reason, f"expected a reason in a line; got {verdict.reason!r}")
        if verdict.outcome is Outcome.VIOLATED:
            replays = verdict.witness is not None and replay(query, verdict.witness.point) is not None
            require(replays, f"expected a witness of {asked} that replays in exact rationals; got {verdict.witness}")
    require(seen & {Outcome.HOLDS, Outcome.VIOLATED}, "expected some query to be decided; got none that is")
