"""Constraints moved before a sigmoid, softmax or argmax hold of the logits where they held of the outputs."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp, mpf

from exporters import parse_vnnlib
from veriflow.errors import PropertyError
from veriflow.queries.constraints import Constraint
from veriflow.queries.logits import specification_on_logits, violation_on_logits

OUTPUTS = {
    "sigmoid": lambda logits: [1 / (1 + mp.exp(-v)) for v in logits],
    "softmax": lambda logits: [mp.exp(v) / sum(map(mp.exp, logits)) for v in logits],
    "log-softmax": lambda logits: [v - mp.log(sum(map(mp.exp, logits))) for v in logits],
}


def constraint(terms, bound, strict=False):
    return Constraint(tuple((i, Fraction(c)) for i, c in terms), Fraction(bound), strict)


def met(row, values):
    for part in row:
        slack = sum(mpf(c.numerator) / c.denominator * values[i] for i, c in part.coefficients)
        slack -= mpf(part.bound.numerator) / part.bound.denominator
        if not (slack > 0 if part.strict else slack >= 0):
            return False
    return True


numbers = st.fractions(-1, 2, max_denominator=20)
logits = st.lists(st.floats(-8, 8), min_size=2, max_size=2)
factors = st.sampled_from([1, -1, 3, Fraction(-1, 2)])


@given(st.sampled_from(["sigmoid", "softmax"]), factors, numbers, st.booleans(), logits)
def test_thresholds(ending, factor, threshold, strict, values):
    row = (constraint([(1, factor)], factor * threshold, strict),)
    with mp.workdps(40):
        outputs = OUTPUTS[ending]([mpf(v) for v in values])
        assume(abs(outputs[1] - mpf(threshold.numerator) / threshold.denominator) > 1e-13)
        moved = violation_on_logits((row,), ending, range(2), 2)
        assert any(met(part, [mpf(v) for v in values]) for part in moved) == met(row, outputs)


@given(st.fractions(Fraction(1, 10**12), 1 - Fraction(1, 10**12)), st.sampled_from([1, -1]))
def test_rounded_thresholds_lose_no_violation_and_little(threshold, sign):
    with mp.workdps(60):
        t = mpf(threshold.numerator) / threshold.denominator
        logit = sign * mp.log(t / (1 - t))
        (((moved,),),) = (violation_on_logits(((constraint([(0, sign)], sign * threshold),),), "sigmoid", range(1), 1),)
        bound = mpf(moved.bound.numerator) / moved.bound.denominator
        assert logit - 1e-14 * (1 + abs(logit)) < bound <= logit
        assert moved.coefficients == ((0, sign),)


def test_one_half_is_exact():
    for ending, terms in (("sigmoid", ((0, 1),)), ("softmax", ((0, 1), (1, -1)))):
        row = (constraint([(0, 1)], Fraction(1, 2), strict=True),)
        assert violation_on_logits((row,), ending, range(2), 2) == ((Constraint(terms, Fraction(0), True),),)


@given(st.sampled_from(sorted(OUTPUTS)), factors, st.booleans(), logits)
def test_comparisons_of_outputs(ending, factor, strict, values):
    assume(abs(values[0] - values[1]) > 1e-6)
    row = (constraint([(0, factor), (1, -factor)], 0, strict),)
    (moved,) = violation_on_logits((row,), ending, range(2), 2)
    with mp.workdps(40):
        assert met(moved, [mpf(v) for v in values]) == met(row, OUTPUTS[ending]([mpf(v) for v in values]))


@given(numbers, logits)
def test_forms_of_a_log_softmax_whose_coefficients_cancel(bound, values):
    row = (constraint([(0, 2), (1, -2)], bound),)
    assert violation_on_logits((row,), "log-softmax", range(2), 2) == (row,)


@given(
    st.lists(st.tuples(st.sampled_from([1, -1, 2]), st.integers(-3, 6), st.booleans()), min_size=1, max_size=2),
    st.lists(st.integers(-2, 2), min_size=4, max_size=4),
)
def test_argmax(parts, values):
    rows = ((*(constraint([(2, c)], b, strict) for c, b, strict in parts), constraint([(0, 1), (3, 1)], -1)),)
    moved = violation_on_logits(rows, "argmax", range(2, 3), 4)
    winner = values.index(max(values))
    before, after = [0, 0, winner, -1], [0, 0, *values, -1]
    assert any(all(part.holds(list(map(Fraction, after))) for part in row) for row in moved) == all(
        part.holds(list(map(Fraction, before))) for part in rows[0]
    )


@pytest.mark.parametrize(
    ("ending", "count", "terms", "bound"),
    [
        ("sigmoid", 2, [(0, 1), (1, 1)], 1),
        ("sigmoid", 2, [(0, 1), (1, -1)], Fraction(1, 4)),
        ("sigmoid", 2, [(0, 2), (1, -1)], 0),
        ("softmax", 3, [(0, 1)], Fraction(1, 4)),
        ("log-softmax", 3, [(0, 1)], Fraction(1, 4)),
        ("log-softmax", 3, [(0, 1), (1, -2)], 0),
        ("sigmoid", 2, [(0, 1), (5, 1)], 0),
        ("sigmoid", 1, [(0, 1)], Fraction(1, 10**400)),
    ],
)
def test_other_constraints_are_refused(ending, count, terms, bound):
    with pytest.raises(PropertyError, match="expected"):
        violation_on_logits(((constraint(terms, bound),),), ending, range(count), count)


TEXT = """(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= 0 X_0 1)) (assert (>= (+ X_0 0) 0))
(assert (or (and (<= X_0 0.5) (> Y_0 {0})) (and (< X_0 0.25) (<= Y_0 {1}))))"""


def test_specifications():
    spec = parse_vnnlib(TEXT.format(0.9, 0.5), "p")
    moved = specification_on_logits(spec, [("sigmoid", 1)])
    assert moved.text == "p (thresholds on logits rounded in the 15th digit, so that more inputs count as violations)"
    assert specification_on_logits(spec, [None]) == spec
    for x in (Fraction(1, 8), Fraction(1, 2)):
        for logit in (-1, 0, 2, 3):
            y = Fraction(1 / (1 + math.exp(-logit)))
            assert moved.satisfied_by([x], [Fraction(logit)]) == spec.satisfied_by([x], [y])
    classes = specification_on_logits(parse_vnnlib(TEXT.format(1, 0)), [("argmax", 3)])
    assert classes.outputs == 3
    assert classes.satisfied_by([Fraction(1, 2)], [Fraction(0), Fraction(0), Fraction(1)])
    assert not classes.satisfied_by([Fraction(1, 2)], [Fraction(0), Fraction(1), Fraction(1)])


def test_specifications_that_do_not_fit_are_refused():
    spec = parse_vnnlib(TEXT.format(0.9, 0.5))
    with pytest.raises(PropertyError, match="1 endings; got 2"):
        specification_on_logits(spec, [None, None])
    with pytest.raises(PropertyError, match="2 outputs, as the network's softmax gives; got 1 declared"):
        specification_on_logits(spec, [("softmax", 2)])
    met = specification_on_logits(parse_vnnlib(TEXT.format(1, 0)), [("sigmoid", 1)])
    assert [case.violation for case in met.cases] == [()]
