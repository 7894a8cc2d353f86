"""Numbers as other tools read them: exact decimals, float32 numbers, and constraints scaled until they are both."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from veriflow.errors import QueryError
from veriflow.queries.constraints import Constraint
from veriflow.regions.box import Box


def decimal_text(value: float | Fraction) -> str:
    """The number as an exact decimal with a point and no exponent, such as ``-0.125`` or ``1.0``.

    Raises:
        QueryError: a number without a finite decimal expansion, such as 1/3, NaN or infinity.
    """
    try:
        number = Fraction(value)
    except (ValueError, OverflowError):
        raise QueryError(f"expected a finite number; got {value}") from None
    if _part_prime_to_ten(number.denominator) != 1:
        raise QueryError(f"expected a number with a finite decimal expansion; got {number}")
    # a denominator 2^a 5^b divides 10^max(a, b), and max(a, b) is less than its number of bits
    digits = number.denominator.bit_length()
    scaled = str(abs(number.numerator) * 10**digits // number.denominator).rjust(digits + 1, "0")
    fraction = scaled[-digits:].rstrip("0") or "0"
    return f"{'-' if number < 0 else ''}{scaled[:-digits]}.{fraction}"


def decimal_ends(box: Box) -> tuple[list[Fraction], list[Fraction]]:
    """The exact ends of a box where they have a finite decimal expansion, elsewhere the float32 numbers around them."""
    lower, upper = box.ends

    def written(value: Fraction, outer: float) -> Fraction:
        return value if _part_prime_to_ten(value.denominator) == 1 else Fraction(float(outer))

    return list(map(written, lower, box.lower)), list(map(written, upper, box.upper))


def are_float32(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which entries are float32 numbers exactly."""
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(np.float32).astype(np.float64) == values)


def portable_constraint(constraint: Constraint) -> Constraint:
    """The constraint times a positive number: float32 coefficients, and a bound with a finite decimal expansion.

    Raises:
        QueryError: no such multiple with small whole coefficients exists.
    """
    numbers = [c for _, c in constraint.coefficients]
    factor = Fraction(1)
    if not all(map(_is_float32, numbers)):
        factor = Fraction(lcm(*(c.denominator for c in numbers)), gcd(*(c.numerator for c in numbers)))
    factor *= _part_prime_to_ten((constraint.bound * factor).denominator)
    scaled = Constraint(
        tuple((i, c * factor) for i, c in constraint.coefficients), constraint.bound * factor, constraint.strict
    )
    for _, number in scaled.coefficients:
        if not _is_float32(number):
            raise QueryError(f"expected a property whose coefficients scale to float32 numbers; got {constraint}")
    return scaled


def _is_float32(value: Fraction) -> bool:
    try:
        number = float(value)
    except OverflowError:
        return False
    return number == value and bool(are_float32(np.array(number)))


def _part_prime_to_ten(number: int) -> int:
    for prime in (2, 5):
        while number % prime == 0:
            number //= prime
    return number
