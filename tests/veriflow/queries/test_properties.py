"""Formulas mean what they say, as objects, in disjunctive normal form and as text."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shares import by_day

from veriflow.errors import PropertyError
from veriflow.queries.constraints import Constraint, Disjunction, Formula, Outputs, y
from veriflow.queries.properties import (
    Property,
    classified_as,
    formula_property,
    never_confidently_wrong,
    output_between,
)
from veriflow.queries.rationals import exact
from veriflow.queries.text.formulas import DEEPEST_NESTING, LONGEST_TEXT, MOST_DIGITS, parse_property
from veriflow.testing.properties import some_disjunct_holds

OUTPUTS = 3
Truth = Callable[[list[Fraction]], bool]

halves = st.integers(-4, 4).map(lambda n: Fraction(n, 2))  # few values, so that ties are common
points = st.lists(halves, min_size=OUTPUTS, max_size=OUTPUTS)
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[Formula, Truth]:
    weights, bound = draw(st.lists(halves, min_size=OUTPUTS, max_size=OUTPUTS)), draw(halves)
    compare = COMPARISONS[draw(st.sampled_from(sorted(COMPARISONS)))]
    expression = sum((w * y[i] for i, w in enumerate(weights)), 0 * y[0])
    return compare(expression, bound), lambda point: compare(sum(map(operator.mul, weights, point)), bound)


def _both(pair: tuple[tuple[Formula, Truth], tuple[Formula, Truth]]) -> tuple[Formula, Truth]:
    (left, left_truth), (right, right_truth) = pair
    return left & right, lambda point: left_truth(point) and right_truth(point)


def _either(pair: tuple[tuple[Formula, Truth], tuple[Formula, Truth]]) -> tuple[Formula, Truth]:
    (left, left_truth), (right, right_truth) = pair
    return left | right, lambda point: left_truth(point) or right_truth(point)


def _not(one: tuple[Formula, Truth]) -> tuple[Formula, Truth]:
    formula, truth = one
    return ~formula, lambda point: not truth(point)


formulas = st.recursive(
    comparisons(),
    lambda parts: st.tuples(parts, parts).map(_both) | st.tuples(parts, parts).map(_either) | parts.map(_not),
    max_leaves=6,
)


@given(formulas, points)
def test_disjuncts_hold_exactly_where_the_formula_does(one: tuple[Formula, Truth], point: list[Fraction]) -> None:
    formula, truth = one
    assert some_disjunct_holds(formula.disjuncts(), point) == truth(point)


@given(formulas, points)
def test_violation_holds_exactly_where_the_formula_does_not(one: tuple[Formula, Truth], point: list[Fraction]) -> None:
    formula, truth = one
    try:
        rows = formula_property(formula).violation(OUTPUTS)
    except PropertyError as error:
        assert "always holds" in str(error)
        rows = ()
    assert some_disjunct_holds(rows, point) == (not truth(point))


@given(formulas)
def test_a_formula_printed_and_read_has_the_same_disjuncts(one: tuple[Formula, Truth]) -> None:
    formula, _ = one
    assert parse_property(str(formula)).formula(OUTPUTS).disjuncts() == formula.disjuncts()


@given(points, st.integers(0, OUTPUTS - 1), halves)
def test_classified_as_is_the_largest_output_by_more_than_the_margin(
    point: list[Fraction], c: int, margin: Fraction
) -> None:
    rows = classified_as(c, float(margin)).violation(OUTPUTS)
    wins = all(point[c] - point[j] > margin for j in range(OUTPUTS) if j != c)
    assert some_disjunct_holds(rows, point) == (not wins)


@given(st.floats(-8, 8), st.floats(0.5, 0.999))
def test_never_confidently_wrong_bounds_the_softmax_of_two_classes(gap: float, probability: float) -> None:
    wrong = 1 / (1 + math.exp(-gap))
    violated = some_disjunct_holds(never_confidently_wrong(1, probability).violation(2), [Fraction(gap), Fraction(0)])
    assert violated == (wrong >= probability) or math.isclose(wrong, probability, rel_tol=1e-12)


@given(points, halves, halves)
def test_output_between_includes_its_ends(point: list[Fraction], one: Fraction, other: Fraction) -> None:
    low, high = sorted([one, other])
    rows = output_between(1, float(low), float(high)).violation(OUTPUTS)
    assert some_disjunct_holds(rows, point) == (not low <= point[1] <= high)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: y[-1], "an output number from 0"),
        (lambda: y[True], "an output number from 0"),
        (lambda: exact(math.nan), "a finite number"),
        (lambda: y[0] / 0, "a divisor other than zero"),
        (lambda: bool(y[0] >= 1), "used as true or false"),
        (lambda: exact("one"), "expected a number; got 'one'"),  # type: ignore[arg-type]
        (lambda: never_confidently_wrong(0, 1.0), "from 0.5 to below 1; got 1.0"),
        (lambda: output_between(0, 2, 1), "expected low <= high; got 2 and 1"),
        (lambda: classified_as(3).violation(3), "from y[0] to y[2]; got y[3]"),
        (lambda: formula_property(y[7] >= 1).violation(3), "from y[0] to y[2]; got y[7]"),
        (lambda: classified_as(0).violation(1), "always holds"),
        (lambda: formula_property(0 * y[0] >= -1).violation(1), "always holds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(PropertyError) as caught:
        make()
    assert expected in str(caught.value)


def test_too_many_cases_are_refused() -> None:
    formula = y[0] >= 0
    for i in range(13):
        formula = formula & ((y[i] >= 1) | (y[i] <= -1))
    with pytest.raises(PropertyError, match="at most 4096 cases"):
        formula.disjuncts()


def test_outputs_are_counted_and_named() -> None:
    assert str(Outputs()[3] - 2 * y[1] >= 0.5) == "- 2*y[1] + y[3] >= 0.5"


# -- text ---------------------------------------------------------------------------------------------------------


def rows_of(text: str, outputs: int = OUTPUTS) -> Disjunction:
    return parse_property(text).formula(outputs).disjuncts()


A, B, C = y[0] >= 1, y[1] < 2, y[2] > 3


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("y[0] >= 1", A),
        ("Y_0 >= 1 and y_1 < 2", A & B),
        ("y [ 0 ]>=1|y[1]<2&y[2]>3", A | (B & C)),
        ("(y[0]>=1 or y[1]<2) and y[2]>3", (A | B) & C),
        ("not y[0] >= 1 & y[1] < 2", ~A & B),
        ("~(y[0] >= 1 & y[1] < 2)", ~A | ~B),
        ("!!~not y[0] >= 1", A),
        ("0 <= y[0] <= 1", (y[0] >= 0) & (y[0] <= 1)),
        ("3 > y[0] > y[1] >= .5", (y[0] < 3) & (y[0] - y[1] > 0) & (y[1] >= 0.5)),
        ("y[0] == 2", (y[0] >= 2) & (y[0] <= 2)),
        ("y[0] - y[1] - y[2] > 0", y[0] - y[1] - y[2] > 0),
        ("y[0] - (y[1] - y[2]) > 0", y[0] - y[1] + y[2] > 0),
        ("2*y[0]/4 - -y[1]*3 >= 6/3/2", y[0] / 2 + y[1] * 3 >= 1),
        ("-2*(y[0] + 1)*3 >= +0", y[0] * -6 - 6 >= 0),
        ("8/(2*2)*y[0] >= 1", 2 * y[0] >= 1),
        ("y[0] + 1 >= y[0] + y[1]", y[1] <= 1),
        ("y[0] >= 0.1", y[0] >= Fraction(1, 10)),
        ("y[0] >= 1e-3 + 1.5E+2", y[0] >= Fraction(150001, 1000)),
        ("y[0] >= 1/3", y[0] >= Fraction(1, 3)),
        ("\ty[0]\n>= 1 ", A),
        ("classified_as(1)", classified_as(1).formula(OUTPUTS)),
        ("classified_as(1, 1/2) | y[2] > 3", classified_as(1, 0.5).formula(OUTPUTS) | C),
        ("not never_confidently_wrong(1, 0.9)", ~never_confidently_wrong(1, 0.9).formula(OUTPUTS)),
        ("output_between(0, -1, 2.5)", output_between(0, -1, 2.5).formula(OUTPUTS)),
    ],
)
def test_grammar(text: str, formula: Formula) -> None:
    assert rows_of(text) == formula.disjuncts()


@st.composite
def sums(draw: st.DrawFn, depth: int = 3) -> tuple[str, Callable[[list[Fraction]], Fraction]]:
    """A linear expression with random parentheses, and its value at a point by another route: Fractions alone."""
    if not depth or draw(st.booleans()):
        if draw(st.booleans()):
            i = draw(st.integers(0, OUTPUTS - 1))
            return f"y[{i}]", lambda point: point[i]
        number = draw(st.decimals(-9, 9, places=2))
        return f"{number}", lambda point: Fraction(number)
    left, left_value = draw(sums(depth - 1))
    if draw(st.booleans()):
        right, right_value = draw(sums(depth - 1))
        plus = draw(st.booleans())
        text = f"{left} + {right}" if plus else f"{left} - ({right})"
        return text, lambda point: left_value(point) + (right_value(point) if plus else -right_value(point))
    number = draw(st.decimals(1, 9, places=1))
    shape = draw(
        st.sampled_from(["({left}) * {number}", "{number}*({left})", "({left})/{number}", "-({left})/-{number}"])
    )
    scale = 1 / Fraction(number) if "/" in shape else Fraction(number)
    return shape.format(left=left, number=number), lambda point: left_value(point) * scale


@given(sums(), sums(), st.sampled_from(sorted(COMPARISONS)), points)
def test_arithmetic_is_exact(left: tuple, right: tuple, sign: str, point: list[Fraction]) -> None:
    truth = COMPARISONS[sign](left[1](point), right[1](point))
    assert some_disjunct_holds(rows_of(f"{left[0]} {sign} {right[0]}"), point) == truth


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a number, an output such as y[0], or '(' at column 1 of the property; got the end"),
        ("y[0]", "expected a comparison (>=, <=, >, < or ==) at column 5 of the property; got the end"),
        ("y[0] 1", "expected a comparison (>=, <=, >, < or ==) at column 6 of the property; got '1'"),
        ("y[0] = 1", "expected a comparison (>=, <=, >, < or ==) at column 6 of the property; got '='"),
        ("y[0] != 1", "at column 6 of the property; got '!'"),
        ("y[0] >= 1 & 3", "expected a comparison (>=, <=, >, < or ==) at column 14 of the property; got the end"),
        ("y[0] | y[1] > 1", "expected a comparison (>=, <=, >, < or ==) at column 6 of the property; got '|'"),
        ("y[0] >= 1 y[1] > 2", "expected '&', '|' or the end at column 11 of the property; got 'y[1]'"),
        ("y[0] >= 1)", "expected '&', '|' or the end at column 10 of the property; got ')'"),
        ("(y[0] >= 1", "expected ')' at column 11 of the property; got the end"),
        ("y[-1] > 0", "an output such as y[0]"),
        ("y[1.0] > 0", "an output such as y[0]"),
        ("x[0] > 0", "at column 1 of the property; got 'x'"),
        ("y[0]*y[1] > 0", "expected a number, as outputs enter linearly, at column 6 of the property; got 'y[1]'"),
        ("1/y[0] > 0", "expected a number, as outputs enter linearly, at column 3 of the property; got 'y[0]'"),
        ("y[0]/(1 - 1) > 0", "expected a divisor other than zero at column 6 of the property; got '('"),
        ("(y[0] > 1) + 2 > 3", "expected a linear expression at column 1 of the property; got a comparison"),
        ("-(y[0] > 1) > 3", "expected a linear expression at column 2 of the property; got a comparison"),
        ("y[0] > (y[1] > 1)", "expected a linear expression at column 8 of the property; got a comparison"),
        ("softmax(1) > 3", "one of classified_as, never_confidently_wrong, output_between, confident, robust, "),
        ("classified_as", "expected '(' at column 14 of the property; got the end"),
        ("classified_as(1, 2, 3)", "expected classified_as(class) or classified_as(class, margin) at column 1"),
        ("never_confidently_wrong(1)", "expected never_confidently_wrong(class, probability) at column 1"),
        (
            "output_between(0, 1)",
            "expected output_between(output, low, high) at column 1 of the property; got 2 numbers",
        ),
        (
            "classified_as(0.5)",
            "expected the number of an output, counted from 0, at column 15 of the property; got '0.5'",
        ),
        ("classified_as(y[1])", "expected a number at column 15 of the property; got 'y[1]'"),
        ("never_confidently_wrong(1, 2)", "expected a probability from 0.5 to below 1; got 2.0"),
        ("1e301 > y[0]", "have at most 300 digits at column 1"),
        ("0e999999999999 > y[0]", "have at most 300 digits at column 1"),
        ("1e200 * 1e200 > y[0]", "have at most 300 digits at column 9"),
        ("1/(1e200 + 1) + 1/(1e200 + 3) > y[0]", "have at most 300 digits at column 17"),
        (MOST_DIGITS * "9" + "9 > y[0]", "have at most 300 digits at column 1"),
        ("y[0] > 1; import os", "expected '&', '|' or the end at column 9 of the property; got ';'"),
    ],
)
def test_text_that_is_not_a_property_is_refused_with_its_column(text: str, sentence: str) -> None:
    with pytest.raises(PropertyError) as caught:
        parse_property(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def nested(depth: int) -> str:
    return "!(" * depth + "y[0] > 1" + ")" * depth


def test_nesting_has_a_limit_that_python_can_bear() -> None:
    prop = parse_property(nested(DEEPEST_NESTING))
    assert prop.violation(1) == (~(y[0] > 1)).disjuncts()
    for text in [nested(DEEPEST_NESTING + 1), "(" * LONGEST_TEXT, "classified_as(" * 7000]:
        with pytest.raises(PropertyError, match="at most 40 open parentheses"):
            parse_property(text)


UNITS = ["!", "-", "1*", "1/", "1+", "y[0]+", "y[0]>", "y[0]>1&", " ", "y ", "9", "1/7 + "]


@pytest.mark.parametrize("unit", by_day(UNITS, 5))
def test_the_longest_texts_are_answered(unit: str) -> None:
    text = unit * ((LONGEST_TEXT - 8) // len(unit))
    for end in ["y[0] > 1", ""]:
        try:
            parse_property(text + end).formula(1)
        except PropertyError:
            continue
    with pytest.raises(PropertyError, match=f"at most {LONGEST_TEXT} characters; got {LONGEST_TEXT + 1}"):
        parse_property(" " * (LONGEST_TEXT + 1))


SIGNS = [">=", "<", "==", *"=()+-*/&|!~,[].² \n"]
WORDS = ["y[0]", "Y_1", "y", "1", "0.5", "1e9", "and", "or", "not"]
NAMES = ["classified_as(", "never_confidently_wrong(", "output_between"]
pieces = st.sampled_from([*SIGNS, *WORDS, *NAMES])


@given(st.lists(pieces, max_size=14).map("".join) | st.text(max_size=20))
@example("٣ > y[0]")
@example("y[٣] > 0")
def test_any_text_is_a_property_or_a_property_error(text: str) -> None:
    try:
        prop = parse_property(text)
        prop.violation(2)
    except PropertyError as error:
        assert str(error).startswith("expected ")
    else:
        assert parse_property(prop.text).violation(2) == prop.violation(2)


def test_a_property_keeps_its_text_and_counts_outputs_late() -> None:
    prop = parse_property(" classified_as(1)\n | y[0]  >= 3 ")
    assert prop.text == "classified_as(1) | y[0] >= 3"
    assert isinstance(prop, Property)
    assert [len(prop.formula(n).disjuncts()[0]) for n in (2, 5)] == [1, 4]
    with pytest.raises(PropertyError, match=r"from y\[0\] to y\[0\]; got y\[1\]"):
        prop.violation(1)


def test_constraints_negate_to_their_complement() -> None:
    constraint = Constraint(((0, Fraction(1)),), Fraction(1))
    assert constraint.negated().negated() == constraint
    assert constraint.holds([Fraction(1)])
    assert not constraint.negated().holds([Fraction(1)])
