"""Exact rationals: from numbers and decimals, and as text."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import cache

from ..errors import PropertyError

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")


def is_huge(value: Fraction) -> bool:
    """Whether a number is larger than about 1e300: engines compute with floats, which end at about 1.8e308."""
    return value.numerator.bit_length() - value.denominator.bit_length() > 997


def exact(value: float | Fraction) -> Fraction:
    """The number as an exact rational.

    Raises:
        PropertyError: NaN, infinity, or not a number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise PropertyError(f"expected a finite number; got {value}")
    try:
        return Fraction(value) if isinstance(value, (int, Fraction)) else Fraction(float(value))
    except (TypeError, ValueError, OverflowError):
        raise PropertyError(f"expected a number; got {value!r}") from None


def rational_text(value: Fraction) -> str:
    """The shortest text that `exact` or the grammar reads as the same number."""
    if is_huge(value):
        return str(value)
    short = f"{float(value):.12g}"
    return short if Fraction(short) == value else str(value)


def is_decimal(text: str) -> bool:
    """Whether the text is a decimal, perhaps with an exponent of at most six digits."""
    return _DECIMAL.fullmatch(text) is not None


def read_decimal(text: str, most_digits: int) -> Fraction | None:
    """The decimal as the exact rational that it is written as; None where that has more digits than ``most_digits``."""
    exponent = text.lower().partition("e")[2] or "0"
    if len(text) > most_digits or abs(int(exponent)) > most_digits:
        return None
    value = Fraction(text)
    return value if has_digits(value, most_digits) else None


def has_digits(value: Fraction, most: int) -> bool:
    """Whether numerator and denominator have at most that many digits."""
    return max(abs(value.numerator), value.denominator) < _power_of_ten(most)


@cache
def _power_of_ten(digits: int) -> int:
    return int(10**digits)
