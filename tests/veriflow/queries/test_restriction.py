"""Queries of a specification ask what it says, alone and on a flow's level set, in both directions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_queries import exact, random_network

from exporters import parse_vnnlib, portable_form, to_vnnlib1, to_vnnlib2, write_bundle
from veriflow import Ball, Box, USFlow, make_base
from veriflow.errors import QueryError, RegionError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Graph
from veriflow.queries.restriction import restricted_queries, specification_queries
from veriflow.regions.float32 import float32_below
from verify import Outcome, verify, violation_probability, violations_in_data

TENTH = Fraction(1, 10)
DECLARED = "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)\n"
BOXES = """(assert (or (and (>= X_0 -0.7) (<= X_0 0.3) (>= X_1 (/ -1 3)) (<= X_1 0.7))
                       (and (>= X_0 0.1) (<= X_0 0.8) (>= X_1 -0.7) (< X_1 0.2))))"""
MIXED = DECLARED + BOXES + "(assert (or (>= (- Y_0 Y_1) {}) (and (<= (+ X_0 X_1) 0) (< Y_1 X_0))))"
TWO = """(vnnlib-version <2.0>)
(declare-network N (declare-input X Real [2]) (declare-output Y Real [2]))
(declare-network M ({} N) (declare-input U Real [2]) (declare-output V Real [2]))
(assert (and (>= X[0] -1.0) (<= X[0] 1.0) (>= X[1] -1.0) (<= X[1] 1.0)))
(assert (and (>= U[0] -0.5) (<= U[0] 2.0) (>= U[1] -1.0) (<= U[1] 1.0)))
(assert {})
(assert (or (>= (- Y[0] V[0]) 0.1) (> V[1] X[1])))
"""


def network(seed=0, sizes=(2, 4, 2)):
    return random_network(np.random.default_rng(seed), sizes)


def flow(p=1.0, seed=0, blocks=1):
    torch.manual_seed(seed)
    made = USFlow(2, blocks=blocks, hidden=(3,), base=make_base("exponential", 2, p))
    with torch.no_grad():
        for parameter in made.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return made


def points(count, seed=0, reach=1.2, dim=2):
    return map(exact, (reach * np.random.default_rng(seed).uniform(-1, 1, (count, dim))).astype(np.float32))


def outputs_of(graph, point):
    return evaluate_exact(graph, point)[graph.output]


def satisfied(query, point):
    return query.region.contains(point) and query.violated_by(outputs_of(query.graph, point))


def test_queries_are_the_cases():
    spec, net = parse_vnnlib(MIXED.format(0.1), "p.vnnlib"), network()
    queries = specification_queries([net], spec)
    assert [query.text for query in queries] == ["p.vnnlib, box 1 of 2", "p.vnnlib, box 2 of 2"]
    answers = []
    for point in points(200):
        want = spec.satisfied_by(point, outputs_of(net, point))
        assert any(satisfied(query, point) for query in queries) == want
        answers.append(want)
    assert set(answers) == {True, False}
    values = evaluate_exact(queries[0].graph, point)
    assert values[queries[0].data] == point
    assert values[queries[0].graph.output][: queries[0].network_outputs] == outputs_of(net, point)


@pytest.mark.parametrize(("relation", "other"), [("equal-to", 0), ("isomorphic-to", 1)])
@pytest.mark.parametrize("link", ["(and (== X[0] U[0]) (== (- (* U[1] 2.0) X[1] X[1]) 0.0))", "(<= (+ X[0] U[0]) 0.5)"])
def test_two_networks(relation, other, link):
    spec = parse_vnnlib(TWO.format(relation, link))
    nets = [network(0), network(other)]
    (query,) = specification_queries(nets, spec)
    equal = "==" in link
    assert query.region.dim == (2 if equal else 4)
    answers = set()
    for point in points(300, dim=query.region.dim):
        inputs = point * 2 if equal else point
        outputs = outputs_of(nets[0], inputs[:2]) + outputs_of(nets[1], inputs[2:])
        want = spec.satisfied_by(inputs, outputs)
        assert satisfied(query, point) == want
        assert evaluate_exact(query.graph, point)[query.data] == inputs
        answers.add(want)
    assert answers == {True, False}


def test_equal_inputs_with_other_bounds_are_met_by_nothing():
    text = TWO.format("equal-to", "(and (== X[0] U[0]) (<= X[0] -0.75))")
    (query,) = specification_queries([network(), network()], parse_vnnlib(text, "p"))
    assert query.violation == ()
    assert verify(query).outcome is Outcome.HOLDS


@pytest.mark.parametrize("sizes", [(3, 4, 2), (2, 4, 3)])
def test_other_networks_are_refused(sizes):
    spec, net = parse_vnnlib(MIXED.format(0)), network(0, sizes)
    message = f"a network of 2 inputs and 2 outputs, .*; got one of {sizes[0]} inputs and {sizes[2]} outputs"
    for ask in (
        lambda: specification_queries([net], spec),
        lambda: restricted_queries(flow(), Ball(1, 1.0, 2), net, spec),
    ):
        with pytest.raises(QueryError, match=message):
            ask()
    with pytest.raises(QueryError, match="2 networks, as the property declares; got 1"):
        specification_queries([network()], parse_vnnlib(TWO.format("equal-to", "(<= X[0] 1.0)")))


BALLS = [Ball(1, 1.5, 2), Ball(math.inf, 0.8, 2), Ball(1, 1.5, 2, 0.5), Ball(math.inf, 0.8, 2, 0.25)]


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_latent_to_data_asks_for_latents_of_the_ball_whose_data_violate(ball):
    made, net, spec = flow(ball.p), network(), parse_vnnlib(MIXED.format(0.1))
    (query,) = restricted_queries(made, ball, net, spec)
    decoder, answers = made.graph(), set()
    for z in points(300, reach=1.0):
        x = outputs_of(decoder, z)
        want = ball.rounded_outward().contains(z) and spec.satisfied_by(x, outputs_of(net, x))
        assert satisfied(query, z) == want
        assert evaluate_exact(query.graph, z)[query.data] == x
        answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_data_to_latent_asks_for_data_of_the_boxes_whose_latents_are_in_the_ball(ball):
    made, net, spec = flow(ball.p), network(), parse_vnnlib(MIXED.format(0.1))
    queries = restricted_queries(made, ball, net, spec, "data-to-latent")
    encoder, answers = made.graph("inverse"), set()
    for x in points(300):
        z = outputs_of(encoder, x)
        want = ball.rounded_outward().contains(z) and spec.satisfied_by(x, outputs_of(net, x))
        assert any(satisfied(query, x) for query in queries) == want
        assert evaluate_exact(queries[0].graph, x)[queries[0].latent] == z
        answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize("p", [1.0, math.inf])
@pytest.mark.parametrize("margin", [-0.3, 2.0])
def test_both_directions_agree_with_sampling(p, margin):
    made, net = flow(p), network()
    spec, ball = (
        parse_vnnlib(MIXED.format(margin).replace("(and (<= (+ X_0 X_1) 0) (< Y_1 X_0))", "(>= Y_0 9)")),
        Ball(p, 0.6, 2),
    )
    (forth,), back = (
        restricted_queries(made, ball, net, spec),
        restricted_queries(made, ball, net, spec, "data-to-latent"),
    )
    seen = any(satisfied(forth, z) for z in points(400, reach=0.6))
    assert seen == (margin < 0)
    verdicts = [verify(forth, timeout=600), *(verify(query, timeout=60) for query in back)]
    want = Outcome.VIOLATED if seen else Outcome.HOLDS
    assert verdicts[0].outcome == want
    assert (Outcome.VIOLATED in {part.outcome for part in verdicts[1:]}) == seen
    assert Outcome.UNKNOWN not in {part.outcome for part in verdicts}
    assert [part.engine for part in verdicts] == ["bab", "bab", "bab"]


def test_a_witness_of_data_to_latent_has_its_latent():
    made, net, ball = flow(), network(), Ball(1, 0.9, 2)
    spec = parse_vnnlib(MIXED.format(-0.3))
    queries = restricted_queries(made, ball, net, spec, "data-to-latent")
    witness, *_ = [found for query in queries if (found := verify(query, timeout=600).witness)]
    assert list(witness.latent) == outputs_of(made.graph("inverse"), list(witness.point))
    assert witness.data == tuple(map(float, witness.point))
    assert len(witness.outputs) == 2
    assert witness.norm == float(sum(map(abs, witness.latent))) <= 0.9000001
    x = torch.tensor([witness.data])
    with torch.no_grad():
        assert witness.log_density == pytest.approx(float(made.log_prob(x)), abs=1e-3)
    assert witness.level_mass == pytest.approx(float(made.score(x)), abs=1e-3)


def test_counting_is_in_latent_space_and_on_data():
    made, net, spec = flow(), network(), parse_vnnlib(MIXED.format(0.1))
    (forth,) = restricted_queries(made, Ball(1, 1.0, 2), net, spec)
    drawn = made.sample([500]).double()
    want = sum(spec.satisfied_by(exact(x), outputs_of(net, exact(x))) for x in drawn.numpy())
    assert violations_in_data(forth, drawn).successes == want > 0
    share = violation_probability(forth, samples=20_000).estimate
    assert share == pytest.approx(want / 500, abs=0.07)
    (back, _) = restricted_queries(made, Ball(1, 1.0, 2), net, spec, "data-to-latent")
    with pytest.raises(QueryError, match="got one from data to latent"):
        violation_probability(back)


@pytest.mark.parametrize("direction", ["latent-to-data", "data-to-latent"])
@pytest.mark.parametrize("ball", [BALLS[0], BALLS[3]], ids=str)
def test_restricted_queries_are_written_for_other_verifiers(direction, ball, tmp_path):
    queries = restricted_queries(flow(ball.p), ball, network(), parse_vnnlib(MIXED.format(0.1)), direction)
    folder = write_bundle(tmp_path / "out", {f"q{i}": query for i, query in enumerate(queries)})
    for i, query in enumerate(queries):
        form = portable_form(query)
        spec = parse_vnnlib((folder / "vnnlib" / f"q{i}.vnnlib").read_text())
        assert spec == parse_vnnlib((folder / "vnnlib" / f"q{i}.v2.vnnlib").read_text())
        for point in points(60, reach=0.7):
            weakened = spec.satisfied_by(point, outputs_of(form.graph, point))
            assert weakened == satisfied(query, point)  # no point of these is at a tie, or in the sliver around 1/3


def test_what_cannot_be_restricted_is_refused():
    made, net, spec = flow(), network(), parse_vnnlib(MIXED.format(0))
    with pytest.raises(QueryError, match="latent-to-data or data-to-latent; got 'sideways'"):
        restricted_queries(made, Ball(1, 1.0, 2), net, spec, "sideways")
    with pytest.raises(QueryError, match="a ball of norm 1 or inf for data-to-latent"):
        restricted_queries(made, Ball(2, 1.0, 2), net, spec, "data-to-latent")
    with pytest.raises(QueryError, match="a property of one network"):
        restricted_queries(made, Ball(1, 1.0, 2), net, parse_vnnlib(TWO.format("equal-to", "(<= X[0] 1.0)")))
    wide = "".join(f"(declare-const X_{i} Real) (assert (<= 0 X_{i} 1))" for i in range(3))
    spec = parse_vnnlib(wide + "(declare-const Y_0 Real) (assert (>= Y_0 0))")
    with pytest.raises(QueryError, match="a network of 2 inputs, as the flow gives; got one of 3"):
        restricted_queries(made, Ball(1, 1.0, 2), network(0, (3, 2, 1)), spec)


def identity_query(above):
    text = f"(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= 0 X_0 0.1)) (assert (>= Y_0 {above}))"
    (query,) = specification_queries([Graph("x", 1, (), "x")], parse_vnnlib(text))
    return query


def test_ends_that_are_no_floats_are_exact():
    query = identity_query("0.1")
    assert query.region.upper[0] > TENTH > float32_below(TENTH)
    for engine in ("milp", "smt"):
        verdict = verify(query, engine)
        assert verdict.outcome is Outcome.VIOLATED
        assert verdict.witness.point == (TENTH,)
    # between 1/10 and the float32 number above it there is no input
    beyond = identity_query("0.1000000001")
    assert beyond.region.upper[0] > 0.1000000001
    assert verify(beyond, "smt").outcome is Outcome.HOLDS
    assert verify(beyond, "milp").outcome is not Outcome.VIOLATED
    assert parse_vnnlib(to_vnnlib1(portable_form(query))) == parse_vnnlib(to_vnnlib2(portable_form(query)))
    assert "(assert (<= X_0 0.1))" in to_vnnlib1(portable_form(query))


def test_boxes_with_exact_ends():
    box = Box.between([Fraction(-1, 3), TENTH, Fraction(2, 3)], [Fraction(1, 3), TENTH, Fraction(5)])
    assert box.ends == ((Fraction(-1, 3), TENTH, Fraction(2, 3)), (Fraction(1, 3), TENTH, Fraction(5)))
    assert all(low <= end for low, end in zip(box.lower, box.ends[0], strict=True))
    assert all(high >= end for high, end in zip(box.upper, box.ends[1], strict=True))
    point = [Fraction(1), Fraction(1), Fraction(0)]
    assert box.nearest(point) == [Fraction(1, 3), TENTH, Fraction(2, 3)]
    moved = box.near_float32(point, 0.0)
    assert box.contains(moved)
    assert moved[1] == TENTH
    assert all(Fraction(float(np.float32(float(moved[i])))) == moved[i] for i in (0, 2))
    assert box.nearest(moved) == moved
    assert not box.contains([Fraction(float(box.upper[0])), TENTH, Fraction(1)])
    assert box.rounded_outward().ends == box.ends
    with pytest.raises(RegionError, match="range of float32"):
        Box.between([Fraction(0)], [Fraction(10**39)])
    with pytest.raises(RegionError, match="exact ends within"):
        Box(np.zeros(1), np.ones(1), ((Fraction(-1),), (Fraction(1),)))
    with pytest.raises(RegionError, match="exact ends"):
        Box(np.zeros(1), np.ones(1), ((TENTH, TENTH), (TENTH,)))


def test_an_older_query_is_at_another_region_what_it_was():
    made, net, spec = flow(), network(), parse_vnnlib(MIXED.format(0))
    query = restricted_queries(made, Ball(1, 1.0, 2), net, spec, "data-to-latent")[0]
    moved = query.at(Box(np.zeros(2), np.ones(2)))
    assert (moved.latent, moved.network_outputs, moved.flow) == (query.latent, 2, made)
