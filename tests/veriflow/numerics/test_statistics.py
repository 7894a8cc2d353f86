"""Intervals against known values, against the binomial law itself, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from veriflow.errors import DataError
from veriflow.numerics.statistics import clopper_pearson, kolmogorov_smirnov, least_proportion

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.01, 0.9999)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.3084971),  # 1 - 0.025^(1/10)
        (10, 10, 0.6915029, 1.0),
        (5, 10, 0.1870860, 0.8129140),
        (81, 263, 0.2527, 0.3676),  # Newcombe, Statistics in Medicine 17 (1998), table I
    ],
)
def test_known_intervals(successes: int, trials: int, low: float, high: float) -> None:
    interval = clopper_pearson(successes, trials)
    assert interval.estimate == successes / trials
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(counts, confidences)
def test_interval_agrees_with_scipy_and_holds_the_estimate(count: tuple[int, int], confidence: float) -> None:
    interval = clopper_pearson(*count, confidence)
    reference = stats.binomtest(*count).proportion_ci(confidence, method="exact")
    assert interval.low == pytest.approx(reference.low, rel=1e-8, abs=1e-300)  # scipy's own root finding is that good
    assert interval.high == pytest.approx(reference.high, rel=1e-8)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@given(counts, confidences)
def test_ends_leave_just_the_stated_tail_of_the_binomial_law(count: tuple[int, int], confidence: float) -> None:
    successes, trials = count
    interval = clopper_pearson(successes, trials, confidence)
    tail = (1 - confidence) / 2
    if successes:
        assert stats.binom.sf(successes - 1, trials, interval.low) == pytest.approx(tail, rel=1e-6)
    if successes < trials:
        assert stats.binom.cdf(successes, trials, interval.high) == pytest.approx(tail, rel=1e-6)


@given(counts, st.floats(0.51, 0.9999))
def test_one_sided_bound_is_the_lower_end_at_half_the_risk(count: tuple[int, int], confidence: float) -> None:
    wider = clopper_pearson(*count, 2 * confidence - 1)
    assert least_proportion(*count, confidence) == pytest.approx(wider.low, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("truth", [0.003, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("trials", [1, 12, 60])
def test_coverage_is_never_below_the_confidence(truth: float, trials: int) -> None:
    chances = stats.binom.pmf(np.arange(trials + 1), trials, truth)
    intervals = [clopper_pearson(k, trials, 0.9) for k in range(trials + 1)]
    two_sided = sum(p for p, i in zip(chances, intervals, strict=True) if i.low <= truth <= i.high)
    one_sided = sum(p for k, p in enumerate(chances) if least_proportion(k, trials, 0.9) <= truth)
    assert two_sided >= 0.9
    assert one_sided >= 0.9


@pytest.mark.parametrize("arguments", [(1, 0), (0, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, float("nan"))])
def test_impossible_counts_are_refused(arguments: tuple) -> None:
    for function in (clopper_pearson, least_proportion):
        with pytest.raises(DataError, match=r"^expected .*; got "):
            function(*arguments)


def test_a_law_is_told_from_its_neighbour() -> None:
    norms = stats.gamma(5).rvs(2000, random_state=0)
    right, wrong = kolmogorov_smirnov(norms, stats.gamma(5).cdf), kolmogorov_smirnov(norms, stats.gamma(5.5).cdf)
    reference = stats.kstest(norms, stats.gamma(5).cdf)
    assert (right.statistic, right.p_value) == pytest.approx((reference.statistic, reference.pvalue))
    assert right.p_value > 0.01
    assert wrong.p_value < 1e-6
    assert wrong.statistic > right.statistic


@pytest.mark.parametrize("values", [[], [[1.0]], [float("nan")]])
def test_norms_must_be_a_list_of_numbers(values: list) -> None:
    with pytest.raises(DataError, match="a list of finite numbers"):
        kolmogorov_smirnov(values, stats.norm.cdf)


def test_a_proportion_prints_as_a_sentence() -> None:
    assert str(clopper_pearson(5, 10)) == "0.5 [0.1871, 0.8129] at confidence 0.95"
