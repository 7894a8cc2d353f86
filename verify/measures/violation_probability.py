"""How often a property is violated, by counting: under the flow and on held-out data.

A count is an estimate with a confidence. `violation_bounds` proves an interval instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from veriflow.density.radial import RadialBase
from veriflow.errors import DataError, QueryError
from veriflow.numerics.statistics import Proportion, clopper_pearson
from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.query import Query

from ..witness.attack import violation_slack

_CHUNK = 8192


def violation_probability(
    query: Query, *, samples: int = 100_000, confidence: float = 0.95, seed: int = 0
) -> Proportion:
    """The share of the flow's own samples that violate the property, with its Clopper–Pearson interval.

    Samples are latents of the base, run through the query's graph in float64; ``seed`` fixes them.

    Raises:
        QueryError: a query without a flow, or one that chooses more than the latent or goes from data to latent,
            whose samples violate nothing by themselves.
        DataError: no samples.
    """
    base = base_of_inputs(query)
    if samples < 1:
        raise DataError(f"expected one sample at least; got {samples}")
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        latents = base.sample(torch.Size([samples])).double()
    finally:
        torch.random.set_rng_state(state)
    return _share(query, query.graph.input, latents, confidence)


def violations_in_data(query: Query, rows: Tensor, *, confidence: float = 0.95) -> Proportion:
    """The share of data rows ``[n, dim]`` that violate the property, with its Clopper–Pearson interval.

    Raises:
        QueryError: a query that chooses more than the data point.
    """
    _check_countable(query)
    return _share(query, query.data, rows.double(), confidence)


def base_of_inputs(query: Query) -> RadialBase:
    """The law of the query's inputs, where these are latents of a flow and nothing else is chosen.

    Raises:
        QueryError: a query of another kind.
    """
    if query.flow is None or query.latent is not None:
        got = "one on a network alone" if query.flow is None else "one from data to latent"
        raise QueryError(f"expected a query from a flow's latent space, to draw samples in; got {got}")
    _check_countable(query)
    return query.flow.base


def is_countable(query: Query) -> bool:
    """Whether a data point by itself violates the property or does not: nothing else is chosen."""
    return len(query.region.parts) == 1


def _check_countable(query: Query) -> None:
    if not is_countable(query):
        raise QueryError(f"expected a property that a data point alone has or has not; got {query.text!r}")


def _share(query: Query, tensor: str, points: Tensor, confidence: float) -> Proportion:
    graph = query.graph if tensor == query.graph.input else query.graph.starting_at(tensor)
    with torch.no_grad():
        count = sum(
            int((violation_slack(query, evaluate(graph, chunk)[graph.output]) >= 0).sum())
            for chunk in torch.split(points, _CHUNK)
        )
    return clopper_pearson(count, len(points), confidence)
