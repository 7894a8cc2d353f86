"""Output ranges against the exact simplex over activation patterns, and against samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_queries import random_network

from veriflow.density.radial import RadialBase, make_base
from veriflow.density.simple_laws import LogNormalLaw
from veriflow.errors import PropertyError, QueryError, RegionError, SolverError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.constraints import Expression, y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import flow_query
from veriflow.regions.ball import Ball
from veriflow.testing.enumeration import violating_point
from verify import output_range

SCORE = y[0] - y[1] / 3 + 0.25


def small_flow(seed, base):
    torch.manual_seed(seed)
    flow = USFlow(base.dim, blocks=1, hidden=(3,), base=base)
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return flow


def small_network(seed, dim=2):
    return random_network(np.random.default_rng(seed), (dim, 3, 2))


def score_at(flow, network, score, witness):
    """The score of a witness in exact rationals, from the latent on."""
    query = flow_query(flow, network, Ball(flow.base.p, 1.0, flow.dim), formula_property(score > 0))
    outputs = evaluate_exact(query.graph, witness.latent)[query.graph.output]
    return sum((c * outputs[i] for i, c in score.coefficients.items()), score.constant)


def is_passed(flow, network, level_set, formula):
    """Whether the formula holds somewhere on the level set, by enumeration."""
    balls = [Ball(flow.base.p, outer, flow.dim, inner) for inner, outer in level_set.intervals]
    return any(violating_point(flow_query(flow, network, ball, formula_property(~formula))) for ball in balls)


@pytest.mark.parametrize(
    "base",
    [make_base("gamma-mixture", 2), make_base("exponential", 2, math.inf), RadialBase(1, LogNormalLaw(2, 1.0, 0.2))],
    ids=["L1 ball", "Linf ball", "shell"],
)
@pytest.mark.parametrize("seed", range(2))
def test_proved_ends_contain_the_exact_range_and_attained_ends_lie_in_it(base, seed):
    flow, network = small_flow(seed, base), small_network(seed)
    level_set = flow.level_set(0.7)
    found = output_range(flow, network, level_set, SCORE)
    assert found.complete
    for end, sign in ((found.high, 1), (found.low, -1)):
        value = score_at(flow, network, SCORE, end.witness)
        norm = end.witness.norm
        assert any(inner * (1 - 1e-6) <= norm <= outer * (1 + 1e-6) for inner, outer in level_set.intervals)
        assert float(value) == end.attained
        assert 0 <= sign * (Fraction(end.proved) - value) <= 1e-4
        assert not is_passed(flow, network, level_set, SCORE * sign > Fraction(end.proved) * sign)
        assert is_passed(flow, network, level_set, SCORE * sign >= value * sign)


def test_ranges_grow_with_the_level_set_and_hold_for_samples():
    flow, network = small_flow(3, make_base("gamma-mixture", 4)), small_network(3, 4)
    inner, outer = (output_range(flow, network, flow.level_set(mass), SCORE) for mass in (0.3, 0.9))
    assert outer.low.proved <= inner.low.attained
    assert inner.high.attained <= outer.high.proved
    torch.manual_seed(0)
    z = flow.level_set(0.9).sample([500]).double()
    graph = flow_query(flow, network, Ball(1, 1.0, 4), formula_property(SCORE > 0)).graph
    for row in flow.latent(z.float()).double()[:50]:
        outputs = evaluate_exact(graph, [Fraction(v) for v in row.tolist()])[graph.output]
        value = sum((c * outputs[i] for i, c in SCORE.coefficients.items()), SCORE.constant)
        assert outer.low.proved - 1e-3 <= value <= outer.high.proved + 1e-3


def test_out_of_time_is_wide_and_true():
    flow, network = small_flow(0, make_base("gamma-mixture", 4)), small_network(0, 4)
    level_set = flow.level_set(0.9)
    early, full = (output_range(flow, network, level_set, y[1], timeout=limit) for limit in (1e-9, 60))
    assert full.complete
    assert early.low.proved <= full.low.attained <= full.high.attained <= early.high.proved
    assert full.low.proved <= early.low.attained <= early.high.attained <= full.high.proved


def test_a_constant_output_has_a_range_of_one_number():
    flow = small_flow(0, make_base("exponential", 2))
    network = random_network(np.random.default_rng(0), (2, 3, 2))
    found = output_range(flow, network, flow.level_set(0.5), 0 * y[0] + y[1] - y[1] + y[0] * 2 - y[0])
    same = output_range(flow, network, flow.level_set(0.5), y[0])
    assert (found.low.proved, found.high.proved) == (same.low.proved, same.high.proved)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda flow, net: output_range(flow, net, flow.level_set(0.5), y[0], timeout=0), SolverError),
        (lambda flow, net: output_range(flow, net, flow.level_set(0.5), y[7]), PropertyError),
        (lambda flow, net: output_range(flow, net, flow.level_set(0.5), Expression({}, Fraction(3))), PropertyError),
        (lambda flow, net: output_range(flow, small_network(0, 3), flow.level_set(0.5), y[0]), QueryError),
        (lambda flow, net: output_range(flow, net, flow.lower_level_set(0.5), y[0]), RegionError),
    ],
)
def test_what_has_no_range_is_refused(call, error):
    with pytest.raises(error, match="expected"):
        call(small_flow(0, make_base("exponential", 2)), small_network(0))
