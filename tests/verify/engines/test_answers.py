"""Answers: no truth value of their own, and none lost because an engine does not take a region."""

import numpy as np
import pytest
from small_queries import linear

from veriflow.errors import QueryError, SolverError, VeriflowError
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Region
from verify import ENGINES, verify, verify_all, verify_with

ROUND, SHELL, BOX = Ball(2, 1.0, 2), Ball(2, 1.0, 2, 0.5), Box(-np.ones(2), np.ones(2))
REGIONS: list[Region] = [BOX, Ball(1, 1.0, 2), ROUND, SHELL, Product((Ball(2, 1.0, 1), Box(-np.ones(1), np.ones(1))))]


def below(limit: float, region: Region) -> Query:
    """Is z_0 ≤ limit in the region? At 1 it just is in all of them, within the tolerance of floats."""
    return network_query(linear([1.0, 0.0]), region, formula_property(y[0] <= limit))


def test_a_verdict_is_no_truth_value():
    for limit, holds in ((2.0, True), (0.5, False)):
        for asked in (verify, lambda query: verify_with(query).verdict, lambda query: verify_all([query]).verdict):
            verdict = asked(below(limit, BOX))
            assert (verdict.holds, verdict.violated, verdict.unknown) == (holds, not holds, False)
    for ask in (verify, verify_with, lambda query: verify_all([query])):
        with pytest.raises(VeriflowError, match=r"expected \.holds, \.violated or \.unknown of a verdict; got"):
            bool(ask(below(0.5, BOX)))


@pytest.mark.parametrize("region", [ROUND, SHELL])
def test_a_near_miss_on_a_round_ball_is_unknown(region):
    near = below(1.0, region)
    alone = verify_with(near)
    assert alone.verdict.unknown
    assert "near miss" in alone.verdict.reason
    assert [verdict.engine for verdict in alone.each] == ["bab"]
    joint = verify_all([near, below(2.0, region)])
    assert joint.verdict.unknown
    assert joint.decisive == 0
    assert verify_all([near, below(0.5, region)]).verdict.violated
    assert verify_with(near, ["bab", "milp", "smt"], timeout=30).verdict.unknown


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("name", ["bab", "milp", "smt"])
def test_engines_say_which_regions_they_take(name, region):
    query = below(0.25, region)
    if ENGINES[name].takes(region):
        assert verify(query, name).violated
    else:
        assert not region.is_linear
        with pytest.raises(QueryError, match="expected"):
            verify(query, name)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"timeout": 0.0}, "a time limit above 0 seconds; got 0.0"),
        ({"timeout": 1e10}, "a time limit of at most 1e[+]09 seconds"),
        ({"memory": -1.0}, "a memory limit above 0 GB and up to 1e[+]06 GB; got -1.0"),
        ({"memory": float("nan")}, "a memory limit above 0 GB"),
    ],
)
def test_limits_are_refused_alike_by_all_who_take_them(limits, what):
    query = below(2.0, BOX)
    for ask in (verify, verify_with, lambda query, **limits: verify_all([query], **limits)):
        with pytest.raises(SolverError, match=f"^expected {what}"):
            ask(query, **limits)
    for name in ("bab", "milp"):
        with pytest.raises(SolverError, match=f"^expected {what}"):
            verify(query, name, **limits)
