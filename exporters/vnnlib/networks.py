"""VNN-LIB 2.0 beyond the portable form: L1 balls as linear constraints on the input, and flow and network as two networks.

Both need readers of the theories LIN and MINET of the standard (https://www.vnnlib.org); what all readers take is
written by `writer`.
"""

from __future__ import annotations

import itertools

from veriflow.errors import GraphError
from veriflow.piecewise.graph import Graph
from veriflow.queries.query import Query
from veriflow.regions.box import Box

from ..forms.numerals import decimal_ends, decimal_text
from ..forms.portable_form import PortableForm, portable_form, with_extra_outputs
from .writer import comparison_text, heading, to_vnnlib2

MOST_DIMENSIONS = 6
"""Of an L1 ball that is written by its facets, of which there are 2^dim."""


def linear_form(query: Query) -> tuple[PortableForm, str] | None:
    """The query over an L1 ball without the norm as an output, and its VNN-LIB 2.0 with one constraint for each facet.

    None for other regions, for shells and in more than `MOST_DIMENSIONS` dimensions.

    Raises:
        QueryError: as `portable_form`.
    """
    ball = query.region.ball
    if ball is None or ball.p != 1 or ball.inner or ball.dim > MOST_DIMENSIONS:
        return None
    ball = ball.rounded_outward()
    form = portable_form(query.at(Box(ball.lower, ball.upper)))
    radius = decimal_text(ball.radius)
    facets = []
    for signs in itertools.product((1, -1), repeat=ball.dim):
        terms = " ".join(f"X[0,{i}]" if sign > 0 else f"(* -1.0 X[0,{i}])" for i, sign in enumerate(signs))
        facets.append(f"(assert (<= {f'(+ {terms})' if ball.dim > 1 else terms} {radius}))")
    return form, to_vnnlib2(form, query.text, facets)


def two_networks(query: Query) -> tuple[Graph, Graph, str] | None:
    """The flow, the network under test, and the query about both as VNN-LIB 2.0.

    The flow is declared as F, from the latent input Z to the data (and, for an L1 ball or a shell, to the norm of Z); the
    network is N, and its input X equals that data. None where there is no flow before the network, or where the outputs
    depend on more than one data point.

    Raises:
        QueryError: as `portable_form`.
    """
    region, *others = query.region.rounded_outward().parts
    if query.data == query.graph.input or query.latent is not None or others:
        return None
    try:
        network = portable_form(query.at(Box(region.lower, region.upper))).graph.starting_at(query.data)
    except GraphError:
        return None
    whole = portable_form(query)
    flow = whole.graph.ending_at(query.data)
    size = flow.output_size
    if region.p == 1 or region.inner:
        flow = with_extra_outputs(flow, [], [(slice(0, region.dim), region.p)])

    def output(i: int) -> str:
        return f"D[0,{size}]" if i == network.output_size else f"Y[0,{i}]"

    lines = heading(whole, query.text)
    lines += [
        "(vnnlib-version <2.0>)",
        "(declare-network F",
        f"    (declare-input Z float32 [1, {flow.input_size}])",
        f"    (declare-output D float32 [1, {flow.output_size}])",
        ")",
        "(declare-network N",
        f"    (declare-input X float32 [1, {size}])",
        f"    (declare-output Y float32 [1, {network.output_size}])",
        ")",
    ]
    for i, (low, high) in enumerate(zip(*decimal_ends(whole.box), strict=True)):
        lines.append(f"(assert (>= Z[0,{i}] {decimal_text(low)}))")
        lines.append(f"(assert (<= Z[0,{i}] {decimal_text(high)}))")
    lines += [f"(assert (== X[0,{i}] D[0,{i}]))" for i in range(size)]
    rows = [" ".join(comparison_text(comparison, output) for comparison in row) for row in whole.disjuncts]
    lines += ["(assert (or", *(f"    (and {row})" for row in rows), "))"]
    return flow, network, "\n".join(lines) + "\n"
