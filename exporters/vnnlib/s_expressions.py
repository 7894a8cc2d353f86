"""Texts of words and parentheses, as SMT-LIB and VNN-LIB are, with the line and column of every part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from veriflow.errors import PropertyError

DEEPEST_NESTING = 100
"""Most parentheses open at once."""

MOST_WORDS = 500_000
"""Most words and parentheses in a text."""

LONGEST_WORD = 10_000
"""Most characters of a word."""

_TOKEN = re.compile(
    r"""(?: \s+ | ;.* )++ | (?P<token>[()] | "[^"\n]*" | [^\s()";|]+) | \|(?P<quoted>[^|\n]*)\| | (?P<unknown>.)""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Word(NamedTuple):
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
        PropertyError: parentheses that do not match, are nested more than 100 deep or are too many; as `words`.
    """
    if (parentheses := text.count("(") + text.count(")")) > MOST_WORDS:
        raise PropertyError(f"expected at most {MOST_WORDS} words and parentheses; got {parentheses} parentheses")
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


def words(text: str) -> Iterator[Word]:
    """The words of a text and its parentheses, one by one; a symbol in bars, ``|X_0|``, is the same one without them.

    Raises:
        PropertyError: a quotation mark or bar without another in its line, too many words, a word that is too long.
    """
    count, line, begin = 0, 1, 0
    for match in _TOKEN.finditer(text):
        kind, start = match.lastgroup, match.start()
        if kind is None:
            if breaks := match[0].count("\n"):
                line, begin = line + breaks, text.rindex("\n", start, match.end()) + 1
            continue
        found, count = match[0], count + 1
        place = Word(found, line, start - begin + 1)
        if kind == "unknown":
            raise PropertyError(f"expected a name, a number, '(' or ')' at {place.place}; got {found!r}")
        if count > MOST_WORDS:
            raise PropertyError(f"expected at most {MOST_WORDS} words and parentheses; got more")
        if len(found) > LONGEST_WORD:
            raise PropertyError(
                f"expected words of at most {LONGEST_WORD} characters at {place.place}; got {len(found)}"
            )
        if kind == "quoted" and _PLAIN.fullmatch(match["quoted"]):
            place = place._replace(text=match["quoted"])
        yield place
