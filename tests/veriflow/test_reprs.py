"""What objects say of themselves: one short line, whatever their size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from veriflow import (
    Ball,
    Box,
    LevelSet,
    Property,
    Query,
    Table,
    USFlow,
    classified_as,
    fair,
    flow_query,
    network_query,
    parse_property,
    trimmed_level_set,
)
from veriflow.piecewise.from_torch import from_torch
from veriflow.piecewise.graph import Affine, Graph, Relu
from verify import Outcome, Verdict, Witness, verify


def chain(*widths: int) -> Graph:
    layers: list[torch.nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [torch.nn.Linear(wide, narrow), torch.nn.ReLU()]
    return from_torch(torch.nn.Sequential(*layers[:-1]), widths[0])


def test_graphs():
    assert repr(chain(5, 16, 16, 2)) == "Graph(5 → 16 → 16 → 2, 32 ReLUs)"
    assert repr(Graph("x", 3, (), "x")) == "Graph(3 → 3, 0 ReLUs)"
    one = Graph("x", 2, (Affine("a", (("x", np.ones((1, 2))),), np.zeros(1)), Relu("h", "a")), "h")
    assert repr(one) == "Graph(2 → 1 → 1, 1 ReLU)"
    assert repr(chain(*range(2, 14))) == "Graph(2 → 3 → 4 → 5 → 6 → 7 → … → 13, 75 ReLUs)"


def test_flows_and_their_sets():
    flow = USFlow(4, blocks=1, hidden=(3,))
    count = sum(parameter.numel() for parameter in flow.parameters())
    assert repr(flow) == f"USFlow(4 features, mixture base of norm 1, {count} parameters)"
    level_set = flow.level_set(0.9)
    assert repr(level_set) == f"LevelSet(upper, mass 0.9, latent norm 0 to {level_set.radius:.6g})"
    assert "to inf)" in repr(flow.lower_level_set(0.1))
    shells = LevelSet(flow, tuple((float(i), i + 0.5) for i in range(100)), 0.5, -1.0, "upper")
    assert repr(shells).endswith("latent norm 0 to 0.5 or 1 to 1.5 or 2 to 2.5 or 3 to 3.5 or …)")
    assert repr(trimmed_level_set(flow, mass=0.5)).startswith("TrimmedLevelSet(mass 0.5, ||z||_1 <= ")


def test_questions_and_answers():
    assert repr(parse_property("y[0]  >=\n 1")) == "Property(y[0] >= 1)"
    assert repr(fair(0, [0, 1])) == "Relation(fair(0, [0, 1]))"
    network = chain(2, 3, 2)
    query = network_query(network, Ball(math.inf, 1.5, 2), classified_as(0))
    assert repr(query) == "Query(classified as 0: Graph(2 → 3 → 2, 3 ReLUs) over ||z||_inf <= 1.5 in 2 dimensions)"
    witness = Witness((), (), (0.25, 1 / 3), (2.0,), 1.0, 0.0)
    assert repr(witness) == "Witness(data [0.25, 0.3333], outputs [2])"
    verdict = Verdict(Outcome.VIOLATED, "found", witness, "bab", 1.234)
    assert repr(verdict) == "Verdict(violated by bab in 1.23 s: found)"
    assert repr(Verdict(Outcome.UNKNOWN, "out of time")) == "Verdict(unknown: out of time)"


@pytest.mark.parametrize("size", [2, 300])
def test_every_one_is_a_short_line(size):
    flow = USFlow(size, blocks=1, hidden=(size,))
    network = chain(size, size, 2)
    long = parse_property(" & ".join(f"y[{i % 2}] >= -{size}" for i in range(size)))
    level_set = flow.level_set(0.5)
    objects: list[object] = [
        flow,
        level_set,
        network,
        long,
        flow_query(flow, network, Ball(1, level_set.radius, size), classified_as(0)),
        network_query(network, Box(np.zeros(size), np.ones(size)), long),
        Box(np.zeros(size), np.ones(size)),
        Table(np.zeros((size, size)), tuple(f"feature {i}" for i in range(size))),
        Witness((), (), (1.0,) * size, (1.0,) * size, 1.0, 0.0),
        Property("x" * 1000, lambda _: None),  # type: ignore[arg-type, return-value]
    ]
    for one in objects:
        assert "\n" not in repr(one)
        assert len(repr(one)) <= 250
        assert "/" not in repr(one)


def test_a_query_that_was_answered_is_short_in_a_notebook():
    query: Query = network_query(chain(2, 3, 2), Box(np.zeros(2), np.ones(2)), parse_property("y[0] >= -1000"))
    assert repr(verify(query)).startswith("Verdict(holds by bab in ")
