"""What an attack climbs: the slack of the violation, along rows of the constraints that decide it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_queries import random_network, small_query

from veriflow.piecewise.evaluate import evaluate
from veriflow.queries.constraints import Expression
from veriflow.queries.query import network_query
from veriflow.queries.text.formulas import parse_property
from veriflow.regions.ball import Ball
from verify import Outcome, verify
from verify.witness.attack import climb, steepest_ascent, violation_slack

OUTPUTS = 3
NETWORK = random_network(np.random.default_rng(0), (2, 8, OUTPUTS))
small = st.integers(-3, 3).map(Fraction)
constraints = st.builds(
    lambda coefficients, bound, strict: Expression({i: c for i, c in coefficients.items() if c}).at_least(
        bound, strict=strict
    ),
    st.dictionaries(st.integers(0, OUTPUTS - 1), small),
    small,
    st.booleans(),
)
violations = st.lists(st.lists(constraints, max_size=3).map(tuple), max_size=4).map(tuple)


@given(violations, st.integers(0, 2**16))
def test_steepest_ascent_is_the_slack_and_a_subgradient_of_it(violation, seed):
    query = replace(small_query("box", "largest"), violation=violation)
    assert query.graph.output_size == OUTPUTS
    outputs = torch.randn(8, OUTPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    slack, rows = steepest_ascent(query, outputs)
    assert torch.equal(slack, violation_slack(query, outputs))
    attained = torch.isfinite(slack)
    step = 1e-7 * rows
    ahead = violation_slack(query, outputs + step)
    rise = (rows * step).sum(-1)  # the numbers are random: no two constraints meet this near
    assert torch.allclose((ahead - slack)[attained], rise[attained], rtol=1e-3, atol=1e-12)
    assert rows.shape == outputs.shape


def test_climbing_never_loses_slack():
    """The violation, y[0] ≤ −1000 or y[1] ≥ 1000 + y[2], is out of reach, so that all steps are taken."""
    query = network_query(NETWORK, Ball(1, 1.0, 2), parse_property("y[0] > -1000 & y[1] - y[2] < 1000"))
    points = query.region.draw(16, 0)
    before, after = (
        violation_slack(query, evaluate(query.graph, where)[query.graph.output])
        for where in (points, climb(query, points))
    )
    assert (after >= before).all()
    assert (after > before).any()


@pytest.mark.parametrize("engine", ["bab", "milp", "smt", "auto"])
def test_a_property_that_never_holds_is_violated(engine):
    query = network_query(NETWORK, Ball(1, 1.0, 2), parse_property("0 >= 1"))
    assert query.violation == ((),)
    assert verify(query, engine).outcome is Outcome.VIOLATED
