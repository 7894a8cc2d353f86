"""The float32 numbers next to a number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

LARGEST_FLOAT32 = Fraction(float(np.finfo(np.float32).max))


def float32_above(value: float | Fraction) -> float:
    """The least float32 that is at least ``value``, as a Python float."""
    with np.errstate(over="ignore"):
        nearest = np.float32(float(value))
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf)))


def float32_below(value: float | Fraction) -> float:
    """The greatest float32 that is at most ``value``, as a Python float."""
    return -float32_above(-value)


def float32_inside(low: Fraction, value: Fraction, high: Fraction) -> Fraction:
    """The value moved into [low, high], to a float32 number where one lies there."""
    if low <= value <= high:
        return value
    inside = Fraction(float32_above(low) if value < low else float32_below(high))
    return inside if low <= inside <= high else (low if value < low else high)
