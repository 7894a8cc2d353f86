"""Linear terms and comparisons as property files build them, over numbered variables, exact, with bounded numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from veriflow.errors import PropertyError
from veriflow.queries.constraints import Atom, Constraint, Formula, Joined

MOST_DIGITS = 1000
"""Most digits in the numerator and in the denominator of a number, written or computed."""

MOST_BITS = 2**24
"""Most bits in all numbers of all terms of a text together, 32 at least for each number."""

MOST_COMPARED, MOST_DISTINCT = 1000, 5
"""Most terms of one comparison, and of those that are to differ from each other: each pair doubles the alternatives."""

MOST_ALTERNATIVES = 2**14
"""Most parts of one ``or``, equal ones among them."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_LARGEST = 10**MOST_DIGITS


@dataclass(frozen=True)
class Linear:
    """``Σ coefficients[i]·v_i + constant``; no coefficient is zero."""

    coefficients: Mapping[int, Fraction]
    constant: Fraction = Fraction(0)

    def times(self, factor: Fraction, place: str) -> Linear:
        """The term times a number."""
        coefficients = {i: _bounded(c * factor, place) for i, c in self.coefficients.items() if factor}
        return Linear(coefficients, _bounded(self.constant * factor, place))


class Room:
    """What the terms of one text may still take, those within others too: what reading them costs grows with it."""

    def __init__(self) -> None:
        self.bits = MOST_BITS

    def kept(self, term: Linear, place: str) -> Linear:
        """The term, taken from the room.

        Raises:
            PropertyError: no room for it.
        """
        for value in (term.constant, *term.coefficients.values()):
            self.bits -= max(32, value.numerator.bit_length() + value.denominator.bit_length())
        if self.bits < 0:
            raise PropertyError(
                f"expected terms whose numbers have at most {MOST_BITS} bits together at {place}; got more"
            )
        return term


def variable(index: int) -> Linear:
    """One variable."""
    return Linear({index: Fraction(1)})


def is_number(text: str) -> bool:
    """Whether the text is a decimal, perhaps with an exponent."""
    return _NUMBER.fullmatch(text) is not None


def number(text: str, place: str) -> Linear:
    """The decimal as the exact rational that it is written as.

    Raises:
        PropertyError: no decimal, or one of more than 1,000 digits.
    """
    if not is_number(text):
        raise PropertyError(f"expected a number at {place}; got {text!r}")
    exponent = text.lower().partition("e")[2] or "0"
    if len(text) > MOST_DIGITS or abs(int(exponent)) > MOST_DIGITS:
        raise _too_long(place)
    return Linear({}, _bounded(Fraction(text), place))


def total(parts: Iterable[Linear], place: str) -> Linear:
    """The sum of terms."""
    coefficients: dict[int, Fraction] = {}
    constant = Fraction(0)
    for part in parts:
        constant = _bounded(constant + part.constant, place)
        for index, coefficient in part.coefficients.items():
            coefficients[index] = _bounded(coefficients.get(index, Fraction(0)) + coefficient, place)
    return Linear({i: c for i, c in coefficients.items() if c}, constant)


def difference(first: Linear, rest: Sequence[Linear], place: str) -> Linear:
    """``first − rest[0] − rest[1] − …``, and ``−first`` where there is no rest."""
    minus = Fraction(-1)
    return total([first, *(part.times(minus, place) for part in rest)], place) if rest else first.times(minus, place)


def product(parts: Iterable[Linear], place: str) -> Linear:
    """The product of terms, at most one of which may hold a variable.

    Raises:
        PropertyError: two that do.
    """
    result = Linear({}, Fraction(1))
    for part in parts:
        if part.coefficients and result.coefficients:
            raise PropertyError(f"expected linear terms at {place}; got a product of variables")
        body, factor = (part, result) if part.coefficients else (result, part)
        result = body.times(factor.constant, place)
    return result


def quotient(first: Linear, rest: Sequence[Linear], place: str) -> Linear:
    """``first / rest[0] / rest[1] / …`` with numbers as divisors.

    Raises:
        PropertyError: a divisor that holds a variable or is zero.
    """
    for divisor in rest:
        if divisor.coefficients or not divisor.constant:
            got = "one with a variable" if divisor.coefficients else "zero"
            raise PropertyError(f"expected divisors that are numbers other than zero at {place}; got {got}")
        first = first.times(1 / divisor.constant, place)
    return first


def comparison(sign: str, parts: Sequence[Linear], place: str) -> Formula:
    """``a sign b``, or ``a sign b sign c …`` pair by pair as in SMT-LIB; ``=`` and ``distinct`` become two inequalities."""
    most = MOST_DISTINCT if sign == "distinct" else MOST_COMPARED
    if len(parts) > most:
        raise PropertyError(f"expected at most {most} terms of {sign} at {place}; got {len(parts)}")
    pairs = itertools.combinations(parts, 2) if sign == "distinct" else itertools.pairwise(parts)
    formulas = [_compared(sign, left, right, place) for left, right in pairs]
    return formulas[0] if len(formulas) == 1 else Joined("and", tuple(formulas))


def check_alternatives(count: int, place: str) -> None:
    """Raise PropertyError for an ``or`` of too many parts, before they are read."""
    if count > MOST_ALTERNATIVES:
        raise PropertyError(f"expected at most {MOST_ALTERNATIVES} alternatives at {place}; got {count}")


def _compared(sign: str, left: Linear, right: Linear, place: str) -> Formula:
    if sign == "=":
        return Joined("and", (_compared("<=", left, right, place), _compared(">=", left, right, place)))
    if sign == "distinct":
        return Joined("or", (_compared("<", left, right, place), _compared(">", left, right, place)))
    large, small = (left, right) if sign in (">=", ">") else (right, left)
    gap = difference(large, [small], place)
    return Atom(Constraint(tuple(sorted(gap.coefficients.items())), -gap.constant, sign in ("<", ">")))


def _bounded(value: Fraction, place: str) -> Fraction:
    if max(abs(value.numerator), value.denominator) >= _LARGEST:
        raise _too_long(place)
    return value


def _too_long(place: str) -> PropertyError:
    return PropertyError(f"expected numbers of at most {MOST_DIGITS} digits at {place}; got more")
