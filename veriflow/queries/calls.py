"""Calls as text, such as ``fair(sex, [0, 1], allow=[age: 5])``: written and parsed; what they mean is decided elsewhere.

::

    call     = name "(" [argument ("," argument)*] ")"
    argument = [name "="] value
    value    = "[" [item ("," item)*] "]" | text
    item     = value | text ":" value
    text     = quoted, or plain with its brackets in pairs, such as y[1] - y[0]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import PropertyError

Value = str | list["Value"] | dict[str, "Value"]

DEEPEST_NESTING = 40
"""Most brackets open at once."""

_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)")
_QUOTED = re.compile(r"""\s*(['"])(.*?)\1\s*""", re.DOTALL)
_PAIRS = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Call:
    """A name, its arguments in order, and those that are named."""

    name: str
    arguments: list[Value]
    options: dict[str, Value]


def call_name(text: str) -> str | None:
    """The name that the text begins with, if a parenthesis follows it."""
    match = _NAME.match(text)
    return match[1] if match else None


def read_call(text: str) -> Call:
    """The call that the text is.

    Raises:
        PropertyError: a text that is no call, brackets that do not pair, an option given twice.
    """
    reader = _Reader(text)
    return reader.call()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.nesting = 0

    def call(self) -> Call:
        match = _NAME.match(self.text)
        if match is None:
            raise self.error("a name and '('")
        self.place = match.end()
        call = Call(match[1], [], {})
        while not self.took(")"):
            if call.arguments or call.options:
                self.need(",")
            if key := _KEY.match(self.text, self.place):
                if key[1] in call.options:
                    raise self.error(f"{key[1]} once")
                self.place = key.end()
                call.options[key[1]] = self.value(",)")
            elif call.options:
                raise self.error("named arguments after the first of them")
            else:
                call.arguments.append(self.value(",)"))
        if self.text[self.place :].strip():
            raise self.error(f"nothing after {call.name}(…), which stands alone,")
        return call

    def value(self, ends: str) -> Value:
        if not self.took("["):
            return self.plain(ends)
        self.nesting += 1
        if self.nesting > DEEPEST_NESTING:
            raise self.error(f"at most {DEEPEST_NESTING} open brackets")
        items: list[Value] = []
        named: dict[str, Value] = {}
        while not self.took("]"):
            if items or named:
                self.need(",")
            item = self.value(",:]")
            if isinstance(item, str) and self.took(":"):
                named[item] = self.value(",]")
            else:
                items.append(item)
        if items and named:
            raise self.error("all items of a list with a name, or none,")
        self.nesting -= 1
        return named or items

    def plain(self, ends: str) -> str:
        if quoted := _QUOTED.match(self.text, self.place):
            self.place = quoted.end()
            return quoted[2]
        start, open_brackets = self.place, ""
        while self.place < len(self.text):
            sign = self.text[self.place]
            if sign in _PAIRS:
                open_brackets += _PAIRS[sign]
                if len(open_brackets) > DEEPEST_NESTING:
                    raise self.error(f"at most {DEEPEST_NESTING} open brackets")
            elif open_brackets and sign == open_brackets[-1]:
                open_brackets = open_brackets[:-1]
            elif not open_brackets and sign in ends:
                break
            self.place += 1
        found = self.text[start : self.place].strip()
        if not found:
            raise self.error("a value")
        return found

    def took(self, sign: str) -> bool:
        while self.text[self.place : self.place + 1].isspace():
            self.place += 1
        if self.text[self.place : self.place + 1] != sign:
            return False
        self.place += 1
        return True

    def need(self, sign: str) -> None:
        if not self.took(sign):
            raise self.error(repr(sign))

    def error(self, expected: str) -> PropertyError:
        got = self.text[self.place : self.place + 20].strip()
        return PropertyError(
            f"expected {expected} at column {self.place + 1} of the property; got {repr(got) if got else 'the end'}"
        )


def write_call(name: str, *arguments: object, **options: object) -> str:
    """The call as text that `read_call` reads; values are numbers, texts, and lists and mappings of them."""
    parts = [*map(_written, arguments), *(f"{key}={_written(value)}" for key, value in options.items())]
    return f"{name}({', '.join(parts)})"


def number_text(value: float) -> str:
    """The shortest decimal that reads as the same float, without a point where it is whole."""
    return repr(float(value)).removesuffix(".0")


def _written(value: object) -> str:
    if isinstance(value, Mapping):
        return "[" + ", ".join(f"{_written(name)}: {_written(reach)}" for name, reach in value.items()) + "]"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, float):
        return number_text(value)
    text = str(value)
    if re.fullmatch(r"[^\s,=:()\[\]'\"]([^,=:()\[\]'\"]*[^\s,=:()\[\]'\"])?|[-+*/.\w\s]*y\[[-+*/.\w\s\[\]]*", text):
        return text
    return f'"{text}"' if "'" in text else f"'{text}'"
