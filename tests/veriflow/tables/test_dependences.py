"""Columns that are linear functions of others are named with their equations, and no others are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veriflow.tables.dependences import linear_dependences
from veriflow.tables.table import Table

NAMES = tuple("abcdefgh")


def normal(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


def equations(*columns: np.ndarray) -> list[str]:
    return linear_dependences(np.column_stack(columns), NAMES)


def test_equations_read_as_they_are_written() -> None:
    a, b, c = normal(300, 3).T
    kind = np.random.default_rng(1).integers(0, 3, 300)
    assert equations(a, b, a) == ["'c' = 'a'"]
    assert equations(a, 2 * a + 1, b) == ["'b' = 2·'a' + 1"]
    assert equations(a, b, a + b) == ["'c' = 'a' + 'b'"]
    assert equations(a, b, 0.5 * a - 3 * b - 7) == ["'c' = 0.5·'a' − 3·'b' − 7"]
    assert equations(a, b, b - a) == ["'c' = −'a' + 'b'"]
    assert equations(a, *(kind == i for i in range(3))) == ["'b' + 'c' + 'd' = 1"]
    assert equations(a, b, c, 1e6 * a + 5e9) == ["'d' = 1e+06·'a' + 5e+09"]
    assert equations(a, b, a, c, b) == ["'c' = 'a'", "'e' = 'b'"]
    assert equations(a, b, c, a * b) == []


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(0, 3), st.sampled_from([1e-8, 1.0, 1e8]), st.booleans())
def test_as_many_columns_are_named_as_the_rank_lacks(
    seed: int, dim: int, more: int, scale: float, single: bool
) -> None:
    random = np.random.default_rng(seed)
    free = random.normal(random.normal(size=dim) * (1 if single else 100), 1, (500, dim)) * scale
    mixed = free @ random.integers(-3, 4, (dim, more)) + random.normal(size=more) * scale
    columns = np.concatenate([free, mixed], axis=1)
    columns = columns[:, np.ptp(columns, axis=0) > 0][:, random.permutation((np.ptp(columns, axis=0) > 0).sum())]
    values = columns.astype(np.float32).astype(np.float64) / scale if single and scale == 1 else columns
    found = linear_dependences(values, [f"x{i}" for i in range(values.shape[1])])
    assert len(found) == values.shape[1] - dim


@pytest.mark.parametrize("noise", [1e-4, 1e-2])
def test_what_is_only_nearly_a_function_is_not_named(noise: float) -> None:
    a, b, rest = normal(1000, 3).T
    assert equations(a, b, a + b + noise * rest) == []


def test_what_holds_in_most_rows_only_is_not_named() -> None:
    a, b = normal(100_000, 2).T
    c = a + b
    c[12_345] += 1
    assert equations(a, b, c) == []


def test_a_table_says_what_that_does_to_a_density() -> None:
    a, b = normal(200, 2).T
    (sentence,) = Table(np.column_stack([a, b, a]), ("p", "q", "r")).dependences()
    assert sentence.startswith(
        "'r' = 'p': the rows lie in a space of 2 dimensions out of 3, on which a density can grow"
    )
    assert Table(np.column_stack([a, b]), ("p", "q")).dependences() == []
    assert linear_dependences(normal(10, 8), NAMES) == []  # too few rows to tell
