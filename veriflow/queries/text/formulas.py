"""Properties as text: a small grammar, read by recursive descent.

::

    formula     = conjunction (("|" | "or") conjunction)*
    conjunction = negation (("&" | "and") negation)*
    negation    = ("!" | "~" | "not")* comparison
    comparison  = sum ((">=" | "<=" | ">" | "<" | "==") sum)*
    sum         = product (("+" | "-") product)*
    product     = signed (("*" | "/") signed)*
    signed      = ("+" | "-")* value
    value       = number | output | "(" formula ")" | name "(" (class | sum) ("," sum)* ")"
    output      = "y[3]" or "Y_3"
    class       = "any" | a word or a quoted text that the network's file has as the name of a class
    name        = "classified_as" | "never_confidently_wrong" | "output_between"

Parentheses hold formulas and sums alike; what came out of them decides what may be done with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal, TypeVar

from ...errors import PropertyError
from ...wording import perhaps
from ..calls import call_name
from ..constraints import Expression, Formula, Joined, total, y
from ..properties import Property, class_number, classified_as, confident, never_confidently_wrong, output_between
from ..rationals import has_digits, read_decimal
from ..relations import Relation
from .relations import SIGNATURES, ReadNetwork, parse_relation

LONGEST_TEXT = 100_000
"""Most characters in the text of a property."""

DEEPEST_NESTING = 40
"""Most parentheses open at once."""

MOST_DIGITS = 300
"""Most digits in the numerator and in the denominator of a number, written or computed."""

Statement = Callable[[int], Formula]
"""From the number of outputs to the formula."""

_Read = TypeVar("_Read")

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | [yY](?:_|(?P<bracket>\s*\[\s*))(?P<output>[0-9]{1,9})(?(bracket)\s*\]|\b)
      | (?P<quoted>"[^"]*"|'[^']*')
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign>[<>]=?|==|[-+*/()|&!~,])
      | (?P<end>\Z)
      | (?P<unknown>.)
    )""",
    re.VERBOSE | re.DOTALL,
)

_SYNONYMS = {"or": "|", "and": "&", "not": "!", "~": "!"}

_COMPARISONS: dict[str, Callable[[Expression, Expression], Formula]] = {
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    "==": lambda left, right: (left >= right) & (left <= right),
}

PROPERTIES: dict[str, tuple[Callable[..., Property], tuple[str, ...]]] = {
    "classified_as": (classified_as, ("classified_as(class)", "classified_as(class, margin)")),
    "never_confidently_wrong": (never_confidently_wrong, ("never_confidently_wrong(class, probability)",)),
    "output_between": (output_between, ("output_between(output, low, high)",)),
    "confident": (confident, ("confident(class, margin)", "confident(any, margin)")),
}
"""Named properties: what makes each from its numbers, and how it is written. One that is added here is read from text."""


def parse_property(
    text: str, read_network: ReadNetwork | None = None, classes: Sequence[str] = ()
) -> Property | Relation:
    """The property that a text such as ``"y[1] - y[0] >= 0.5 | !(0 <= Y_2 <= 1e-3)"`` states.

    Decimals are taken as the exact rationals they are written as; ``a == b`` stands for ``a >= b & a <= b``, and
    ``0 <= y[0] <= 1`` for both comparisons. The constructors `classified_as`, `never_confidently_wrong` and
    `output_between` may stand wherever a comparison may; their numbers become float64, as in Python.
    The grammar is in the docstring of this module. Nothing is evaluated as code.

    A relation of several points or networks (`veriflow.queries.relations`), such as ``fair(sex, 0, 1)``, is the whole text.

    Args:
        text: the property.
        read_network: reads the network file that a relation names, such as `read_onnx`.
        classes: names that may stand for the numbers of classes, as in ``classified_as('benign')``.

    Raises:
        PropertyError: text that the grammar does not allow, with the column (counted from 1) and what was expected
            there; a product of outputs, a division by zero; more than 100,000 characters, 40 open parentheses or
            300 digits.
    """
    _check_length(text)
    if call_name(text) in SIGNATURES:
        return parse_relation(text, lambda score: _Parser(score).score(), read_network, classes)
    parser = _Parser(text, classes)
    statement = parser.statement()
    return Property(" ".join(text.split()), statement, parser.of_logits)


def parse_score(text: str) -> Expression:
    """The linear expression over outputs that a text such as ``"y[1] - 0.5*y[0]"`` states.

    Raises:
        PropertyError: as `parse_property`.
    """
    _check_length(text)
    return _Parser(text).score()


def _check_length(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise PropertyError(f"expected a property of at most {LONGEST_TEXT} characters; got {len(text)}")


@dataclass(frozen=True)
class _Token:
    kind: str
    value: str
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        written = match[0].strip()
        sign = _SYNONYMS.get(written)
        column = match.end() - len(match[0].lstrip()) + 1
        found.append(_Token("sign" if sign else kind, sign or match[kind], written, column))
        if kind == "end":
            break
    return found


class _Parser:
    """One method for each rule of the grammar, each reading from the current token on."""

    def __init__(self, text: str, classes: Sequence[str] = ()) -> None:
        self._tokens = _tokens(text)
        self._classes = classes
        self._position = 0
        self._nesting = 0
        self.of_logits = True

    def statement(self) -> Statement:
        """The whole text as one statement."""
        statement = self._as_statement(self._formula())
        if self._token.kind != "end":
            raise self._error("'&', '|' or the end")
        return statement

    def score(self) -> Expression:
        """The whole text as one linear expression."""
        start = self._token
        score = self._as_expression(self._sum(), start)
        if self._token.kind != "end":
            raise self._error("'+', '-' or the end")
        return score

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _at(self, *signs: str) -> bool:
        return self._token.kind == "sign" and self._token.value in signs

    def _take(self, *signs: str) -> str | None:
        if not self._at(*signs):
            return None
        self._position += 1
        return self._tokens[self._position - 1].value

    def _error(self, expected: str, token: _Token | None = None, got: str | None = None) -> PropertyError:
        token = token or self._token
        got = got or (repr(token.text) if token.text else "the end")
        return PropertyError(f"expected {expected} at column {token.column} of the property; got {got}")

    def _as_statement(self, value: Statement | Expression) -> Statement:
        if isinstance(value, Expression):
            raise self._error("a comparison (>=, <=, >, < or ==)")
        return value

    def _as_expression(self, value: Statement | Expression, start: _Token) -> Expression:
        if not isinstance(value, Expression):
            raise self._error("a linear expression", start, "a comparison")
        return value

    def _formula(self) -> Statement | Expression:
        return self._joined("or", "|", self._conjunction)

    def _conjunction(self) -> Statement | Expression:
        return self._joined("and", "&", self._negation)

    def _joined(
        self, junction: Literal["and", "or"], sign: str, read: Callable[[], Statement | Expression]
    ) -> Statement | Expression:
        first = read()
        if not self._at(sign):
            return first
        parts = [self._as_statement(first)]
        while self._take(sign):
            parts.append(self._as_statement(read()))
        return lambda outputs: Joined(junction, tuple(part(outputs) for part in parts))

    def _negation(self) -> Statement | Expression:
        start = self._position
        while self._take("!"):
            pass
        signs = self._position - start
        value = self._comparison()
        if not signs:
            return value
        statement = self._as_statement(value)
        return (lambda outputs: ~statement(outputs)) if signs % 2 else statement

    def _comparison(self) -> Statement | Expression:
        start = self._token
        value = self._sum()
        parts: list[Formula] = []
        left, sign = value, self._take(*_COMPARISONS)
        while sign:
            right_start = self._token
            right = self._sum()
            parts.append(_COMPARISONS[sign](self._as_expression(left, start), self._as_expression(right, right_start)))
            left, start, sign = right, right_start, self._take(*_COMPARISONS)
        if not parts:
            return value
        formula = parts[0] if len(parts) == 1 else Joined("and", tuple(parts))
        return lambda outputs: formula

    def _sum(self) -> Statement | Expression:
        start = self._token
        value = self._product()
        if not self._at("+", "-"):
            return value
        first = self._as_expression(value, start)

        def terms() -> Iterator[Expression]:
            nonlocal start
            yield first
            while sign := self._take("+", "-"):
                start = self._token
                term = self._as_expression(self._product(), start)
                yield term if sign == "+" else -term

        return total(terms(), lambda number: self._bounded(number, start))

    def _product(self) -> Statement | Expression:
        start = self._token
        value = self._signed()
        sign = self._take("*", "/")
        if not sign:
            return value
        body, factor = self._as_expression(value, start), Fraction(1)
        while sign:
            start = self._token
            right = self._as_expression(self._signed(), start)
            if right.coefficients:
                if sign == "/" or body.coefficients:
                    raise self._error("a number, as outputs enter linearly,", start)
                body, right = right, body
            if sign == "/" and not right.constant:
                raise self._error("a divisor other than zero", start)
            factor = self._bounded(factor * right.constant if sign == "*" else factor / right.constant, start)
            sign = self._take("*", "/")
        return body.times(factor, lambda number: self._bounded(number, start))

    def _signed(self) -> Statement | Expression:
        factor, signed = 1, False
        while sign := self._take("+", "-"):
            factor, signed = (-factor if sign == "-" else factor), True
        start = self._token
        value = self._value()
        return self._as_expression(value, start) * factor if signed else value

    def _value(self) -> Statement | Expression:
        token = self._token
        if self._take("("):
            return self._parenthesised(self._formula)
        if token.kind not in ("number", "output", "word"):
            raise self._error("a number, an output such as y[0], or '('")
        self._position += 1
        if token.kind == "number":
            return Expression({}, self._number(token))
        if token.kind == "word":
            return self._named(token)
        self.of_logits = False
        return y[int(token.value)]

    def _parenthesised(self, read: Callable[[], _Read]) -> _Read:
        self._nesting += 1
        if self._nesting > DEEPEST_NESTING:
            raise self._error(f"at most {DEEPEST_NESTING} open parentheses", got="more")
        value = read()
        if not self._take(")"):
            raise self._error("')'")
        self._nesting -= 1
        return value

    def _named(self, name: _Token) -> Statement:
        if name.value in SIGNATURES:
            raise self._error(f"a formula, or {name.value}(…) alone,", name)
        if name.value not in PROPERTIES:
            known = [*PROPERTIES, *SIGNATURES]
            got = f"{name.text!r}{perhaps(name.text, known)}"
            raise self._error(f"a number, an output such as y[0], or one of {', '.join(known)}", name, got)
        constructor, usages = PROPERTIES[name.value]
        if not self._take("("):
            raise self._error("'('")
        start = self._token
        takes_any = any("(any," in usage for usage in usages)
        takes_class = any("(class," in usage for usage in usages)
        index, *numbers = self._parenthesised(partial(self._arguments, takes_any, takes_class))
        if 1 + len(numbers) not in [usage.count(",") + 1 for usage in usages]:
            raise self._error(" or ".join(usages), name, f"{1 + len(numbers)} numbers")
        if index is not None and (index.denominator != 1 or index < 0):
            raise self._error("the number of an output, counted from 0,", start)
        prop = constructor(None if index is None else int(index), *map(float, numbers))
        self.of_logits = self.of_logits and prop.of_logits
        return prop.formula

    def _arguments(self, takes_any: bool, takes_class: bool) -> list[Any]:
        """Numbers, the first of them the number of a class that is named, or None where it may be the word any and is."""
        numbers: list[Any] = []
        token = self._token
        is_any = takes_any and token.value == "any"
        if is_any or (takes_class and (token.kind in ("word", "quoted") and token.value not in PROPERTIES)):
            self._position += 1
            name = token.value[1:-1] if token.kind == "quoted" else token.value
            numbers.append(None if is_any else Fraction(class_number(name, self._classes)))
            if not self._take(","):
                return numbers
        sign: str | None = ","
        while sign:
            start = self._token
            value = self._as_expression(self._sum(), start)
            if value.coefficients:
                raise self._error("a number", start)
            numbers.append(value.constant)
            sign = self._take(",")
        return numbers

    def _number(self, token: _Token) -> Fraction:
        number = read_decimal(token.value, MOST_DIGITS)
        if number is None:
            raise self._too_long(token)
        return number

    def _bounded(self, value: Fraction, token: _Token) -> Fraction:
        if not has_digits(value, MOST_DIGITS):
            raise self._too_long(token)
        return value

    def _too_long(self, token: _Token) -> PropertyError:
        return self._error(f"a number whose numerator and denominator have at most {MOST_DIGITS} digits", token, "more")
