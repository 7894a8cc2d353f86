"""Linear terms and comparisons as property files build them, over numbered variables, exact, with bounded numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction

from veriflow.errors import PropertyError
from veriflow.queries import constraints
from veriflow.queries.constraints import Check, Disjunction, Expression, Formula, Joined
from veriflow.queries.rationals import has_digits, is_decimal, read_decimal
from veriflow.queries.specification import Row

MOST_DIGITS = 1000
"""Most digits in the numerator and in the denominator of a number, written or computed."""

MOST_BITS = 2**24
"""Most bits in all numbers of all terms of a text together, 32 at least for each number."""

MOST_COMPARED, MOST_DISTINCT = 1000, 5
"""Most terms of one comparison, and of one ``distinct``, where each pair of terms doubles the number of disjuncts."""

MOST_ALTERNATIVES = 2**14
"""Most parts of one ``or``, equal ones among them."""


class Budget:
    """How many bits the numbers in all terms of a text, nested ones included, may still have; it limits the cost of reading."""

    def __init__(self) -> None:
        self.bits = MOST_BITS

    def charged(self, term: Expression, place: str) -> Expression:
        """The term, its bits taken from the budget.

        Raises:
            PropertyError: more bits than are left.
        """
        for value in (term.constant, *term.coefficients.values()):
            self.bits -= max(32, value.numerator.bit_length() + value.denominator.bit_length())
        if self.bits < 0:
            raise PropertyError(
                f"expected terms whose numbers have at most {MOST_BITS} bits together at {place}; got more"
            )
        return term


def variable(index: int) -> Expression:
    """One variable."""
    return Expression({index: Fraction(1)})


def number(text: str, place: str) -> Expression:
    """The decimal as the exact rational that it is written as.

    Raises:
        PropertyError: no decimal, or one of more than 1,000 digits.
    """
    if not is_decimal(text):
        raise PropertyError(f"expected a number at {place}; got {text!r}")
    value = read_decimal(text, MOST_DIGITS)
    if value is None:
        raise _too_long(place)
    return Expression({}, value)


def total(parts: Iterable[Expression], place: str) -> Expression:
    """The sum of terms."""
    return constraints.total(parts, _limited(place))


def difference(first: Expression, rest: Sequence[Expression], place: str) -> Expression:
    """``first − rest[0] − rest[1] − …``, and ``−first`` where there is no rest."""
    return total([first, *(-part for part in rest)], place) if rest else -first


def product(parts: Iterable[Expression], place: str) -> Expression:
    """The product of terms, at most one of which may hold a variable.

    Raises:
        PropertyError: two that do.
    """
    body, factor, checked = Expression({}, Fraction(1)), Fraction(1), _limited(place)
    for part in parts:
        if not part.coefficients:
            factor = checked(factor * part.constant)
        elif body.coefficients and factor:
            raise PropertyError(f"expected linear terms at {place}; got a product of variables")
        else:
            body = part
    return body.times(factor, checked)


def quotient(first: Expression, rest: Sequence[Expression], place: str) -> Expression:
    """``first / rest[0] / rest[1] / …`` with numbers as divisors.

    Raises:
        PropertyError: a divisor that holds a variable or is zero.
    """
    factor, checked = Fraction(1), _limited(place)
    for divisor in rest:
        if divisor.coefficients or not divisor.constant:
            got = "one with a variable" if divisor.coefficients else "zero"
            raise PropertyError(f"expected divisors that are numbers other than zero at {place}; got {got}")
        factor = checked(factor / divisor.constant)
    return first.times(factor, checked)


def comparison(sign: str, parts: Sequence[Expression], place: str) -> Formula:
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


def _compared(sign: str, left: Expression, right: Expression, place: str) -> Formula:
    if sign == "=":
        return Joined("and", (_compared("<=", left, right, place), _compared(">=", left, right, place)))
    if sign == "distinct":
        return Joined("or", (_compared("<", left, right, place), _compared(">", left, right, place)))
    large, small = (left, right) if sign in (">=", ">") else (right, left)
    gap = difference(large, [small], place)
    return gap > 0 if sign in ("<", ">") else gap >= 0


def alternatives(assertions: Sequence[Formula]) -> tuple[Row, Disjunction]:
    """The disjunctive normal form of assertions: the constraints common to all disjuncts, and the rest of each disjunct.

    Raises:
        PropertyError: more than 4,096 alternatives.
    """
    parts = [assertion.disjuncts() for assertion in assertions]
    common = itertools.chain(*(part[0] for part in parts if len(part) == 1))
    others = tuple(assertion for assertion, part in zip(assertions, parts, strict=True) if len(part) != 1)
    return tuple(dict.fromkeys(common)), Joined("and", others).disjuncts()


def _limited(place: str) -> Check:
    """Refuses numbers of too many digits."""

    def checked(value: Fraction) -> Fraction:
        if not has_digits(value, MOST_DIGITS):
            raise _too_long(place)
        return value

    return checked


def _too_long(place: str) -> PropertyError:
    return PropertyError(f"expected numbers of at most {MOST_DIGITS} digits at {place}; got more")
