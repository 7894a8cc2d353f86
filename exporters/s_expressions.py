"""Texts of words and parentheses, as SMT-LIB and VNN-LIB are, with the line and column of every part."""

from __future__ import annotations

import re
from dataclasses import dataclass

from veriflow.errors import PropertyError

DEEPEST_NESTING = 100
"""Most parentheses open at once."""

_TOKEN = re.compile(r"""\s+ | (?P<comment>;.*) | (?P<token>[()] | "[^"]*" | [^\s()";]+) | (?P<unknown>.)""", re.VERBOSE)


@dataclass(frozen=True, slots=True)
class Word:
    """A name, number, operator or quoted string."""

    text: str
    line: int
    column: int

    @property
    def place(self) -> str:
        """Where it stands, both counted from 1."""
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Group:
    """What stands in a pair of parentheses; the place is that of the opening one."""

    parts: tuple[Term, ...]
    line: int
    column: int

    @property
    def place(self) -> str:
        """Where it begins, both counted from 1."""
        return f"line {self.line}, column {self.column}"

    @property
    def text(self) -> str:
        """The beginning of it, for errors."""
        head = self.parts[0] if self.parts else None
        return f"({head.text} …)" if isinstance(head, Word) else "(…)"


Term = Word | Group


def read_terms(text: str) -> tuple[Term, ...]:
    """All terms of a text, comments (from ``;`` to the end of a line) left out.

    Raises:
        PropertyError: parentheses that do not match or are nested more than 100 deep, a quotation mark without another.
    """
    levels: list[list[Term]] = [[]]
    openings: list[Word] = []
    for word in words(text):
        if word.text == "(":
            openings.append(word)
            levels.append([])
            if len(openings) > DEEPEST_NESTING:
                raise PropertyError(f"expected at most {DEEPEST_NESTING} open parentheses at {word.place}; got more")
        elif word.text == ")":
            if not openings:
                raise PropertyError(f"expected '(' or the end at {word.place}; got ')'")
            opening = openings.pop()
            group = Group(tuple(levels.pop()), opening.line, opening.column)
            levels[-1].append(group)
        else:
            levels[-1].append(word)
    if openings:
        raise PropertyError(f"expected ')' for the '(' at {openings[-1].place}; got the end of the text")
    return tuple(levels[0])


def words(text: str) -> list[Word]:
    """The words of a text and its parentheses, one by one.

    Raises:
        PropertyError: a quotation mark without another in its line.
    """
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        for match in _TOKEN.finditer(line):
            if match.lastgroup == "token":
                found.append(Word(match[0], number, match.start() + 1))
            elif match.lastgroup == "unknown":
                place = f"line {number}, column {match.start() + 1}"
                raise PropertyError(f"expected a name, a number, '(' or ')' at {place}; got {match[0]!r}")
    return found
