"""Replay of a proposed violation in exact rationals; no witness is believed without it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch

from veriflow.errors import GraphError
from veriflow.piecewise.evaluate import enclose_exact, nearest_floats
from veriflow.queries.query import Query

from .replayer import replayer
from .verdict import Witness


def replay(query: Query, point: Sequence[float | Fraction]) -> Witness | None:
    """The witness at a point that an engine proposes, or None if no rendering of the point is a violation.

    Tried in turn: the point rounded to float32 (so that onnxruntime sees the same point), that point moved into the
    region if it left it (a ball or shell by a few units in the last place), and the point as given, moved to the ends of a box,
    or by no more than rounding to the sphere of a ball or shell. That may be no float32; onnxruntime then sees the nearest one.

    Raises:
        GraphError: a violation with numbers that are no floats: no runtime computes such a network.
    """
    for candidate in _renderings(query, point):
        if not query.region.contains(candidate):
            continue
        values, upper = enclose_exact(query.graph, candidate)
        if query.violated_by(values[query.graph.output], upper[query.graph.output]):
            _check_range(values)
            return _witness(query, candidate, values)
    return None


def _check_range(values: Mapping[str, list[Fraction]]) -> None:
    for name, tensor in values.items():
        if not all(map(math.isfinite, nearest_floats(tensor))):
            raise GraphError(f"expected numbers in the range of float64; got greater ones in tensor {name!r}")


def _renderings(query: Query, point: Sequence[float | Fraction]) -> Iterable[list[Fraction]]:
    single = np.array([float(v) for v in point], dtype=np.float32)
    yield [Fraction(float(v)) for v in single]
    parts = query.region.placed_parts
    near = [Fraction(float(v)) for v in single]
    for margin in (2.0**-22, 2.0**-20):
        yield [value for place, part in parts for value in part.near_float32(near[place], margin)]
    given = [Fraction(v) for v in point]
    yield [value for place, part in parts for value in part.corrected(given[place])]


def _witness(query: Query, point: list[Fraction], values: Mapping[str, list[Fraction]]) -> Witness:
    region, outputs = query.latent_region, values[query.graph.output]
    ball = region.ball
    latent = point[: region.dim] if query.latent is None else values[query.latent]
    own_norm = math.inf if query.flow is None or query.latent is None else query.flow.base.p
    norm = norm_of(latent, own_norm if ball is None else ball.p)
    log_density = level_mass = None
    if query.flow is not None:
        z = torch.tensor(nearest_floats(latent), dtype=torch.float64)
        with torch.no_grad():
            log_density = float(query.flow.base.log_prob(z)) - replayer(query).log_volume
        level_mass = float(query.flow.base.law.cdf(norm_of(latent, query.flow.base.p)))
    own = nearest_floats(outputs[: query.network_outputs])
    others = {name: nearest_floats(values[name]) for name in query.others}
    data = nearest_floats(values[query.data])
    return Witness(tuple(point), tuple(latent), data, own, norm, log_density, level_mass, others)


def norm_of(point: Sequence[Fraction], p: float) -> float:
    """‖point‖_p of a rational point, rounded once."""
    magnitudes = [abs(v) for v in point]
    if p == 2:
        return math.sqrt(*nearest_floats([sum((v * v for v in magnitudes), Fraction(0))]))
    return nearest_floats([sum(magnitudes, Fraction(0)) if p == 1 else max(magnitudes)])[0]
