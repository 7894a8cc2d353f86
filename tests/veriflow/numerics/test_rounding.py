"""Margins for rounding, against the same sums in rationals."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veriflow.numerics.rounding import (
    ADDITION,
    CONSTANTS,
    FEW_OPERATIONS,
    LARGEST,
    ROUNDOFF,
    UNDERFLOW,
    UNDERFLOW_OF_COEFFICIENTS,
    UNDERFLOW_OF_NORMS,
    gamma,
    growth,
    of_transforms,
)
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Relu
from veriflow.regions.ball import Ball
from verify.bab.box_domains import RegionBoxes, box_norms

# magnitudes far apart, so that sums cancel and round at every step; nothing underflows
NUMBERS = st.builds(
    math.ldexp,
    st.integers(-(2**53), 2**53),
    st.integers(-80, 0),
)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30)
SIZES = st.one_of(st.just(0.0), st.floats(1e-150, 1e150))


def exact_dot(pairs):
    return sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))


@given(pairs=PAIRS, data=st.data())
def test_a_sum_of_products_is_within_gamma_in_any_order(pairs, data):
    truth, pairs = exact_dot(pairs), data.draw(st.permutations(pairs))
    size = sum(abs(a) * abs(b) for a, b in pairs)
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    for found in (sum(a * b for a, b in pairs), float(a @ b), float((a * b).sum())):
        margin = gamma(len(pairs)) * size
        assert Fraction(found - margin) <= truth <= Fraction(found + margin)


@given(pairs=PAIRS, divisor=st.integers(3, 999).map(float))
def test_a_rounded_factor_counts_as_one_more_term(pairs, divisor):
    truth = exact_dot(pairs) / Fraction(divisor)
    found, size = (sum(f(a) / divisor * f(b) for a, b in pairs) for f in (float, abs))
    margin = gamma(len(pairs) + 1) * size
    assert Fraction(found - margin) <= truth <= Fraction(found + margin)


def test_gamma_without_its_count_is_too_small_for_long_sums():
    """So that the tests above can fail: 2000 terms that all round the same way."""
    pairs = [(1.0, 1.0)] + [(ROUNDOFF, 0.999)] * 2000
    found, size = sum(a * b for a, b in pairs), sum(abs(a * b) for a, b in pairs)
    assert Fraction(found + gamma(0) * size) < exact_dot(pairs) <= Fraction(found + gamma(len(pairs)) * size)


@given(a=NUMBERS, b=NUMBERS)
def test_one_sum_is_within_its_margin(a, b):
    margin = ADDITION * (abs(a) + abs(b))
    assert Fraction(a + b - margin) <= Fraction(a) + Fraction(b) <= Fraction(a + b + margin)


@given(a=SIZES, b=SIZES)
def test_lines_above_a_relu_are_above_it_at_both_ends(a, b):
    """The margin of few operations."""
    low, high = -a, b
    lines = Bounds({"a": np.array([low])}, {"a": np.array([high])}).unit_lines(Relu("h", "a"))
    slope, offset = (Fraction(float(array[0])) for array in (lines.slope, lines.offset))
    assert 0 <= slope <= 1
    for end in (low, high):
        assert slope * Fraction(end) + offset >= max(Fraction(end), 0)
    assert float(offset) <= a + FEW_OPERATIONS * 4 * (a + b)


@given(
    row=st.lists(st.tuples(st.fractions(-1000, 1000, max_denominator=997), NUMBERS), min_size=1, max_size=20),
    limit=st.fractions(-1000, 1000, max_denominator=997),
)
def test_constants_that_were_rounded_are_within_their_margin(row, limit):
    truth = limit - sum(a * Fraction(value) for a, value in row)
    found = float(limit) - math.fsum(float(a) * value for a, value in row)
    size = abs(float(limit)) + sum(abs(float(a)) * abs(value) for a, value in row)
    assert abs(Fraction(found) - truth) <= Fraction(CONSTANTS) * Fraction(size)
    assert gamma(4000) < CONSTANTS


@given(sizes=st.lists(st.tuples(SIZES, st.floats(0, 1)), min_size=1, max_size=30))
def test_sums_that_are_never_negative_are_within_their_growth(sizes):
    found = sum(a * b for a, b in sizes)
    assert Fraction((1 + growth(len(sizes))) * found) + Fraction(UNDERFLOW) >= exact_dot(sizes)
    assert growth(10**8) > 2 * gamma(10**8 - 1)


@given(
    ends=st.lists(st.tuples(st.floats(-1e150, 1e150), st.floats(0, 1e150)), min_size=1, max_size=8),
    p=st.sampled_from([1, 2, math.inf]),
)
def test_norms_of_boxes_are_rounded_outward(ends, p):
    """Tiny numbers, whose squares underflow, among them."""
    lower, upper = np.array([[low for low, _ in ends]]), np.array([[low + width for low, width in ends]])
    least, greatest = (Fraction(float(value[0])) for value in box_norms(lower, upper, p))
    sides = [(Fraction(float(low)), Fraction(float(high))) for low, high in zip(lower[0], upper[0], strict=True)]
    near = [max(low, -high, Fraction(0)) for low, high in sides]
    far = [max(-low, high) for low, high in sides]
    if p == 2:
        assert least**2 <= sum(v**2 for v in near)
        assert greatest**2 >= sum(v**2 for v in far)
    else:
        norm = sum if p == 1 else max
        assert least <= norm(near)
        assert greatest >= norm(far)


@pytest.mark.parametrize("p", [1, 2])
@given(seed=st.integers(0, 10**6), dim=st.integers(1, 6))
def test_supports_of_boxes_in_balls_are_above_what_points_attain(p, seed, dim):
    """By weak duality with margins: at the point that the bound is about, in rationals."""
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 0.5, dim)
    upper, row = lower + rng.uniform(0, 1, dim), rng.standard_normal(dim) * 10.0 ** rng.integers(-8, 8, dim)
    ball = Ball(p, float(rng.uniform(0.2, 2)), dim)
    found = RegionBoxes(lower[None], upper[None], ball).support(row[None, None])[0, 0]
    found += gamma(dim + 2) * (np.abs(row) @ np.maximum(np.abs(lower), np.abs(upper)))  # as bounds take it
    for point in (np.clip(0.0, lower, upper), *np.clip(rng.standard_normal((20, dim)), lower, upper)):
        exact = [Fraction(float(v)) for v in point]
        if ball.contains(exact):
            assert exact_dot(zip(row.tolist(), exact, strict=True)) <= Fraction(float(found))


@given(radius=st.floats(0.1, 100), part=st.floats(0.01, 0.99), dim=st.integers(1, 40))
def test_weights_of_vertices_are_rounded_up(radius, part, dim):
    ball = Ball(1, radius, dim, limit=part * radius)
    each = Fraction(ball.limit) / Fraction(radius)
    for place, weight in enumerate(ball.shares.tolist()):
        assert min(each, max(1 - each * place, 0)) <= Fraction(weight)


def test_absolute_margins_are_far_above_what_underflows():
    least = Fraction(2) ** -1075  # half of the smallest float
    assert 10**30 * least < Fraction(UNDERFLOW)
    assert 10**13 * least * Fraction(LARGEST) < Fraction(UNDERFLOW_OF_COEFFICIENTS)
    assert 10**22 * least < Fraction(UNDERFLOW_OF_NORMS) ** 2


@pytest.mark.parametrize("count", [1, 5, 60])
def test_convolutions_by_transforms_are_within_their_margin(count):
    """Against the convolution in rationals."""
    rng = np.random.default_rng(count)
    parts = rng.random((count, 4))
    parts /= parts.sum(axis=1, keepdims=True)
    length = 3 * count + 1
    found = np.fft.irfft(np.fft.rfft(parts, n=length, axis=-1).prod(axis=0), n=length)
    truth = [Fraction(1)]
    for part in parts.tolist():
        longer = [Fraction(0)] * (len(truth) + 3)
        for place, value in enumerate(truth):
            for step, weight in enumerate(part):
                longer[place + step] += value * Fraction(weight)
        truth = longer
    missed = sum(abs(Fraction(a) - b) for a, b in zip(found.tolist(), truth, strict=True))
    assert missed <= Fraction(of_transforms(count, length))
