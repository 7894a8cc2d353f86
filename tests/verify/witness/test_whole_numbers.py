"""Witnesses in tables with whole numbers are rounded, replayed and judged."""

import numpy as np
import pytest
import torch
from small_queries import linear

from veriflow.errors import VeriflowError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.query import flow_query
from veriflow.queries.relations import fair, monotone
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify import replay, rounded_witness, verify


def whole_flow(*integral):
    flow = USFlow(2, blocks=0, features=("sex", "age"), integral=integral)
    flow.standardise(torch.tensor([0.5, 40.0]), torch.tensor([0.5, 10.0]))
    return flow


def test_a_witness_is_rounded_replayed_and_judged():
    """Decision: sex + age/8 > 5.1875. It turns with sex for ages above 33.5 up to 41.5."""
    network = linear([1, 0.125], -5.1875)
    flow = whole_flow("sex", "age")
    query = flow_query(flow, network, Ball(1, flow.level_set(0.9).radius, 2), fair("sex", [0, 1]))
    witness = verify(query).witness
    rounded = rounded_witness(query, witness)
    assert rounded.violates
    assert rounded.inside
    sex, age = rounded.data
    assert sex == round(sex)
    assert 34 <= age <= 41
    assert age == round(age)
    assert list(rounded.others.values()) == [(0.0, age), (1.0, age)]
    assert rounded.outputs == pytest.approx([age / 8 - 5.1875, age / 8 - 4.1875])
    log_density = flow.double().log_prob(torch.tensor(rounded.data, dtype=torch.float64)).item()
    assert rounded.log_density == pytest.approx(log_density)
    assert 0 < rounded.level_mass < 0.9


def test_a_rounded_point_that_is_no_violation_is_said_to_be_none():
    """The decision turns between the ages 40.25 and 40.5 only."""
    network = linear([0.125, 0.5], -20.25)
    flow = whole_flow("age")
    query = flow_query(flow, network, Ball(1, flow.level_set(0.9).radius, 2), fair("sex", [0, 1]))
    rounded = rounded_witness(query, verify(query).witness)
    assert not rounded.violates
    assert rounded.data[1] in (40.0, 41.0)


def test_where_no_rounding_violates_a_probable_violation_is_drawn():
    """The decision turns with sex between the ages 40.25 and 40.75, where there is no whole age, and at 49."""
    nodes = (
        Affine(
            "a",
            (("x", np.array([[0.5, 1.0], [0.25, 1.0], [0.25, 1.0], [0.25, 1.0]])),),
            np.array([-40.75, -47, -50, -53]),
        ),
        Relu("h", "a"),
        Affine("y", (("h", np.array([[1.0, -4.0, 8.0, -4.0]])),), np.array([-0.0])),
    )
    flow = whole_flow("sex", "age")
    query = flow_query(flow, Graph("x", 2, nodes, "y"), Ball(1, flow.level_set(0.9).radius, 2), fair("sex", [0, 1]))
    z = flow.double().latent(torch.tensor([0.25, 40.5], dtype=torch.float64)).tolist()
    witness = replay(query, z)
    assert witness is not None
    rounded = rounded_witness(query, witness)
    assert rounded.violates
    assert rounded.inside
    assert all(value.is_integer() for value in rounded.data)
    assert rounded.data[1] == 49


def test_free_numbers_are_rounded_with_the_points_that_they_move():
    network = linear([0, -1])
    flow = whole_flow("age")
    query = flow_query(flow, network, Ball(1, 1.0, 2), monotone("age", by=7.5))
    witness = verify(query).witness
    rounded = rounded_witness(query, witness)
    (other,) = rounded.others.values()
    assert rounded.data[1] == round(rounded.data[1])
    assert other[1] == round(other[1])
    assert rounded.violates == (0 < other[1] - rounded.data[1] <= 7.5)


def test_rounded_numbers_stay_within_the_limits():
    flow = whole_flow("sex", "age")
    query = flow_query(flow, linear([1, 0.125], -5.1875), Ball(1, 6.0, 2), fair("sex", [0, 1]))
    far = replay(query, [3.0, -0.125])
    assert rounded_witness(query, far).data[0] == 2
    rounded = rounded_witness(query, far, limits=Box([0, 0], [1, 120]))
    assert rounded.data[0] == 1
    assert rounded.violates
    with pytest.raises(VeriflowError, match="expected limits of 2 dimensions; got 1"):
        rounded_witness(query, far, limits=Box([0], [1]))


def test_columns_can_be_named_by_number_and_must_be_there():
    flow = whole_flow()
    query = flow_query(flow, linear([1, 0.125], -5.1875), Ball(1, 3.0, 2), fair("sex", [0, 1]))
    witness = verify(query).witness
    assert rounded_witness(query, witness).data == witness.data
    assert rounded_witness(query, witness, [1]).data[1].is_integer()
    with pytest.raises(VeriflowError, match="expected columns from 0 to 1"):
        rounded_witness(query, witness, [2])
