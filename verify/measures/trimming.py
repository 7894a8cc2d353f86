"""The limit at which a ball is trimmed, so that a search can be expected to prove the most mass."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from veriflow.density.ball_mass import ball_mass
from veriflow.errors import QueryError
from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.runtime.threads import one_thread

from ..witness.attack import nearest_violation

WITHIN = (0.3, 0.5, 0.7, 0.9, 0.99)
"""Limits to try, as quantiles of the largest |coordinate| of the flow's samples."""

SAMPLES = 4096
"""Number of these samples."""

REACH, HALVINGS = 3.0, 6
"""log(radius) is bisected in [log(violation's radius) − REACH, log(violation's radius)], HALVINGS times."""


def trimmed_for_proof(query: Query, *, timeout: float) -> Query:
    """The query over its L1 ball trimmed where the most mass can be proved, to be given to `certify`.

    For each limit of a grid, symbolic bounds exclude every violation up to a radius r₀, and an attack finds one of norm r₁.
    A search is expected to prove √(r₀ r₁). Chosen is the limit at which the ball of that radius has the most mass. This is a
    heuristic: nothing is proved here.

    Args:
        query: on a flow over an L1 base, over a ball.
        timeout: seconds after which no further limit is tried.

    Raises:
        QueryError: a query without a flow, or over something else than an L1 ball.
    """
    ball = query.region.ball
    if query.flow is None or query.flow.base.p != 1 or ball is None or ball.p != 1 or ball.inner:
        raise QueryError(f"expected a query on a flow over an L1 ball, to trim it; got {query.region}")
    base, deadline = query.flow.base, time.monotonic() + timeout
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        largest = base.sample(torch.Size([SAMPLES])).abs().amax(-1).double()
        found = []
        for limit in largest.quantile(torch.tensor(WITHIN, dtype=torch.float64)).tolist():
            trimmed = replace(ball, limit=min(limit, ball.radius))
            nearest = nearest_violation(query, trimmed)
            refuted = ball.radius if nearest is None else nearest.norm
            expected = math.sqrt(_largest_proved(query, trimmed, refuted) * refuted)
            found.append((ball_mass(base, replace(trimmed, radius=expected)).value, limit))
            if time.monotonic() > deadline:
                break
    return query.at(replace(ball, limit=max(found)[1]))


def _largest_proved(query: Query, ball: Ball, most: float) -> float:
    """The largest radius, at most the given one, that symbolic bounds prove; approximately, by bisection of its logarithm."""
    violation = query.arrays.conjunctions
    low, high = math.log(most) - REACH, math.log(most)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inner = replace(ball, radius=math.exp(middle))
        proved = bool(optimised_bounds(query.graph, inner, violation, steps=1).excluded.all())
        low, high = (middle, high) if proved else (low, middle)
    return math.exp(low)
