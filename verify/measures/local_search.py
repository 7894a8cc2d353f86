"""Violations of smaller norm near a known one, by programs in which most ReLUs keep their side."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from exporters import milp_model
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball

from ..programs.scaling import slack_tolerance
from ..programs.solve import solve_milp
from ..witness.attack import disjunct_slacks
from ..witness.replay import replay
from ..witness.verdict import Witness

FREE_UNITS = (4, 8, 16, 24)
"""How many units, those nearest to zero, may change their side: the next number once one finds nothing better."""

GAIN, SECONDS = 1e-3, 2.0
"""Least relative gain in the norm that counts, and seconds for one program."""


def polished(query: Query, witness: Witness, *, deadline: float) -> Witness:
    """A violation of smaller norm by local search: the best one in a neighbourhood of the witness, again and again.

    It ends where no neighbourhood has a better one, or at ``deadline``. ``query`` is over a ball; the answer is replayed.
    """
    ball = query.latent_region.ball
    if ball is None:
        return witness
    bounds = symbolic_bounds(query.graph, query.at(Ball(ball.p, witness.norm, ball.dim, ball.inner)).region)
    place = 0
    while place < len(FREE_UNITS) and time.monotonic() < deadline:
        found = _neighbour(query, witness, bounds, FREE_UNITS[place], deadline)
        if found is None or found.norm > witness.norm * (1 - GAIN):
            place += 1
        witness = found if found is not None and found.norm < witness.norm else witness
    return witness


def _neighbour(query: Query, witness: Witness, bounds: Bounds, free: int, deadline: float) -> Witness | None:
    """The violation of least norm at which all but ``free`` unstable units are on the same side as at the witness."""
    point = torch.tensor([[float(v) for v in witness.point]], dtype=torch.float64)
    values = evaluate(query.graph, point)
    near = _near(query, {name: value[0].numpy() for name, value in values.items()}, bounds, free)
    row = query.violation[int(disjunct_slacks(query, values[query.graph.output])[0].argmax())]
    tolerance = slack_tolerance(row, bounds, query.graph)
    for slack in (tolerance, 0.0):
        model = milp_model(query, near, row, slack)
        limit = min(SECONDS, deadline - time.monotonic())
        answer = solve_milp(model, (model.norm, 1.0), time_limit=limit, cutoff=witness.norm)
        found = replay(query, answer.solution[model.inputs].tolist()) if answer.solution is not None else None
        if found is not None:
            return found
    return None


def _near(query: Query, values: dict[str, NDArray[np.float64]], bounds: Bounds, free: int) -> Bounds:
    """The bounds, with every unit fixed to the side of ``values`` but the ``free`` unstable ones nearest to zero."""
    relus, lower, upper = query.graph.relus, dict(bounds.lower), dict(bounds.upper)
    distances = [np.abs(values[r.input]) / np.maximum(upper[r.input] - lower[r.input], 1e-300) for r in relus]
    unstable = [(lower[r.input] < 0) & (upper[r.input] > 0) for r in relus]
    kept = np.ones(query.graph.relu_count, dtype=bool)
    kept[np.where(np.concatenate(unstable), np.concatenate(distances), np.inf).argsort(kind="stable")[:free]] = False
    ends = np.cumsum([0, *(query.graph.sizes[r.output] for r in relus)]).tolist()
    for relu, (start, end) in zip(relus, pairwise(ends), strict=True):
        name, held = relu.input, kept[start:end]
        lower[name] = np.where(held & (values[name] >= 0), np.maximum(lower[name], 0), lower[name])
        upper[name] = np.where(held & (values[name] < 0), np.minimum(upper[name], 0), upper[name])
    return Bounds(lower, upper)
