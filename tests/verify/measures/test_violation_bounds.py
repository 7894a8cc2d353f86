"""Certain bounds on the probability of a violation: against known truths and against samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from small_queries import random_network

from veriflow.density.radial import make_base
from veriflow.errors import QueryError, RegionError, SolverError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import y
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import flow_query, network_query
from veriflow.regions.ball import Ball
from verify import certify, violation_bounds, violation_probability

IDENTITY = Graph("x", 2, (Affine("y", (("x", np.eye(2)),), np.zeros(2)),), "y")


def random_query(seed, name="gamma-mixture", p=1, dim=2, radius=1.0):
    """A classifier after a flow that is far from the identity."""
    torch.manual_seed(seed)
    flow = USFlow(dim, blocks=1, hidden=(5,), base=make_base(name, dim, p))
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    network = random_network(np.random.default_rng(seed), (dim, 5, 2))
    return flow_query(flow, network, Ball(p, radius, dim), classified_as(seed % 2, -0.2))


def latent_query(formula, name="exponential", p=1, network=IDENTITY):
    """A property of the latents themselves: the flow is the identity."""
    flow = USFlow(2, blocks=0, base=make_base(name, 2, p))
    assert torch.equal(flow(torch.eye(2)), torch.eye(2))
    return flow_query(flow, network, Ball(p, 1.0, 2), formula_property(formula))


def tail(name, c):
    """P(z₀ ≥ c) by the law of one coordinate."""
    base = make_base(name, 2)
    if name == "normal":
        return math.erfc(c / math.sqrt(2)) / 2
    laws = base.law.simple_laws()
    return sum(math.exp(-c / law.scale) / 2 for law in laws) / len(laws)


@pytest.mark.parametrize(("name", "p"), [("exponential", 1), ("gamma-mixture", 1), ("normal", 2)])
@pytest.mark.parametrize("c", [0.25, 3.0])
@pytest.mark.parametrize("strict", [False, True])
def test_half_spaces_have_known_masses(name, p, c, strict):
    found = violation_bounds(latent_query(y[0] <= c if strict else y[0] < c, name, p), gap=1e-5)
    assert found.complete
    assert found.low <= tail(name, c) <= found.high <= found.low + 1e-5


def test_conjunctions_and_disjunctions_have_known_masses():
    one = tail("exponential", 0.25)
    both = violation_bounds(latent_query((y[0] < 0.25) | (y[1] < 0.25)), gap=1e-4)
    either = violation_bounds(latent_query((y[0] < 0.25) & (y[1] < 0.25) & (y[0] > -0.25)), gap=1e-4)
    assert both.low <= one**2 <= both.high
    assert either.low <= 1 - (1 - 2 * one) * (1 - one) <= either.high
    assert both.complete
    assert either.complete


def test_ties_count_as_neither_or_right():
    """relu(−|z|) is 0 everywhere: a strict comparison with 0 is never violated, the other one always."""
    rows = np.array([[1.0, 0], [-1.0, 0]])
    nodes = (
        Affine("a", (("x", rows),), np.zeros(2)),
        Relu("h", "a"),
        Affine("b", (("h", -np.ones((1, 2))),), np.zeros(1)),
        Relu("y", "b"),
    )
    network = Graph("x", 2, nodes, "y")
    assert violation_bounds(latent_query(y[0] <= 0, network=network), timeout=0.2).low == 0
    assert violation_bounds(latent_query(y[0] < 0, network=network), timeout=0.2).high == 1


@pytest.mark.parametrize(
    ("name", "p", "dim"),
    [("gamma-mixture", 1, 2), ("exponential", 1, 3), ("gamma-mixture", math.inf, 2), ("normal", 2, 2)],
)
@pytest.mark.parametrize("seed", range(2))
def test_samples_agree_with_the_bounds(name, p, dim, seed):
    query = random_query(seed, name, p, dim)
    share = violation_probability(query, samples=20_000, confidence=0.9999)
    found = violation_bounds(query, gap=0.02, timeout=20)
    assert 0 <= found.low <= found.high <= 1
    assert share.low <= found.high
    assert found.low <= share.high


def test_bounds_are_nested_as_the_gap_closes():
    query = random_query(1)
    seen = []
    finest = violation_bounds(query, gap=1e-3, report=lambda low, high: seen.append((low, high)))
    assert len(seen) > 5
    assert all(a <= c <= d <= b for (a, b), (c, d) in itertools.pairwise(seen))
    assert seen[-1] == (finest.low, finest.high)
    coarse = violation_bounds(query, gap=0.1)
    assert (coarse.low, coarse.high) in seen
    assert coarse.boxes < finest.boxes


def test_what_a_certificate_proves_is_safe():
    query = random_query(1, radius=8.0)
    certificate = certify(query)
    at_once = violation_bounds(query, timeout=1e-9, proved_radius=certificate.proved_radius)
    assert not at_once.complete
    assert at_once.low == 0
    assert at_once.high == pytest.approx(1 - certificate.certified_mass, abs=1e-8)
    helped = violation_bounds(query, proved_radius=certificate.proved_radius)
    alone = violation_bounds(query)
    assert helped.complete
    assert helped.low <= alone.high
    assert alone.low <= helped.high


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: violation_bounds(network_query(IDENTITY, Ball(1, 1.0, 2), classified_as(0))), QueryError),
        (lambda: violation_bounds(latent_query(y[0] < 1, "weibull", 1)), RegionError),
        (lambda: violation_bounds(latent_query(y[0] < 1), gap=1e-9), SolverError),
        (lambda: violation_bounds(latent_query(y[0] < 1), timeout=0), SolverError),
        (lambda: violation_bounds(latent_query(y[0] < 1), proved_radius=-1), SolverError),
    ],
)
def test_what_cannot_be_bounded_is_refused(call, error):
    with pytest.raises(error, match="expected"):
        call()
