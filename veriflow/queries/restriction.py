"""Queries of a specification: on the networks alone, and restricted to a level set of a flow.

A query constrains outputs alone: inputs, data and latent norms that are constrained become further outputs of its graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import sparse

from ..errors import QueryError
from ..piecewise.build import Part, fresh, select_outputs, with_map, with_norm
from ..piecewise.graph import Graph, compose
from ..regions.ball import Ball
from ..regions.box import Box
from ..wording import perhaps
from .constraints import Constraint, Disjunction
from .query import Application, Query
from .specification import Case, Row, Specification

if TYPE_CHECKING:
    from ..flows.flow import Flow

Direction = Literal["latent-to-data", "data-to-latent"]
"""Whether a query searches the latent ball for data in a box, or a box of data for latents in the ball."""


def specification_queries(networks: Sequence[Graph], spec: Specification) -> tuple[Query, ...]:
    """One query for each case of a specification, which is satisfied where one of the queries is violated.

    Inputs that are equal in every disjunct of a case, as the inputs of two networks often are, become one input of the
    query.

    Args:
        networks: one for each network that the specification declares.
        spec: what is asked.

    Raises:
        QueryError: networks of other numbers of inputs and outputs than declared.
        PropertyError: an input without a bound.
    """
    _check_networks(networks, spec)
    spec.check_bounded()
    cases = [(number, shared) for number, case in enumerate(spec.cases, start=1) if (shared := _shared(case, spec))]
    if not cases:  # equal inputs have bounds that cross: any box will do for what has no disjuncts
        nothing = Case(spec.cases[0].lower, spec.cases[0].upper, ())
        cases = [(1, (nothing, list(range(spec.inputs))))]
    return tuple(
        _network_query(networks, spec, case, places, _case_text(spec, number)) for number, (case, places) in cases
    )


def _check_networks(networks: Sequence[Graph], spec: Specification) -> None:
    if len(networks) != len(spec.networks):
        raise QueryError(f"expected {len(spec.networks)} networks, as the property declares; got {len(networks)}")
    for network, declared in zip(networks, spec.networks, strict=True):
        if (network.input_size, network.output_size) != (declared.inputs, declared.outputs):
            name = f" {declared.name!r}" if declared.name else ""
            raise QueryError(
                f"expected a network{name} of {declared.inputs} inputs and {declared.outputs} outputs, as the property "
                f"declares; got one of {network.input_size} inputs and {network.output_size} outputs"
            )


def _case_text(spec: Specification, number: int) -> str:
    return spec.text if len(spec.cases) == 1 else f"{spec.text}, box {number} of {len(spec.cases)}"


def _shared(case: Case, spec: Specification) -> tuple[Case, list[int]] | None:
    """The case with equal inputs merged, and the new place of each old input; None where no input satisfies it."""
    common = set.intersection(*(set(row) for row in case.violation)) if case.violation else set()
    first = list(range(spec.inputs))
    for i, j in _equal_pairs(common, spec.inputs):
        low, high = sorted((first[i], first[j]))
        first = [low if place == high else place for place in first]
    kept = {place: k for k, place in enumerate(sorted(set(first)))}
    places = [kept[place] for place in first]
    lower, upper = _ends(case)
    lower, upper = [lower[place] for place in kept], [upper[place] for place in kept]
    for k, least, most in zip(places, *_ends(case), strict=True):
        lower[k], upper[k] = max(lower[k], least), min(upper[k], most)
    numbers = places + [len(kept) + i for i in range(spec.outputs)]
    rows = _renumbered(case.violation, numbers)
    if not rows or any(low > high for low, high in zip(lower, upper, strict=True)):
        return None
    return Case(tuple(lower), tuple(upper), rows), places


def _ends(case: Case) -> tuple[list[Fraction], list[Fraction]]:
    """Lower and upper ends of a box that is bounded on all sides."""
    return [end for end in case.lower if end is not None], [end for end in case.upper if end is not None]


def _equal_pairs(constraints: Iterable[Constraint], inputs: int) -> list[tuple[int, int]]:
    """Pairs of inputs that two of the constraints, v_i − v_j ≥ 0 and v_j − v_i ≥ 0, make equal."""
    known, pairs = set(constraints), []
    for constraint in known:
        reverse = Constraint(tuple((i, -c) for i, c in constraint.coefficients), Fraction(0))
        if len(constraint.coefficients) == 2 and not constraint.strict and constraint.bound == 0 and reverse in known:
            (i, factor), (j, other) = constraint.coefficients
            if i < j < inputs and factor == -other:
                pairs.append((i, j))
    return sorted(set(pairs))


def _renumbered(violation: Disjunction, numbers: Sequence[int] | Mapping[int, int]) -> Disjunction:
    """The violation with variable i called ``numbers[i]``, without constraints that always hold and rows that never do."""
    rows: dict[Row, None] = {}
    for row in violation:
        renamed = [constraint.renumbered(numbers) for constraint in row]
        if all(constraint.coefficients or constraint.holds([]) for constraint in renamed):
            rows[tuple(constraint for constraint in renamed if constraint.coefficients)] = None
    return tuple(rows)


def _network_query(
    networks: Sequence[Graph], spec: Specification, case: Case, places: Sequence[int], text: str
) -> Query:
    graph = Graph("inputs", len(case.lower), (), "inputs")
    data = "inputs"
    if len(case.lower) < spec.inputs:
        graph, data = _chosen(graph, data, places)
    parts: list[Part] = []
    applied: list[Application] = []
    start = 0
    for network in networks:
        source = data
        if len(networks) > 1:
            graph, source = _chosen(graph, data, range(start, start + network.input_size))
        graph = compose(_ending(graph, source), network)
        parts.append((graph.output, range(network.output_size)))
        applied.append(Application(network, source, graph.output))
        start += network.input_size
    count = len(case.lower)
    used = sorted({i for row in case.violation for c in row for i, _ in c.coefficients if i < count})
    numbers = {i: spec.outputs + k for k, i in enumerate(used)} | {count + i: i for i in range(spec.outputs)}
    region = Box.between(*_ends(case))
    violation = _renumbered(case.violation, numbers)
    if len(parts) == 1 and not used:
        return Query(graph, region, violation, text, data, applications=tuple(applied))
    graph = select_outputs(graph, [*parts, (graph.input, used)] if used else parts)
    return Query(graph, region, violation, text, data, network_outputs=spec.outputs, applications=tuple(applied))


def _chosen(graph: Graph, tensor: str, columns: Sequence[int]) -> tuple[Graph, str]:
    """The graph with coordinates of a tensor as another tensor, and its name."""
    entries = (np.ones(len(columns)), (range(len(columns)), list(columns)))
    weight = sparse.csr_array(entries, shape=(len(columns), graph.sizes[tensor]))
    name = fresh("chosen", graph.sizes)
    return with_map(graph, name, [(tensor, weight)], np.zeros(len(columns))), name


def _ending(graph: Graph, tensor: str) -> Graph:
    """The graph with another output and all of its nodes."""
    return Graph(graph.input, graph.input_size, graph.nodes, tensor)


def restricted_queries(
    flow: Flow, ball: Ball, network: Graph, spec: Specification, direction: Direction | str = "latent-to-data"
) -> tuple[Query, ...]:
    """The specification on the data points of a ball or shell of latents; it is satisfied where one of the queries is violated.

    "latent-to-data": is there a latent z in the ball whose data point φ(z) lies in a box of the specification and
    satisfies its constraints? One query, over the ball. "data-to-latent": is there a data point x in a box that satisfies
    its constraints, with the latent φ⁻¹(x) in the ball? One query for each box, over the box. φ and φ⁻¹ are rounded to
    float32 separately, so that the two ask the same only up to that rounding.

    Inputs that the specification does not bound are bounded by the ball; for "data-to-latent" all must have bounds.

    A box side of no width, such as X_2 = 0, has no mass under the flow: ask "data-to-latent", since floats of
    "latent-to-data" hardly ever meet such a side exactly.

    Raises:
        QueryError: another direction, a specification of several networks, one of other numbers of inputs or outputs than
            the network, a network that does not take the flow's data, an L2 ball for "data-to-latent", which is not linear.
        PropertyError: an input without a bound, for "data-to-latent".
    """
    if direction not in (known := get_args(Direction)):
        raise QueryError(f"expected the direction {' or '.join(known)}; got {direction!r}{perhaps(direction, known)}")
    if len(spec.networks) != 1:
        raise QueryError(f"expected a property of one network, to restrict to a flow; got {len(spec.networks)}")
    _check_networks([network], spec)
    if network.input_size != flow.dim:
        raise QueryError(f"expected a network of {flow.dim} inputs, as the flow gives; got one of {network.input_size}")
    ball = ball.rounded_outward()
    if direction == "latent-to-data":
        return (_on_latents(flow, ball, network, spec),)
    spec.check_bounded()
    if ball.p == 2:
        raise QueryError(f"expected a ball of norm 1 or inf for data-to-latent, which are linear; got {ball}")
    return tuple(
        _on_data(flow, ball, network, spec, case, _case_text(spec, number))
        for number, case in enumerate(spec.cases, start=1)
    )


def _on_latents(flow: Flow, ball: Ball, network: Graph, spec: Specification) -> Query:
    decoder = flow.graph()
    graph = compose(decoder, network)
    applied = (Application(network, decoder.output, graph.output),)
    graph = select_outputs(graph, [(graph.output, range(spec.outputs)), (decoder.output, range(spec.inputs))])
    rows = []
    for case in spec.cases:
        sides = _box_sides(case, spec.outputs)
        rows += [row + sides for row in _outputs_first(case.violation, spec)]
    return Query(
        graph,
        ball,
        tuple(rows),
        spec.text,
        decoder.output,
        flow,
        network_outputs=spec.outputs,
        applications=applied,
    )


def _outputs_first(violation: Disjunction, spec: Specification) -> Disjunction:
    """The violation with the outputs numbered before the inputs."""
    return _renumbered(violation, [*range(spec.outputs, spec.outputs + spec.inputs), *range(spec.outputs)])


def _box_sides(case: Case, start: int) -> Row:
    """lower ≤ v ≤ upper for the variables from ``start`` on, where there are ends."""
    lows = [_at_least(start + i, low) for i, low in enumerate(case.lower) if low is not None]
    return tuple(lows + [_at_most(start + i, high) for i, high in enumerate(case.upper) if high is not None])


def _at_least(variable: int, bound: Fraction) -> Constraint:
    return Constraint(((variable, Fraction(1)),), bound)


def _at_most(variable: int, bound: Fraction) -> Constraint:
    return Constraint(((variable, Fraction(-1)),), -bound)


def _on_data(flow: Flow, ball: Ball, network: Graph, spec: Specification, case: Case, text: str) -> Query:
    graph = compose(Graph("data", flow.dim, (), "data"), network)
    outputs: Part = (graph.output, range(spec.outputs))
    applied = (Application(network, graph.input, graph.output),)
    graph = compose(_ending(graph, graph.input), flow.graph("inverse"))
    latent = graph.output
    parts = [outputs, (graph.input, range(spec.inputs))]
    start = spec.outputs + spec.inputs
    inside: Row = ()
    if ball.p == math.inf or ball.is_trimmed:
        parts.append((latent, range(flow.dim)))
        reach = Fraction(ball.reach)
        numbers = range(start, start + flow.dim)
        inside = tuple([_at_most(i, reach) for i in numbers] + [_at_least(i, -reach) for i in numbers])
        start += flow.dim
    if ball.p == 1 or ball.inner:
        graph = with_norm(graph, latent, slice(0, flow.dim), ball.p)
        parts.append((graph.output, range(1)))
        inside += (
            _at_most(start, Fraction(ball.radius)),
            *([_at_least(start, Fraction(ball.inner))] if ball.inner else []),
        )
    violation = tuple(row + inside for row in _outputs_first(case.violation, spec))
    return Query(
        select_outputs(graph, parts),
        Box.between(*_ends(case)),
        violation,
        text,
        graph.input,
        flow,
        latent,
        network_outputs=spec.outputs,
        applications=applied,
    )
