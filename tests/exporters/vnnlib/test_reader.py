"""What is read from a property file is what it says, by an independent reading of the same text at exact points."""

import operator
import os
import re
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_queries import PROPERTIES, exact, points_about, random_network, small_query

from exporters import parse_vnnlib, portable_form, read_vnnlib, to_vnnlib1, to_vnnlib2
from exporters.vnnlib import linear_terms as reading
from veriflow.errors import PropertyError, StorageError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.constraints import Constraint
from veriflow.queries.restriction import specification_queries
from veriflow.queries.specification import DeclaredNetwork

DECLARED = """(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
"""
BOX = "(assert (and (<= X_0 1) (>= X_0 -1)))\n(assert (>= 2.0 X_1)) (assert (<= -2 X_1))\n"
ACASXU = Path(os.environ.get("VERIFLOW_DATA", "absent")) / "acasxu"


def terms(text):
    """The text as nested lists: an independent, simpler reader."""
    words = iter(re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)))

    def group():
        found = []
        for word in words:
            if word == ")":
                break
            found.append(group() if word == "(" else word)
        return found

    return group()


def value(term, values):
    if isinstance(term, str):
        return values[term] if term in values else Fraction(term)
    head, first, *rest = term[0], *(value(part, values) for part in term[1:])
    if head == "-" and not rest:
        return -first
    for part in rest:
        first = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[head](first, part)
    return first


SIGNS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def truth(term, values):
    head, *arguments = term
    if head in ("and", "or", "not"):
        parts = [truth(part, values) for part in arguments]
        return {"and": all, "or": any, "not": lambda found: not found[0]}[head](parts)
    numbers = [value(part, values) for part in arguments]
    if head == "distinct":
        return len(set(numbers)) == len(numbers)
    return all(SIGNS[head](a, b) for a, b in pairwise(numbers))


def text_holds(text, x, y):
    values = {f"X_{i}": v for i, v in enumerate(x)} | {f"Y_{i}": v for i, v in enumerate(y)}
    return all(truth(term[1], values) for term in terms(text) if term[0] == "assert")


def one_case(text):
    (case,) = parse_vnnlib(DECLARED + BOX + text).cases
    return case


def bound_of(number):
    """The number as a bound on an output."""
    (((constraint,),),) = (one_case(f"(assert (>= Y_0 {number}))").violation,)
    assert constraint.coefficients == ((2, 1),)
    return constraint.bound


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1), ("-1.0", -1), ("+2.", 2), (".5", Fraction(1, 2)), ("1e-5", Fraction(1, 100000)), ("-2.5E+3", -2500),
        ("(- 3)", -3), ("(- 3.5)", Fraction(-7, 2)), ("(/ 1 3)", Fraction(1, 3)), ("(- (/ 1.0 3.0))", Fraction(-1, 3)),
        ("(/ (- 1) 4 2)", Fraction(-1, 8)), ("(* 2 (+ 1 0.1) 3)", Fraction(33, 5)), ("(- 5 1 1)", 3),
        ("0.1234567890123456789012345678901", Fraction("0.1234567890123456789012345678901")),
    ],
)  # fmt: skip
def test_numbers_are_exact(text, number):
    assert bound_of(text) == number


@pytest.mark.parametrize(
    ("text", "terms", "bound", "strict"),
    [
        ("(<= Y_0 Y_1)", ((2, -1), (3, 1)), 0, False),
        ("(> Y_0 Y_1)", ((2, 1), (3, -1)), 0, True),
        ("(< 3 Y_1)", ((3, 1),), 3, True),
        ("(>= 3 Y_1)", ((3, -1),), -3, False),
        ("(<= (+ Y_0 (* 2 X_0) 1) (- Y_1 X_0))", ((0, -3), (2, -1), (3, 1)), 1, False),
        ("(not (<= Y_0 (* Y_1 0.5)))", ((2, 1), (3, Fraction(-1, 2))), 0, True),
        ("(not (not (>= (/ Y_0 4) 1)))", ((2, Fraction(1, 4)),), 1, False),
        ("(<= (+ Y_0 Y_0 (- Y_1) Y_1) 1)", ((2, -2),), -1, False),
    ],
)
def test_comparisons(text, terms, bound, strict):
    assert one_case(f"(assert {text})").violation == ((Constraint(terms, Fraction(bound), strict),),)


def test_bounds_are_intersected_wherever_they_stand():
    case = one_case(
        "(assert (<= (* 2 X_0) 1)) (assert (or (and (>= X_0 -0.25) (<= Y_0 0)) (and (>= X_0 -0.25) (<= Y_1 0))))"
    )
    assert (case.lower, case.upper) == ((Fraction(-1, 4), -2), (Fraction(1, 2), 2))
    assert len(case.violation) == 2


def test_alternatives_of_equal_boxes_make_one_case():
    text = """(assert (or (and (<= X_0 0) (>= Y_0 1)) (and (>= X_0 0.5) (>= Y_0 2)) (and (<= 0 (- X_0)) (= Y_1 1))))
              (assert (or (>= Y_1 0) (<= Y_1 -1)))"""
    spec = parse_vnnlib(DECLARED + BOX + text)
    assert [len(case.violation) for case in spec.cases] == [4, 2]


def test_strict_bounds_of_inputs_stay_strict():
    spec = parse_vnnlib(DECLARED + BOX + "(assert (< X_0 1)) (assert (>= Y_0 0))")
    y = [Fraction(0), Fraction(0)]
    assert not spec.satisfied_by([Fraction(1), Fraction(0)], y)
    assert spec.satisfied_by([Fraction(999, 1000), Fraction(0)], y)
    point = "(assert (and (>= X_0 1) (< X_0 3) (> X_1 -3) (>= Y_0 0)))"
    assert parse_vnnlib(DECLARED + BOX + point).satisfied_by([Fraction(1), Fraction(0)], y)


def test_alternatives_that_no_input_meets_are_left_out():
    (case,) = parse_vnnlib(
        DECLARED + BOX + "(assert (or (and (>= X_0 3) (<= Y_0 0)) (and (< X_0 -1) (<= Y_0 0)) (<= Y_0 7)))"
    ).cases
    assert case.violation == ((Constraint(((2, Fraction(-1)),), Fraction(-7)),),)


def test_other_commands_and_declarations():
    text = "(set-logic QF_LRA) ; (assert\n" + DECLARED.replace("declare-const Y_1", "declare-fun Y_1 ()") + BOX
    assert parse_vnnlib(text + "(assert (>= Y_1 0))\n(check-sat)\n(exit)").outputs == 2


VARIABLES = ("X_0", "X_1", "Y_0", "Y_1")
decimals = st.decimals(-3, 3, places=2).map(lambda d: f"{d:f}")
numbers = (
    decimals | st.integers(-3, 3).map(str) | decimals.map(lambda d: f"(- {d})") | st.just("(/ 1 3)") | st.just("1e-1")
)
linear_terms = st.recursive(
    st.sampled_from(VARIABLES) | numbers,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), inner, inner).map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(numbers, inner).map("(* {0[0]} {0[1]})".format),
        inner.map("(/ {} 2.5)".format),
        inner.map("(- {})".format),
    ),
    max_leaves=4,
)
comparisons = st.tuples(st.sampled_from([*SIGNS, "distinct"]), linear_terms, linear_terms).map(
    "({0[0]} {0[1]} {0[2]})".format
)
formulas = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: f"({pair[0]} {' '.join(pair[1])})"
        ),
        inner.map("(not {})".format),
    ),
    max_leaves=5,
)
thirds = st.integers(-9, 9).map(lambda n: Fraction(n, 3))


@given(st.lists(formulas, min_size=1, max_size=3), st.lists(st.tuples(*[thirds] * 4), min_size=5, max_size=5))
def test_every_text_means_what_it_says(parts, points):
    text = DECLARED + BOX + "".join(f"(assert {part})\n" for part in parts) + "(assert (or (>= Y_0 -1) (<= Y_1 0.5)))"
    try:
        spec = parse_vnnlib(text)
    except PropertyError as error:
        assert "constraints on outputs" in str(error)
        return
    for point in points:
        assert spec.satisfied_by(point[:2], point[2:]) == text_holds(text, point[:2], point[2:])


@pytest.mark.parametrize("prop", PROPERTIES)
@pytest.mark.parametrize("region", ["box", "L1 ball", "Linf shell"])
def test_what_was_written_is_read_as_the_query(region, prop):
    answers = set()
    for seed in range(3):
        query = small_query(region, prop, seed)
        form = portable_form(query)
        spec = parse_vnnlib(to_vnnlib1(form, query.text))
        assert parse_vnnlib(to_vnnlib2(form, query.text)) == spec
        assert (spec.inputs, spec.outputs) == (3, form.graph.output_size)
        for point in map(exact, points_about(query.region, np.random.default_rng(seed), 40)):
            outputs = evaluate_exact(query.graph, point)[query.graph.output]
            want = query.region.contains(point) and query.violated_by(outputs)
            assert spec.satisfied_by(point, evaluate_exact(form.graph, point)[form.graph.output]) == want
            answers.add(want)
    assert answers == {True, False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= Y_0 1)", r"'\)' for the '\(' at line 5, column 1; got the end"),
        ("(assert (<= Y_0 1)))", "the end at line 5, column 20; got '\\)'"),
        ("  x", "a command .* at line 5, column 3; got 'x'"),
        ("(push 1)", "declare-const or assert at line 5, column 1; got 'push'"),
        ("(assert)", "one formula after assert at line 5, column 1; got 0"),
        ("(assert Y_0)", "a comparison, and, or, not at line 5, column 9; got 'Y_0'"),
        ("(assert (=> (<= Y_0 1) (<= Y_1 1)))", "line 5, column 9; got '=>'"),
        ("(assert (forall ((z Real)) (<= Y_0 z)))", "line 5, column 9; got 'forall'"),
        ("(assert (and))", "1 or more arguments of 'and' at line 5, column 9; got 0"),
        ("(assert (not (<= Y_0 1) (<= Y_0 2)))", "1 arguments of 'not' .*; got 2"),
        ("(assert (<= Y_0))", "2 or more arguments of '<=' .*; got 1"),
        ("(assert (<= Y_0 ()))", r"a number, a constant or \+ - \* / at line 5, column 17; got ''"),
        ("(assert (<= (^ Y_0 2) 1))", "line 5, column 13; got '\\^'"),
        ("(assert (<= Y_0\n   Y_2))", "a number or a declared constant at line 6, column 4; got 'Y_2'"),
        ("(assert (<= Y_0 1.2.3))", "column 17; got '1.2.3'"),
        ("(assert (<= (* Y_0 Y_1) 1))", "linear terms at line 5, column 13; got a product"),
        ("(assert (<= (/ Y_0 X_0) 1))", "divisors .* at line 5, column 13; got one with a variable"),
        ("(assert (<= (/ Y_0 (- 1 1)) 1))", "divisors .*; got zero"),
        ("(assert (<= Y_0 1e999999))", "at most 1000 digits at line 5, column 17"),
        ("(assert (<= Y_0 (* 1e999 1e999)))", "at most 1000 digits"),
        ('(assert (<= Y_0 "1))', "line 5, column 17; got '\"'"),
        ("(declare-const Y_1 Real)", "Y_1 to be declared once; got it again at line 5, column 16"),
        ("(declare-const Y_2 Int)", "the sort Real for Y_2 at line 5, column 16; got Int"),
        ("(declare-const Y_3 Real)", "got none for Y_2"),
        ("(declare-const hidden Real)", "X_i or Y_i to be declared at line 5, column 16; got 'hidden'"),
        ("(declare-const)", "X_i or Y_i to be declared at line 5, column 1"),
        ("(assert (<= X_0 0.5))", "constraints on outputs in every alternative; got one on inputs alone"),
        ("(assert (or (<= Y_0 1) (<= X_0 0)))", "constraints on outputs in every alternative"),
        ("(assert " + "(and " * 101, "at most 100 open parentheses at line 5"),
        ("(assert " + "(and " + "(or (<= Y_0 1) (>= Y_1 1)) " * 13 + "))", "at most 4096 cases"),
    ],
)  # fmt: skip
def test_other_texts_are_refused(text, message):
    with pytest.raises(PropertyError, match=message):
        parse_vnnlib(DECLARED + BOX + text)


@pytest.mark.parametrize("text", ["", " \n; nothing\n", DECLARED])
def test_texts_without_assertions_are_refused(text):
    with pytest.raises(PropertyError, match="a text without assertions"):
        parse_vnnlib(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(assert (>= X_0 2)) (assert (<= Y_0 1))", "X_0 >= 2 and X_0 <= 1 have no input in common"),
        ("(assert (< X_1 -2)) (assert (<= Y_0 1))", "X_1 >= -2 and X_1 <= -2 have no input in common"),
        ("(assert (or (and (>= X_0 2) (<= Y_0 1)) (and (>= X_1 3) (<= Y_0 1))))", "X_1 >= 3 and X_1 <= 2 have no"),
        ("(assert (and (<= Y_0 1) (<= 2 1)))", "it is never true"),
    ],
)
def test_what_contradicts_itself_is_met_by_nothing(text, reason):
    spec = parse_vnnlib(DECLARED + BOX + text, "p")
    assert [case.violation for case in spec.cases] == [()]
    assert reason in spec.text
    assert not spec.satisfied_by([Fraction(0)] * 2, [Fraction(0)] * 2)


def test_inputs_without_bounds_are_named_where_bounds_are_needed():
    low = parse_vnnlib(DECLARED + "(assert (<= -1 X_0 1)) (assert (<= X_1 1)) (assert (<= Y_0 0))")
    high = parse_vnnlib(DECLARED + "(assert (<= -1 X_0)) (assert (<= 0 X_1 1)) (assert (<= Y_0 0))")
    with pytest.raises(PropertyError, match="a lower bound on every input; got none on X_1"):
        low.check_bounded()
    with pytest.raises(PropertyError, match="expected an upper bound on every input; got none on X_0"):
        high.check_bounded()
    assert low.satisfied_by([Fraction(1), Fraction(-(10**9))], [Fraction(0)] * 2)
    assert not low.satisfied_by([Fraction(2), Fraction(0)], [Fraction(0)] * 2)


@pytest.mark.parametrize("change", [
    lambda text: "\ufeff" + text,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("X_0", "|X_0|").replace("Y_1", "|Y_1|"),
    lambda text: "; nothing (\n" + text.replace("\n", " ; a comment |\n"),
], ids=["byte-order mark", "CRLF", "quoted symbols", "comments"])  # fmt: skip
def test_ways_to_write_a_file_mean_the_same(change, tmp_path):
    text = DECLARED + BOX + "(assert (or (<= Y_0 1) (>= Y_1 X_0)))\n"
    assert parse_vnnlib(change(text)) == parse_vnnlib(text)
    path = tmp_path / "p.vnnlib"
    path.write_bytes(change(text).encode())
    assert read_vnnlib(path) == parse_vnnlib(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (>= |Y_0 1))", r"at line 5, column 13; got '\|'"),
        ("(assert (>= |(| 1))", r"a declared constant at line 5, column 13; got '\|\(\|'"),
        ("(assert (distinct Y_0 1 2 3 4 5))", "at most 5 terms of distinct at line 5, column 9; got 6"),
        ("(assert (>= Y_0 " + "9" * 20000 + "))", "words of at most 10000 characters at line 5, column 17; got 20000"),
        ("(assert (<= " + "Y_0 " * 1001 + "))", "at most 1000 terms of <= at line 5, column 9; got 1001"),
        (
            "(assert (>= Y_0 (+ " + "1e900 " * 6000 + ")))",
            "at most 16777216 bits together at line 5, column [0-9]+; got more",
        ),
        ("()" * 250_001, "at most 500000 words and parentheses; got 5000[0-9]+ parentheses"),
        ("a " * 500_001, "at most 500000 words and parentheses; got more"),
    ],
    ids=["bar", "parenthesis in bars", "distinct", "long word", "compared", "long numbers", "parentheses", "words"],
)
def test_texts_beyond_their_limits_are_refused(text, message):
    with pytest.raises(PropertyError, match=message):
        parse_vnnlib(DECLARED + BOX + text)


def test_a_product_multiplies_its_terms_once(monkeypatch):
    checked = []
    monkeypatch.setattr(reading, "has_digits", lambda value, most: not checked.append(value))
    names = [f"Y_{i}" for i in range(200)]
    declared = "(declare-const X_0 Real)" + "".join(f"(declare-const {name} Real)" for name in names)
    factors = " ".join(["2 0.5"] * 50)
    spec = parse_vnnlib(f"{declared} (assert (>= (* (+ {' '.join(names)}) {factors}) 1))")
    terms = tuple((i, Fraction(1)) for i in range(1, 201))
    assert spec.cases[0].violation == ((Constraint(terms, Fraction(1)),),)
    assert len(checked) < 10 * (len(names) + 100)


def test_a_factor_of_zero_leaves_nothing_to_multiply():
    case = one_case("(assert (>= (+ (* Y_0 0 X_0) Y_1) 1))")
    assert case.violation == ((Constraint(((3, Fraction(1)),), Fraction(1)),),)
    with pytest.raises(PropertyError, match="got a product of variables"):
        one_case("(assert (>= (* Y_0 X_0 0) 1))")


def test_terms_within_terms_take_from_the_same_room():
    """Each level of a nested term is computed anew, so it is counted anew."""
    names = " ".join(f"X_{i}" for i in range(6000))
    declared = "(declare-const Y_0 Real)" + "".join(f"(declare-const X_{i} Real)" for i in range(6000))
    deep = "(- " * 95 + f"(+ {names})" + ")" * 95
    with pytest.raises(PropertyError, match="16777216 bits together"):
        parse_vnnlib(f"{declared} (assert (<= Y_0 {deep}))")
    assert parse_vnnlib(f"{declared} (assert (<= Y_0 (+ {names})))").inputs == 6000


@pytest.mark.parametrize("depth", [1, 2, 93])
def test_negations_reach_the_comparisons_once(depth, monkeypatch):
    """However deep they are nested, each comparison is negated once or never."""
    negated = []
    original = Constraint.negated
    monkeypatch.setattr(Constraint, "negated", lambda self: negated.append(self) or original(self))
    inner = "(and (<= Y_0 1) (<= Y_1 2))"
    spec = parse_vnnlib(DECLARED + BOX + "(assert " + "(not " * depth + inner + ")" * depth + ")")
    assert len(negated) == (2 if depth % 2 else 0)
    plain = "(or (> Y_0 1) (> Y_1 2))" if depth % 2 else inner
    assert spec == parse_vnnlib(DECLARED + BOX + f"(assert {plain})")


def test_files(tmp_path):
    path = tmp_path / "p.vnnlib"
    with pytest.raises(StorageError, match=r"expected a file at .*; got none"):
        read_vnnlib(path)
    path.write_bytes(b"\xff\xfe(assert)")
    with pytest.raises(StorageError, match="which is text; got other bytes"):
        read_vnnlib(path)
    path.write_text(DECLARED + BOX + "(assert (>= Y_0 0))")
    assert read_vnnlib(path).text == "p.vnnlib"


TWO = """(vnnlib-version <2.0>)
(declare-network N (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))
(declare-network M ({} N) (declare-input U float32 [1,2]) (declare-output V float32 [1,2]))
(assert (and (<= X[0,0] 1.0) (>= X[0,0] 0.0) (<= X[0,1] 1.0) (>= X[0,1] 0.0)))
(assert (and (<= U[0,0] 2.0) (>= U[0,0] 0.0) (<= U[0,1] 2.0)))
"""


@pytest.mark.parametrize(("relation", "same"), [("equal-to", 0), ("isomorphic-to", None)])
def test_two_networks(relation, same):
    text = (
        TWO.format(relation) + "(assert (>= U[0,1] -1.0)) (assert (!= (- (+ X[0,1] (* 2.0 V[0,1])) Y[0,0] 0.5) 0.25))"
    )
    spec = parse_vnnlib(text)
    assert spec.networks == (DeclaredNetwork(2, 2), DeclaredNetwork(2, 2, same))
    assert [network.name for network in spec.networks] == ["N", "M"]
    (case,) = spec.cases
    assert (case.lower, case.upper) == ((0, 0, 0, -1), (1, 1, 2, 2))
    below, above = case.violation
    assert above == (Constraint(((1, Fraction(1)), (4, Fraction(-1)), (7, Fraction(2))), Fraction(3, 4), True),)
    assert below == (Constraint(((1, Fraction(-1)), (4, Fraction(1)), (7, Fraction(-2))), Fraction(-3, 4), True),)


Y_AT_MOST_1 = "(assert (<= Y[0] 1.0))"


def single(declaration="(declare-input X Real [2,2])", rest=""):
    bounds = "".join(f"(assert (>= X[{i},{j}] (- 1.0))) (assert (<= X[{i},{j}] 1.0))" for i in (0, 1) for j in (0, 1))
    return f"(vnnlib-version <2.0>)\n(declare-network N {declaration} (declare-output Y Real [1]))\n{bounds}\n{rest}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO.format("equal-to") + "(assert (<= Y[0,0] Z[0,0]))", "got undeclared variable 'Z' in line 6"),
        (TWO.format("equal-to") + "(assert (<= (* Y[0,0] V[0,0]) 1.0))", "linear terms at line 6; got a product"),
        (TWO.format("equal-to").replace("N)", "K)"), "got .*'K' in line 3"),
        (single(rest="(assert (<= Y[0] 1e-5))"), "got a syntax error at line 4, column 18"),
        (single(rest="(assert (not (<= Y[0] 1.0)))"), "got a syntax error at line 4"),
        (single(rest="(assert (<= X[0,2] 1.0))"), "got index out of bounds .*'X\\[0,2\\]' in line 4"),
        (single(rest="(assert (<= Y[0,99999999999999999999] 1.0))"), "at most 9 digits at line 4; got 9999"),
        (single("(declare-input \u00e9 Real [2,2])", Y_AT_MOST_1), "expected VNN-LIB 2.0; got"),
        (single("(declare-input X Real [99999,99999])", Y_AT_MOST_1), "X to have from 1 to 1000000 entries; got the shape"),
        (single(rest="(assert (<= Y[0] 1.0)"), r"'\)' for the '\(' at line 4, column 1"),
        (single("(declare-input X int8 [2,2])", Y_AT_MOST_1), "got type mismatch"),
        (single("(declare-input X number [2,2])", Y_AT_MOST_1), "float32, float64; got number"),
        (single("(declare-input X Real [2,2]) (declare-input Z Real [1])", Y_AT_MOST_1), "got 2 inputs and 1 outputs"),
        (single("(declare-input X Real [2,2]) (declare-hidden H Real [3] \"h\")", Y_AT_MOST_1), "hidden nodes of network 'N'"),
        (single(rest="(assert (<= X[0,1] 1.0))"), "constraints on outputs"),
        (single(rest="(assert " + "(and " * 200), "at most 100 open parentheses"),
        (single(rest=Y_AT_MOST_1.replace("1.0", "9" * 400 + ".0")), "got a number beyond its range"),
        (single(rest=Y_AT_MOST_1).replace("<2.0>", "<2.1>"), "expected the version <2.0> at line 1, column 1; got '<2.1>'"),
        (single(rest=Y_AT_MOST_1).replace("2.0>", "9" * 400 + ".0>"), "expected the version <2.0> .* got '<9999.*…'"),
        (single(rest=Y_AT_MOST_1).replace("<2.0>", ""), "expected the version <2.0> at line 1, column 1; got ''"),
    ],
)  # fmt: skip
def test_other_texts_of_version_two_are_refused(text, message):
    with pytest.raises(PropertyError, match=message):
        parse_vnnlib(text)


@pytest.mark.parametrize("kind", ["Real", "real", "float32", "float64"])
def test_constants_may_stand_anywhere(kind):
    rest = "(assert (<= (+ (* 2.0 Y[0]) (- 1.5)) X[0,1])) (assert (<= 0.25 Y[0]))"
    spec = parse_vnnlib(single(rest=rest).replace("Real", kind))
    expected = (
        Constraint(((1, Fraction(1)), (4, Fraction(-2))), Fraction(-3, 2)),
        Constraint(((4, 1),), Fraction(1, 4)),
    )
    assert spec.cases[0].violation == (expected,)


def test_tensors_are_counted_row_by_row():
    (case,) = parse_vnnlib(single(rest="(assert (<= X[1,0] 0.5)) (assert (>= (+ Y[0] X[0,1]) 0.0))")).cases
    assert case.upper == (1, 1, Fraction(1, 2), 1)
    assert case.violation[0][0].coefficients == ((1, 1), (4, 1))


def test_without_the_package_version_two_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "vnnlib", None)
    monkeypatch.delitem(sys.modules, "exporters.vnnlib.reader_v2", raising=False)
    with pytest.raises(PropertyError, match=r"the package 'vnnlib' to read VNN-LIB 2\.0; it is not installed"):
        parse_vnnlib(single(rest="(assert (<= Y[0] 1.0))"))
    assert parse_vnnlib(DECLARED + BOX + "(assert (<= Y_0 0))").inputs == 2


@pytest.mark.skipif(not ACASXU.is_dir(), reason="needs the ACAS Xu properties under VERIFLOW_DATA")
@pytest.mark.parametrize("number", range(1, 11))
def test_both_versions_of_the_acas_xu_properties_are_the_same(number):
    path = ACASXU / f"prop_{number}.vnnlib"
    spec = read_vnnlib(path)
    assert read_vnnlib(ACASXU / "v2" / f"prop_{number}.v2.vnnlib") == spec
    rng = np.random.default_rng(number)
    queries = specification_queries([random_network(rng, (5, 4, 5))], spec)
    for query, case in zip(queries, spec.cases, strict=True):
        for write in (to_vnnlib1, to_vnnlib2):
            assert parse_vnnlib(write(portable_form(query))).cases == (case,)
    answers = set()
    for case in spec.cases:
        for _ in range(100):
            x = [
                low + (high - low) * Fraction(int(k), 64)
                for low, high, k in zip(case.lower, case.upper, rng.integers(-3, 68, 5), strict=True)
            ]
            y = [Fraction(int(k), 16) for k in rng.integers(-64, 128, 5)]
            answers.add(spec.satisfied_by(x, y))
            assert spec.satisfied_by(x, y) == text_holds(path.read_text(), x, y)
    assert True in answers or number in (2, 3, 4)
