"""Relations mean what they say: their graphs, their violations, the engines' answers, their exports and their text."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import z3
from hypothesis import given
from hypothesis import strategies as st
from small_queries import exact, linear, points_about, random_network
from vnnlib_text import satisfied

from exporters import portable_form, to_smtlib, to_vnnlib1, to_vnnlib2, write_bundle
from veriflow.errors import PropertyError, VeriflowError
from veriflow.flows.flow import USFlow
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.calls import read_call, write_call
from veriflow.queries.constraints import Constraint, y
from veriflow.queries.properties import confident, never_confident
from veriflow.queries.query import Query, flow_query, network_query
from veriflow.queries.relations import abstains_outside, equivalent, fair, lipschitz, monotone, robust, same_decision
from veriflow.queries.text.formulas import parse_property
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from verify import Outcome, certify, is_countable, replay, verify, violation_probability

FEATURES = ("sex", "age (years)", "pay")


def small_flow(seed=0):
    torch.manual_seed(seed)
    flow = USFlow(3, blocks=1, hidden=(2,), features=FEATURES)
    with torch.no_grad():
        for parameter in flow.bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return flow


def network_of(outputs, seed=0, width=3):
    return random_network(np.random.default_rng(seed), (3, width, outputs))


RELATIONS = {
    "robust": robust(0.25),
    "robust, L1, one class": robust(0.5, 1, 1, scale=[1, 0.5, 0]),
    "robust, deviations": robust(0.25, scale="deviation", tolerance=0.125),
    "fair, two values": fair("sex", [0, 1]),
    "fair, three values, another feature": fair("sex", [0, 1, 2], allow={"age (years)": 0.5, "pay": (0.0, 0.25)}),
    "fair, a range": fair(2, within=(-0.5, 1.0), allow={0: 0.125}),
    "monotone": monotone("pay", tolerance=0.0625),
    "monotone, decreasing": monotone(1, y[0] * 2, increasing=False, by=0.5),
    "lipschitz": lipschitz(0.75, math.inf, 0.25),
    "lipschitz, L1, one output": lipschitz(Fraction(1, 2), 1, 0.5, 0, tolerance=0.0625),
    "equivalent": equivalent(network_of(2, 7), 0.5),
    "same decision": same_decision(network_of(2, 7)),
    "abstains outside": abstains_outside(0.5, 1.5),
}


def relation_query(name, seed=0, radius=0.4):
    flow = small_flow(seed)
    return flow_query(flow, network_of(2, seed), Ball(1, radius, 3), RELATIONS[name])


# -- graphs -------------------------------------------------------------------------------------------------------


def outputs_at(network, x):
    return evaluate_exact(network, x)[network.output]


def expected_points(name, query, point):
    """All points that the relation speaks of, from the input of the query's graph by arithmetic on rationals."""
    decoder = query.flow.graph()
    x = evaluate_exact(decoder, point[:3])["x"]
    free = point[3:]
    deviations = [Fraction(float(v)) for v in query.flow.deviations()]
    scales = {"robust, L1, one class": [1, Fraction(1, 2), 0], "robust, deviations": deviations}.get(name, [1, 1, 1])

    def changed(places):
        return [places.get(i, v) for i, v in enumerate(x)]

    if name.startswith(("robust", "lipschitz")):
        return [x, [v + s * d for v, s, d in zip(x, scales, free, strict=True)]]
    if name == "fair, two values":
        return [changed({0: 0}), changed({0: 1})]
    if name == "fair, three values, another feature":
        plain = [changed({0: value}) for value in (0, 1, 2)]
        return plain + [[p[0], p[1] + free[0], p[2] + free[1]] for p in plain]
    if name == "fair, a range":
        return [x, [x[0] + free[0], x[1], free[1]]]
    if name.startswith("monotone"):
        place = 2 if name == "monotone" else 1
        return [x, changed({place: x[place] + free[0]})]
    return [x]


@pytest.mark.parametrize("name", RELATIONS)
@given(seed=st.integers(0, 5), place=st.integers(0, 99))
def test_the_graph_is_the_network_at_each_point(name, seed, place):
    query = relation_query(name, seed)
    point = exact(points_about(query.region, np.random.default_rng(place), 1)[0])
    values = evaluate_exact(query.graph, point)
    points = expected_points(name, query, point)
    network = network_of(2, seed)
    expected = [v for x in points for v in outputs_at(network, x)]
    if name in ("equivalent", "same decision"):
        expected += outputs_at(network_of(2, 7), points[0])
    if name.startswith("lipschitz"):
        expected.append((max if name == "lipschitz" else sum)(abs(v) for v in point[3:]))
    assert values[query.graph.output] == expected
    assert len(query.output_names) == len(expected)
    assert values[query.data] == evaluate_exact(query.flow.graph(), point[:3])["x"]
    others = [values[name] for name in query.others]
    assert others == [x for x in points if x != values[query.data]][-len(others) :] or not others


# -- violations ---------------------------------------------------------------------------------------------------

halves = st.integers(-4, 4).map(lambda n: Fraction(n, 2))  # few values, so that ties are common


def decisions(outputs):
    if len(outputs) == 1:
        return {1 if outputs[0] > 0 else 0}
    return {i for i, v in enumerate(outputs) if v == max(outputs)}


def line(size):
    """A network whose outputs are its inputs."""
    return Graph("x", size, (Affine("y", (("x", np.eye(size)),), np.zeros(size)),), "y")


def violates(relation, size, outputs, network=None):
    region = Box(-np.ones(size), np.ones(size))
    return network_query(network or line(size), region, relation).violated_by(outputs)


@given(st.data(), st.integers(1, 4))
def test_a_decision_is_kept_where_what_was_decided_for_still_is(data, size):
    one, two = (data.draw(st.lists(halves, min_size=size, max_size=size)) for _ in range(2))
    kept = decisions(one) <= decisions(two)
    assert violates(robust(1.0), size, one + two) == (not kept)
    assert violates(same_decision(line(size)), size, one + two) == (not kept)
    for c in range(max(size, 2)):
        expected = c in decisions(one) and c not in decisions(two)
        assert violates(robust(1.0, c=c), size, one + two) == expected
    three = data.draw(st.lists(halves, min_size=size, max_size=size))
    kept_by_both = kept and decisions(one) <= decisions(three)
    assert violates(fair(0, [0, 1, 2]), size, one + two + three) == (not kept_by_both)


@given(st.data(), st.integers(1, 3), halves.filter(lambda v: v >= 0))
def test_differences_are_forgiven_up_to_the_tolerance(data, size, tolerance):
    one, two = (data.draw(st.lists(halves, min_size=size, max_size=size)) for _ in range(2))
    gaps = [b - a for a, b in zip(one, two, strict=True)]
    slack = float(tolerance)
    assert violates(equivalent(line(size), slack), size, one + two) == (max(map(abs, gaps)) > tolerance)
    assert violates(monotone(0, 0, by=1, tolerance=slack), size, one + two) == (gaps[0] < -tolerance)
    assert violates(monotone(0, y[0], increasing=False, by=1, tolerance=slack), size, one + two) == (
        gaps[0] > tolerance
    )
    reach = data.draw(halves.filter(lambda v: v >= 0))
    steep = max(map(abs, gaps)) > Fraction(3, 10) * reach + tolerance
    assert violates(lipschitz(0.3, 1, 1, tolerance=slack), size, [*one, *two, reach]) == steep


@given(st.lists(halves, min_size=1, max_size=4), halves.filter(lambda v: v > 0))
def test_confidence_is_the_margin_of_the_largest_output(outputs, delta):
    size = len(outputs)

    def margin(c):
        if size == 1:
            return outputs[0] if c else -outputs[0]
        return outputs[c] - max(v for j, v in enumerate(outputs) if j != c)

    sure = [c for c in range(max(size, 2)) if margin(c) >= delta]

    def violated(prop):
        return any(all(constraint.holds(outputs) for constraint in row) for row in prop.violation(size))

    assert violated(confident(None, float(delta))) == (not sure)
    assert violated(never_confident(float(delta))) == bool(sure)
    for c in range(max(size, 2)):
        assert violated(confident(c, float(delta))) == (c not in sure)


# -- engines ------------------------------------------------------------------------------------------------------


def answers(query):
    """The default engine's answer, checked against Z3's, a replay, and a cloud of points."""
    verdict, truth = verify(query), verify(query, "smt")
    assert truth.outcome is not Outcome.UNKNOWN
    assert verdict.outcome in (truth.outcome, Outcome.UNKNOWN)
    for answer in (verdict, truth):
        if answer.witness is not None:
            assert replay(query, answer.witness.point) is not None
    if truth.outcome is Outcome.HOLDS:
        for point in points_about(query.region, np.random.default_rng(0), 300):
            place = exact(point)
            if query.region.contains(place):
                assert not query.violated_by(evaluate_exact(query.graph, place)[query.graph.output])
    return verdict.outcome


@pytest.mark.parametrize("name", RELATIONS)
def test_engines_agree_on_relations(name):
    for seed, radius in ((0, 0.4), (1, 0.05), (3, 0.2)):
        answers(relation_query(name, seed, radius))


def absolute():
    """y = |x|, by two ReLUs."""
    nodes = (
        Affine("a", (("x", np.array([[1.0], [-1.0]])),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.ones((1, 2))),), np.zeros(1)),
    )
    return Graph("x", 1, nodes, "y")


BOX = Box(np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    ("network", "region", "relation", "outcome"),
    [
        # the least output over the box is 1, and a perturbation takes off eps · 3 (inf) or eps · 2 (1)
        (linear([1, 2], 1), BOX, robust(0.375), Outcome.VIOLATED),
        (linear([1, 2], 1), BOX, robust(0.3125), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, robust(0.5, 1), Outcome.VIOLATED),
        (linear([1, 2], 1), BOX, robust(0.4375, 1), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, robust(0.5, 1, scale=[1, 0.5]), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, robust(4, c=0), Outcome.HOLDS),
        # the decision flips where 2 x_0 + a − 1.5 passes zero between both values of a
        (linear([2, 1], -1.5), BOX, fair(1, [0, 1]), Outcome.VIOLATED),
        (linear([0, 1], -1.5), BOX, fair(1, [0, 1]), Outcome.HOLDS),
        (linear([0, 1], -1.5), BOX, fair(1, [0, 2]), Outcome.VIOLATED),
        # no float32 is 1700000500, and the nearest one is beyond the threshold
        (linear([0, 1], -1700000500.5), BOX, fair(1, [1700000000, 1700000500]), Outcome.HOLDS),
        (linear([0, 1], -1.5), BOX, fair(1, within=(0, 1.25)), Outcome.HOLDS),
        (linear([0, 1], -1.5), BOX, fair(1, within=(0, 1.75)), Outcome.VIOLATED),
        (linear([0.25, 1], -1.5), BOX, fair(1, [0, 1], allow={0: 0.5}), Outcome.HOLDS),
        (linear([0.25, 1], -1.5), BOX, fair(1, [0, 1], allow={0: 1.5}), Outcome.VIOLATED),
        (absolute(), Box([0.5], [2]), monotone(0, by=1, tolerance=0.01), Outcome.HOLDS),
        (absolute(), Box([-0.5], [2]), monotone(0, by=1, tolerance=0.01), Outcome.VIOLATED),
        (absolute(), Box([-4], [-2]), monotone(0, increasing=False, by=1, tolerance=0.01), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, lipschitz(3, math.inf, 1, tolerance=0.01), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, lipschitz(2.75, math.inf, 1, tolerance=0.01), Outcome.VIOLATED),
        (linear([1, 2], 1), BOX, lipschitz(2, 1, 1, tolerance=0.01), Outcome.HOLDS),
        (linear([1, 2], 1), BOX, lipschitz(1.75, 1, 1, tolerance=0.01), Outcome.VIOLATED),
        (linear([1, 2]), BOX, equivalent(linear([1, 2.25]), 0.25), Outcome.HOLDS),
        (linear([1, 2]), BOX, equivalent(linear([1, 2.25]), 0.125), Outcome.VIOLATED),
        (linear([1, 2], 1), BOX, same_decision(linear([3, 1], 0.5)), Outcome.HOLDS),
        (linear([1, 2], -1), BOX, same_decision(linear([3, 1], 0.5)), Outcome.VIOLATED),
        (absolute(), Ball(math.inf, 1, 1), abstains_outside(2.25), Outcome.HOLDS),
        (absolute(), Ball(math.inf, 1, 1), abstains_outside(1.75), Outcome.VIOLATED),
        (absolute(), Ball(math.inf, 1, 1), abstains_outside(1.75, 1.5), Outcome.HOLDS),
    ],
    ids=lambda value: getattr(value, "text", None),
)
def test_known_truths(network, region, relation, outcome):
    query = network_query(network, region, relation)
    assert verify(query, "smt").outcome is outcome
    found = verify(query)
    assert found.outcome is outcome or (found.outcome is Outcome.UNKNOWN and "toleran" in found.reason)


def test_equality_is_proved_by_the_exact_engine():
    """At δ = 0 nothing differs, so that a float engine sees a tie where the property holds without a tolerance."""
    query = network_query(linear([1, 2], 1), BOX, lipschitz(3, math.inf, 1))
    assert verify(query, "bab").outcome is Outcome.UNKNOWN
    assert verify(query, "smt").outcome is Outcome.HOLDS


def test_witnesses_speak_of_both_points_and_of_the_latent_alone():
    query = relation_query("robust", 3, 3.0)
    verdict = verify(query)
    assert verdict.outcome is Outcome.VIOLATED
    witness = verdict.witness
    z, delta = witness.latent, witness.point[3:]
    assert witness.norm == pytest.approx(float(sum(map(abs, z))))
    assert witness.level_mass == pytest.approx(float(query.flow.base.law.cdf(witness.norm)))
    log_density = query.flow.double().log_prob(torch.tensor(witness.data, dtype=torch.float64)).item()
    assert witness.log_density == pytest.approx(log_density, abs=1e-4)
    (other,) = witness.others.values()
    assert other == pytest.approx([v + float(d) for v, d in zip(witness.data, delta, strict=True)])
    assert witness.outputs[2:] == pytest.approx(
        [float(v) for v in outputs_at(network_of(2, 3), exact(np.array(other)))]
    )


def test_a_ball_of_latents_replaces_the_first_part_alone():
    query = relation_query("robust")
    assert query.at(Ball(1, 0.25, 3)).region == Product((Ball(1, 0.25, 3), query.region.parts[1]))
    assert query.at(Ball(1, 0.25, 6)).region == Ball(1, 0.25, 6)


def test_what_needs_more_than_a_point_is_not_counted_and_not_certified():
    query = relation_query("robust")
    assert not is_countable(query)
    with pytest.raises(VeriflowError, match="a property that a data point alone has"):
        violation_probability(query)
    with pytest.raises(VeriflowError, match="expected a query on a flow over a ball; got"):
        certify(query)
    alone = relation_query("fair, two values", radius=5.0)
    assert is_countable(alone)
    assert violation_probability(alone, samples=1000).trials == 1000
    certificate = certify(alone, timeout=20)
    assert certificate.witness is None or certificate.witness.others


# -- exports ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RELATIONS)
def test_exported_text_holds_where_the_query_does(name):
    query = relation_query(name, 3, 1.0)
    form = portable_form(query)
    for point in map(exact, points_about(query.region, np.random.default_rng(0), 20)):
        values = evaluate_exact(query.graph, point)[query.graph.output]
        want = query.region.contains(point) and query.violated_by(values)
        outputs = evaluate_exact(form.graph, point)[form.graph.output]
        assert [satisfied(text(form), point, outputs) for text in (to_vnnlib1, to_vnnlib2)] == [want, want]


@pytest.mark.parametrize("name", [name for name in RELATIONS if not name.startswith("lipschitz")])
def test_exports_have_the_truth_of_the_query(name):
    """Z3 reads the SMT-LIB text itself; the VNN-LIB form is asked as a query of its own."""
    for seed, radius in ((0, 0.4), (3, 0.2)):
        query = relation_query(name, seed, radius)
        truth = verify(query, "smt").outcome
        solver = z3.SolverFor("QF_LRA")
        solver.from_string(to_smtlib(query))
        assert str(solver.check()) == ("sat" if truth is Outcome.VIOLATED else "unsat")
        form = portable_form(query)
        rows = tuple(tuple(map(as_constraint, row)) for row in form.disjuncts)
        assert verify(Query(form.graph, form.box, rows, "", form.graph.input), "smt").outcome is truth


def as_constraint(comparison):
    sign = Fraction(1 if comparison.sign == ">=" else -1)
    if isinstance(comparison.bound, Fraction):
        return Constraint(((comparison.output, sign),), sign * comparison.bound)
    return Constraint(((comparison.output, sign), (comparison.bound, -sign)), Fraction(0))


def test_a_bundle_says_the_parts_of_a_product(tmp_path):
    folder = write_bundle(tmp_path / "out", {"q": relation_query("robust")})
    entry = json.loads((folder / "manifest.json").read_text())["queries"]["q"]
    latent, free = entry["region"]["product"]
    assert (latent["norm"], latent["dim"], free["norm"], free["radius"]) == ("1", 3, "inf", 0.25)
    law = small_flow().base.law
    assert entry["mass"] == pytest.approx(float(law.cdf(latent["radius"])))


# -- text ---------------------------------------------------------------------------------------------------------

plain = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6).filter(
    lambda text: "'" not in text or '"' not in text
)
scalars = plain | st.floats(allow_nan=False) | st.integers()
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(plain, scalars, min_size=1, max_size=3)


@given(st.lists(values, max_size=3), st.dictionaries(st.sampled_from(["a", "b2", "some_name"]), values, max_size=2))
def test_calls_are_read_as_they_were_written(arguments, options):
    def words(value):
        if isinstance(value, dict):
            return {words(key): words(item) for key, item in value.items()}
        if isinstance(value, list):
            return [words(item) for item in value]
        return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)

    call = read_call(write_call("name", *arguments, **options))
    assert call.name == "name"
    assert call.arguments == [words(value) for value in arguments]
    assert call.options == {name: words(value) for name, value in options.items()}


@pytest.mark.parametrize("name", RELATIONS)
def test_the_text_of_a_relation_is_read_as_that_relation(name):
    relation = RELATIONS[name]
    again = parse_property(relation.text, lambda path: network_of(2, 7))
    assert again.text == relation.text
    flow, network = small_flow(), network_of(2)
    one, two = (flow_query(flow, network, Ball(1, 0.4, 3), r) for r in (relation, again))
    assert one.violation == two.violation
    point = exact(points_about(one.region, np.random.default_rng(0), 1)[0])
    assert evaluate_exact(one.graph, point) == evaluate_exact(two.graph, point)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("robust(.1, inf)", robust(0.1)),
        ("robust(eps=1/4, norm=1, c=0)", robust(0.25, 1, 0)),
        ("fair(sex, 0, 1)", fair("sex", [0, 1])),
        ("fair(feature=0, values=[0, 1])", fair(0, [0, 1])),
        ("fair('age (years)', within=[18, 90])", fair("age (years)", within=(18, 90))),
        ("fair(age (years), within=[18, 90])", fair("age (years)", within=(18, 90))),
        ("monotone(pay)", monotone("pay")),
        ("monotone(pay, y[1] - y[0], increasing=no, by=2)", monotone("pay", y[1] - y[0], increasing=False, by=2)),
        ("lipschitz(0.1, 1, 2, 0)", lipschitz(0.1, 1, 2, 0)),
        (" abstains_outside( 3 )\n", abstains_outside(3)),
    ],
)
def test_ways_to_write_a_relation(text, same):
    assert parse_property(text).text == same.text.replace("fair(0,", "fair(0,")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("robust()", "expected robust(eps, norm=…, c=…, scale=…, tolerance=…); got no eps"),
        ("robust(1, 2)", "expected the norm 1 or inf; got 2.0"),
        ("robust(-1)", "a perturbation of positive finite size; got -1.0"),
        ("robust(0.1, inf, eps=2)", "got eps=…"),
        ("robust(a)", "expected a number for eps; got 'a'"),
        ("robust(0.1) & y[0] > 1", "expected nothing after robust(…), which stands alone,"),
        ("y[0] > 1 & robust(0.1)", "expected a formula, or robust(…) alone, at column 12"),
        ("robust(0.1", "expected ',' at column 11 of the property; got the end"),
        ("robust(0.1, tolerance=-1)", "a finite tolerance of at least 0; got -1.0"),
        ("fair(sex)", "expected either values or a range of the feature; got none"),
        ("fair(sex, 1)", "expected two different values at least; got [1.0]"),
        ("fair(sex, [0, 1], within=[0, 1])", "got both"),
        ("fair(height, 0, 1)", "expected a feature among sex, age (years), pay; got 'height'"),
        ("fair(sex, [0, 1], allow=[sex: 1])", "expected other features than 'sex' to be allowed to change, once each"),
        ("fair(sex, [0, 1], allow=[pay: [2, 1]])", "expected a finite range from low to high; got 2.0 and 1.0"),
        ("fair(sex, [0, 1], allow=[pay: 1, 2])", "all items of a list with a name, or none,"),
        ("monotone(7)", "expected a feature among"),
        ("monotone(pay, y[4])", "expected an output from y[0] to y[1]; got y[4]"),
        ("monotone(pay, y[0] > 1)", "expected '+', '-' or the end at column 6"),
        ("monotone(pay, increasing=maybe)", "expected yes or no for increasing; got 'maybe'"),
        ("monotone(pay, by=0)", "expected a positive rise of the feature; got 0.0"),
        ("lipschitz(1, inf)", "got no eps"),
        ("lipschitz(-1, inf, 1)", "expected a bound of at least 0; got -1"),
        ("equivalent(other.onnx, 0.1)", "expected a reader of network files"),
        ("abstains_outside(1, 1)", "expected a reach above 1"),
        ("abstains_outside(0)", "expected a positive finite margin; got 0.0"),
        ("confident(any)", "expected confident(class, margin) or confident(any, margin)"),
        ("robust(0.1, c=2)", "expected a class from 0 to 1; got 2"),
        ("robust(0.1, scale=[1, 2])", "expected 3 scales of at least 0"),
        ("robust(0.1, scale=wide)", "or 'deviation'"),
    ],
)
def test_relations_that_make_no_sense_are_refused_with_a_sentence(text, sentence):
    with pytest.raises(PropertyError) as caught:
        flow_query(small_flow(), network_of(2), Ball(1, 0.4, 3), parse_property(text))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: network_query(network_of(2), Box([0] * 3, [1] * 3), fair("sex", [0, 1])), "by its number from 0 to 2"),
        (lambda: network_query(network_of(2), Box([0] * 3, [1] * 3), monotone(0)), "or 'deviation' and a flow"),
        (lambda: network_query(network_of(2), Box([0] * 3, [1] * 3), abstains_outside(1)), "a ball to be outside of"),
        (lambda: network_query(network_of(2), Ball(1, 1, 3), equivalent(network_of(3), 1)), "3 inputs and 2 outputs"),
        (
            lambda: network_query(network_of(2), Product((Ball(1, 1, 2), Ball(1, 1, 1))), robust(1)),
            "a ball or a box of inputs",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_a_sentence(ask, sentence):
    with pytest.raises(PropertyError) as caught:
        ask()
    assert sentence in str(caught.value)
