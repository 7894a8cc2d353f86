"""One certificate says what separate verdicts at each mass would say."""

import sys
from functools import cache

import numpy as np
import pytest
import torch
from small_queries import random_network

from veriflow.density.ball_mass import Mass
from veriflow.density.radial import make_base
from veriflow.errors import RegionError
from veriflow.flows.flow import USFlow
from veriflow.queries.properties import classified_as
from veriflow.queries.query import flow_query
from veriflow.regions.ball import Ball
from verify import Outcome, certify, verdict_at, verdict_curve, verify

MASSES = np.linspace(0.05, 0.95, 10).tolist()


@cache
def certified(seed, wanted, farthest=0.999):
    torch.manual_seed(seed)
    flow = USFlow(2, blocks=1, hidden=(4,), base=make_base("gamma-mixture", 2))
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    ball = Ball(1, float(flow.base.law.quantile(farthest)), 2)
    query = flow_query(flow, random_network(np.random.default_rng(seed), (2, 4, 2)), ball, classified_as(wanted, -0.3))
    return query, certify(query, timeout=600)


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_what_verify_says_at_each_mass(seed):
    query, certificate = certified(seed, seed % 2)
    assert certificate.complete
    for mass, outcome in verdict_curve(certificate, MASSES):
        radius = float(query.flow.base.law.quantile(mass))
        alone = verify(query.at(Ball(1, radius, 2)), "bab", timeout=600).outcome
        assert outcome in (alone, Outcome.UNKNOWN)
        if not certificate.certified_mass <= mass <= certificate.refuted_mass:
            assert outcome is alone


def test_verdicts_go_from_holds_over_unknown_to_violated():
    order = [Outcome.HOLDS, Outcome.UNKNOWN, Outcome.VIOLATED]
    curves = [[order.index(o) for _, o in verdict_curve(certified(s, s % 2)[1], MASSES)] for s in range(4)]
    assert all(curve == sorted(curve) for curve in curves)
    assert {0, 2} <= {place for curve in curves for place in curve}


def test_nothing_is_known_beyond_what_was_searched():
    for seed in range(4):
        certificate = certified(seed, seed % 2, farthest=0.1)[1]
        if certificate.witness is None:
            assert verdict_at(certificate, 0.05) is Outcome.HOLDS
            assert verdict_at(certificate, 0.2) is Outcome.UNKNOWN
            return
    pytest.fail("no property holds on mass 0.1")


def test_masses_that_are_not_exact_are_rounded_so_that_neither_claims_too_much(monkeypatch):
    """With an error of 0.02 in each mass, a set is called violated only if it surely holds the witness."""
    query, exact = next(
        (query, found) for query, found in (certified(s, s % 2) for s in range(4)) if 0.1 < found.refuted_mass < 0.9
    )
    module = sys.modules["verify.measures.certify"]
    mass = module.ball_mass
    monkeypatch.setattr(module, "ball_mass", lambda base, ball: Mass(mass(base, ball).value, 0.02))
    rough = certify(query, timeout=60)
    assert rough.certified_mass == pytest.approx(max(exact.certified_mass - 0.02, 0), abs=1e-12)
    assert rough.refuted_mass == pytest.approx(min(exact.refuted_mass + 0.02, 1), abs=1e-12)
    assert verdict_at(exact, exact.refuted_mass + 0.01) is Outcome.VIOLATED
    assert verdict_at(rough, exact.refuted_mass + 0.01) is Outcome.UNKNOWN
    assert verdict_at(rough, exact.refuted_mass + 0.03) is Outcome.VIOLATED
    assert verdict_at(rough, exact.certified_mass - 0.01) is Outcome.UNKNOWN
    monkeypatch.setattr(module, "ball_mass", lambda base, ball: Mass(mass(base, ball).value, 2.0))
    assert (certify(query, timeout=60).certified_mass, certify(query, timeout=60).refuted_mass) == (0, 1)


@pytest.mark.parametrize("mass", [-0.1, 1.5, float("nan")])
def test_masses_that_make_no_sense_are_refused(mass):
    with pytest.raises(RegionError, match="expected a mass"):
        verdict_at(certified(0, 0, farthest=0.1)[1], mass)
