"""Linear constraints on outputs, formulas of them, and the expressions that people write them with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from ..errors import PropertyError
from .rationals import exact, rational_text

MOST_DISJUNCTS = 4096

Values = Sequence[Fraction] | Mapping[int, Fraction]
"""Exact numbers by index."""


@dataclass(frozen=True)
class Constraint:
    """``Σ coefficients[i]·y[i] ≥ bound``, or ``> bound`` where ``strict``."""

    coefficients: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool = False

    def negated(self) -> Constraint:
        """The constraint that holds exactly where this one fails."""
        return Constraint(tuple((i, -c) for i, c in self.coefficients), -self.bound, not self.strict)

    def renumbered(self, numbers: Sequence[int] | Mapping[int, int]) -> Constraint:
        """The constraint with output i called ``numbers[i]``."""
        renamed = total(Expression({numbers[i]: c}) for i, c in self.coefficients)
        return replace(self, coefficients=tuple(renamed.coefficients.items()))

    def slack(self, outputs: Values) -> Fraction:
        """``Σ coefficients·y − bound``: not negative where the constraint holds (positive, where it is strict)."""
        return _least(self.coefficients, -self.bound, outputs, outputs)

    def holds(self, outputs: Values) -> bool:
        """Whether the constraint holds at exact outputs."""
        return self.holds_within(outputs, outputs)

    def holds_within(self, lower: Values, upper: Values) -> bool:
        """Whether the constraint holds at all outputs between exact ends."""
        least = _least(self.coefficients, -self.bound, lower, upper)
        return least > 0 if self.strict else least >= 0

    def __str__(self) -> str:
        text = " ".join(_term_text(c, f"y[{i}]") for i, c in self.coefficients).removeprefix("+ ") or "0"
        return f"{text} {'>' if self.strict else '>='} {rational_text(self.bound)}"


def _term_text(coefficient: Fraction, name: str) -> str:
    sign = "+" if coefficient >= 0 else "-"
    return f"{sign} {name}" if abs(coefficient) == 1 else f"{sign} {rational_text(abs(coefficient))}*{name}"


def _least(terms: Iterable[tuple[int, Fraction]], constant: Fraction, lower: Values, upper: Values) -> Fraction:
    """The least of ``Σ c·y[i] + constant`` over all y between exact ends."""
    return sum((c * (lower if c > 0 else upper)[i] for i, c in terms), constant)


class Formula:
    """Constraints on outputs joined by and, or, not."""

    def __and__(self, other: Formula) -> Formula:
        return Joined("and", (self, other))

    def __or__(self, other: Formula) -> Formula:
        return Joined("or", (self, other))

    def __invert__(self) -> Formula:
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise PropertyError("expected & | ~ and parentheses around comparisons; got a formula used as true or false")

    def disjuncts(self) -> Disjunction:
        """The disjunctive normal form."""
        raise NotImplementedError


@dataclass(frozen=True)
class Atom(Formula):
    """One constraint as a formula."""

    constraint: Constraint

    def __invert__(self) -> Formula:
        return Atom(self.constraint.negated())

    def disjuncts(self) -> Disjunction:
        """One disjunct with one constraint; none or an empty one where the constraint speaks of no output."""
        if not self.constraint.coefficients:
            return ((),) if self.constraint.holds([]) else ()
        return ((self.constraint,),)

    def __str__(self) -> str:
        return str(self.constraint)


@dataclass(frozen=True)
class Joined(Formula):
    """Formulas joined by "and" or by "or"."""

    junction: Literal["and", "or"]
    parts: tuple[Formula, ...]

    def __invert__(self) -> Formula:
        return Joined("or" if self.junction == "and" else "and", tuple(~part for part in self.parts))

    def disjuncts(self) -> Disjunction:
        """The disjunctive normal form.

        Raises:
            PropertyError: more than 4,096 disjuncts.
        """
        if self.junction == "or":
            return tuple(dict.fromkeys(itertools.chain.from_iterable(part.disjuncts() for part in self.parts)))
        choices, count = [], 1
        for part in self.parts:
            choices.append(part.disjuncts())
            count *= len(choices[-1])
            if count > MOST_DISJUNCTS:
                raise PropertyError(
                    f"expected a property of at most {MOST_DISJUNCTS} cases, as joining by and multiplies the alternatives "
                    f"of each part; got {count} or more"
                )
        return tuple(
            dict.fromkeys(tuple(dict.fromkeys(itertools.chain(*rows))) for rows in itertools.product(*choices))
        )

    def __str__(self) -> str:
        sign = " & " if self.junction == "and" else " | "
        return sign.join(f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts)


Disjunction = tuple[tuple[Constraint, ...], ...]
"""Disjuncts, each a conjunction of constraints."""

Check = Callable[[Fraction], Fraction]
"""Gives a number back as it is, or raises an error where it is out of some range."""


def _as_it_is(value: Fraction) -> Fraction:
    return value


@dataclass(frozen=True, eq=False)
class Expression:
    """A linear expression over numbered variables, such as outputs: ``Σ coefficients[i]·y[i] + constant``.

    No coefficient is zero.
    """

    coefficients: Mapping[int, Fraction]
    constant: Fraction = Fraction(0)

    def times(self, factor: Fraction, checked: Check = _as_it_is) -> Expression:
        """The expression times a number, each product passed through ``checked``."""
        coefficients = {i: checked(c * factor) for i, c in self.coefficients.items() if factor}
        return Expression(coefficients, checked(self.constant * factor))

    def least(self, lower: Values, upper: Values) -> Fraction:
        """The least value over all y between exact ends."""
        return _least(self.coefficients.items(), self.constant, lower, upper)

    def at_least(self, bound: Fraction, *, strict: bool = False) -> Constraint:
        """The constraint ``expression ≥ bound``, or ``> bound``."""
        return Constraint(tuple(self.coefficients.items()), bound - self.constant, strict)

    def __add__(self, other: Expression | float | Fraction) -> Expression:
        return total((self, as_expression(other)))

    def __mul__(self, factor: float | Fraction) -> Expression:
        return self.times(exact(factor))

    def __truediv__(self, divisor: float | Fraction) -> Expression:
        if not exact(divisor):
            raise PropertyError("expected a divisor other than zero; got 0")
        return self * (1 / exact(divisor))

    def __neg__(self) -> Expression:
        return self * -1

    def __sub__(self, other: Expression | float | Fraction) -> Expression:
        return self + -as_expression(other)

    def __eq__(self, other: object) -> bool:
        raise PropertyError("expected >=, <=, > or < between expressions (or == in a property's text); got ==")

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        terms = [_term_text(c, f"y[{i}]") for i, c in self.coefficients.items()]
        if self.constant or not terms:
            terms.append(f"{'-' if self.constant < 0 else '+'} {rational_text(abs(self.constant))}")
        return " ".join(terms).removeprefix("+ ")

    def __radd__(self, other: float | Fraction) -> Expression:
        return self + other

    def __rsub__(self, other: float | Fraction) -> Expression:
        return -self + other

    def __rmul__(self, other: float | Fraction) -> Expression:
        return self * other

    def __ge__(self, other: Expression | float | Fraction) -> Formula:
        return Atom((self - other).at_least(Fraction(0)))

    def __le__(self, other: Expression | float | Fraction) -> Formula:
        return -self >= -as_expression(other)

    def __gt__(self, other: Expression | float | Fraction) -> Formula:
        return ~(self <= other)

    def __lt__(self, other: Expression | float | Fraction) -> Formula:
        return ~(self >= other)


def total(parts: Iterable[Expression], checked: Check = _as_it_is) -> Expression:
    """The sum of expressions, its variables in order, each sum of two numbers passed through ``checked``."""
    coefficients: dict[int, Fraction] = {}
    constant = Fraction(0)
    for part in parts:
        constant = checked(constant + part.constant)
        for i, c in part.coefficients.items():
            coefficients[i] = checked(coefficients.get(i, Fraction(0)) + c)
    return Expression({i: c for i, c in sorted(coefficients.items()) if c}, constant)


def as_expression(value: Expression | float | Fraction) -> Expression:
    """A number as a constant expression; an expression as it is."""
    return value if isinstance(value, Expression) else Expression({}, exact(value))


class Outputs:
    """The outputs of the network under test: ``y[i]`` is the i-th, counted from zero."""

    def __getitem__(self, index: int) -> Expression:
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise PropertyError(f"expected an output number from 0; got {index!r}")
        return Expression({index: Fraction(1)})


y = Outputs()
