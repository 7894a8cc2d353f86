"""Exact statements about a probability that was seen in a finite number of trials, and about a law that was fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from ..errors import DataError


@dataclass(frozen=True)
class Proportion:
    """A probability estimated from trials, with the ends of its confidence interval.

    Attributes:
        successes: how many trials succeeded.
        trials: how many there were.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: probability, over repetitions of the trials, that the interval contains the truth, at least.
    """

    successes: int
    trials: int
    low: float
    high: float
    confidence: float

    @property
    def estimate(self) -> float:
        """The share of trials that succeeded."""
        return self.successes / self.trials

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] at confidence {self.confidence:g}"


@dataclass(frozen=True)
class Fit:
    """How well numbers follow a law: the Kolmogorov–Smirnov test.

    Attributes:
        statistic: largest distance between the empirical distribution function and the law's, from 0 to 1.
        p_value: probability of a distance at least as large if the numbers do follow the law.
    """

    statistic: float
    p_value: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Proportion:
    """The exact two-sided interval: each end is missed with probability at most (1 − confidence) / 2.

    Source: Clopper and Pearson, Biometrika 26 (1934); the ends are quantiles of beta laws.

    Raises:
        DataError: no trials, successes outside 0 … trials, a confidence outside (0, 1).
    """
    _check(successes, trials, confidence)
    tail = (1 - confidence) / 2
    failures = trials - successes
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(special.betainccinv(successes + 1, failures, tail)) if failures else 1.0
    return Proportion(successes, trials, low, high, confidence)


def least_proportion(successes: int, trials: int, confidence: float = 0.95) -> float:
    """The exact one-sided lower bound: with at least this confidence the probability is no smaller.

    Raises:
        DataError: as `clopper_pearson`.
    """
    _check(successes, trials, confidence)
    return float(special.betaincinv(successes, trials - successes + 1, 1 - confidence)) if successes else 0.0


def kolmogorov_smirnov(values: ArrayLike, cdf: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Fit:
    """How well ``values`` ``[n]`` (latent norms, say) follow the law with the distribution function ``cdf``.

    The p-value holds for values that the law was not fitted to.

    Raises:
        DataError: no values, or values that are not one list of finite numbers.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise DataError(f"expected a list of finite numbers; got an array of shape {list(sample.shape)}")
    result = stats.kstest(cdf(sample), "uniform")
    return Fit(float(result.statistic), float(result.pvalue))


def _check(successes: int, trials: int, confidence: float) -> None:
    if not 0 <= successes <= trials or trials < 1:
        raise DataError(f"expected 0 <= successes <= trials, and a trial; got {successes} of {trials}")
    if not 0 < confidence < 1:
        raise DataError(f"expected a confidence between 0 and 1; got {confidence}")
