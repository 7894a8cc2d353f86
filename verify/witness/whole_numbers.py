"""Witnesses with whole numbers in columns that a density model treats as real, such as ages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from veriflow.errors import QueryError
from veriflow.piecewise.build import reading_first
from veriflow.piecewise.evaluate import enclose_exact, evaluate, evaluate_exact, nearest_floats
from veriflow.piecewise.graph import Affine, Graph, dense
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box

from .attack import violation_slack
from .replayer import replayer
from .verdict import Witness

MOST_TURNED = 2
"""Columns at once in which the second nearest whole number is tried."""

MOST_DRAWN, MOST_JUDGED = 50_000, 32
"""Samples that are drawn where no rounding of the witness is a violation, and how many of these are replayed."""


@dataclass(frozen=True)
class RoundedWitness:
    """A witness whose whole-number columns were rounded, replayed in exact rationals from the data point on.

    Attributes:
        data: the rounded data point.
        outputs: the outputs there, rounded to float64 from exact values.
        others: the further data points that the query speaks of, by name.
        violates: whether the rounded point is a violation, in exact arithmetic.
        inside: whether it is still in the region, by its latent point in float64.
        log_density: natural-log density of the data point under the flow; None without a flow.
        level_mass: mass of the level set on whose boundary the point lies; None without a flow.
    """

    data: tuple[float, ...]
    outputs: tuple[float, ...]
    others: Mapping[str, tuple[float, ...]]
    violates: bool
    inside: bool
    log_density: float | None
    level_mass: float | None


def rounded_witness(
    query: Query, witness: Witness, columns: Sequence[int] | None = None, limits: Box | None = None
) -> RoundedWitness:
    """The witness with whole numbers in some columns of its data point, and of its further points where these are free.

    Each column is rounded to the nearest whole number. Where that is no violation inside the region, the other side is
    tried for one column and for two, and then, over a ball of latents alone, rounded samples of the flow: the most
    probable violation among them. Where none is one, the nearest point comes back with what it is.

    Args:
        query: the question that the witness answers.
        witness: a violation.
        columns: numbers of the columns; those that the flow knows as whole numbers by default.
        limits: least and greatest value of every column of the data, such as the codes of categories that there are;
            rounded numbers stay within.

    Raises:
        QueryError: columns that are not there, limits of another dimension.
    """
    if columns is None:
        columns = query.flow.integral_columns if query.flow is not None else []
    size = query.graph.sizes[query.data]
    if not all(0 <= column < size for column in columns):
        raise QueryError(f"expected columns from 0 to {size - 1}; got {list(columns)}")
    query = replace(query, flow=replayer(query).flow)
    graph = reading_first(query.graph, query.data)
    if limits is not None and limits.dim != size:
        raise QueryError(f"expected limits of {size} dimensions; got {limits.dim}")
    free = list(witness.point[query.latent_region.dim :])
    candidates = (
        _judged(query, graph, point, _freed(query, graph, point, free, columns))
        for point in _roundings(witness.data, columns, limits)
    )
    nearest = next(candidates)
    drawn = (_judged(query, graph, point, []) for point in _draws(query, columns, limits))
    return next((c for c in itertools.chain([nearest], candidates, drawn) if c.violates and c.inside), nearest)


def _draws(query: Query, columns: Sequence[int], limits: Box | None) -> Iterable[list[Fraction]]:
    """Rounded samples of the flow in the query's ball that violate the property in floats, the most probable first."""
    ball, flow = query.region.ball, query.flow
    if flow is None or query.latent is not None or ball is None:
        return
    whole = list(columns)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        z = flow.base.sample(torch.Size([MOST_DRAWN])).double()
        x = flow(z[_inside(ball, z)])
        x[:, whole] = x[:, whole].round()
        if limits is not None:
            x[:, whole] = x.clamp(torch.tensor(limits.lower), torch.tensor(limits.upper))[:, whole]
        x = torch.unique(x, dim=0)
        tail = query.graph.starting_at(query.data)
        x = x[violation_slack(query, evaluate(tail, x)[tail.output]) >= 0]
        order = flow.log_prob(x).argsort(descending=True)[:MOST_JUDGED]
    for row in x[order].tolist():
        yield [Fraction(value) for value in row]


def _roundings(data: Sequence[float], columns: Sequence[int], limits: Box | None) -> Iterable[list[Fraction]]:
    """The point with whole numbers in the columns, the nearest first."""
    point = [Fraction(value) for value in data]
    nearest = {column: Fraction(round(point[column])) for column in columns}
    other = {c: whole + (1 if point[c] > whole else -1) for c, whole in nearest.items()}
    cost = {c: abs(other[c] - point[c]) - abs(nearest[c] - point[c]) for c in columns}
    turns = [turn for count in range(MOST_TURNED + 1) for turn in itertools.combinations(columns, count)]
    for turn in sorted(turns, key=lambda turn: sum(cost[c] for c in turn)):
        whole = {**nearest, **{c: other[c] for c in turn}}
        yield [_limited(whole[c], c, limits) if c in whole else value for c, value in enumerate(point)]


def _limited(value: Fraction, column: int, limits: Box | None) -> Fraction:
    if limits is None:
        return value
    return min(max(value, Fraction(limits.lower[column])), Fraction(limits.upper[column]))


def _freed(
    query: Query, graph: Graph, point: list[Fraction], free: list[Fraction], columns: Sequence[int]
) -> list[Fraction]:
    """The free numbers; where one alone moves a column of a further point, it is changed so that the column is whole."""
    chosen = list(free)
    values = evaluate_exact(graph, [*point, *chosen]) if free else {}
    for node in graph.nodes if free else ():
        if not isinstance(node, Affine) or node.output not in query.others:
            continue
        for weight in (dense(weight) for name, weight in node.terms if name == graph.input):
            for column in columns:
                places = weight[column].nonzero()[0]
                if len(places) == 1:
                    value = values[node.output][column]
                    chosen[places[0] - len(point)] += (round(value) - value) / Fraction(weight[column, places[0]])
    return chosen


def _judged(query: Query, graph: Graph, point: list[Fraction], free: list[Fraction]) -> RoundedWitness:
    values, upper = enclose_exact(graph, [*point, *free])
    outputs = values[graph.output]
    allowed = all(
        part.contains(free[place.start - len(point) : place.stop - len(point)])
        for place, part in query.region.placed_parts[1:]
    )
    log_density = level_mass = None
    inside = query.latent_region.contains(point) if query.flow is None or query.latent is not None else True
    if query.flow is not None:
        with torch.no_grad():
            x = torch.tensor(nearest_floats(point), dtype=torch.float64)
            z = query.flow.latent(x)
            log_density = float(query.flow.log_prob(x))
            level_mass = float(query.flow.base.law.cdf(float(query.flow.base.norm(z))))
        inside = inside and (query.latent is not None or _within(query, z))
    return RoundedWitness(
        nearest_floats(point),
        nearest_floats(outputs),
        {name: nearest_floats(values[name]) for name in query.others},
        allowed and query.violated_by(outputs, upper[graph.output]),
        inside,
        log_density,
        level_mass,
    )


def _within(query: Query, z: torch.Tensor) -> bool:
    if (ball := query.latent_region.ball) is not None:
        return bool(_inside(ball, z))
    return query.latent_region.contains([Fraction(value) for value in z.tolist()])


def _inside(ball: Ball, z: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(z, ball.p, dim=-1)
    return (ball.inner <= norms) & (norms <= ball.radius) & (z.abs().amax(dim=-1) <= ball.limit)
