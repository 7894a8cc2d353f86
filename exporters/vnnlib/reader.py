"""VNN-LIB files, versions 1.0 and 2.0, as specifications.

Version 1.0 is SMT-LIB over the constants X_0, X_1, … and Y_0, Y_1, …, as the verification competitions write it
(https://www.vnnlib.org). Version 2.0 begins with ``(vnnlib-version <2.0>)`` and is read by `reader_v2`. All top-level
assertions are one conjunction. Numbers are kept as written; what cannot be read exactly is refused.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from veriflow.errors import PropertyError, StorageError
from veriflow.files.whole_files import read_bytes
from veriflow.queries.constraints import Expression, Formula, Joined
from veriflow.queries.rationals import is_decimal
from veriflow.queries.specification import DeclaredNetwork, Specification, specification
from veriflow.wording import shortened

from . import linear_terms as linear
from .s_expressions import Group, Term, Word, read_terms

_log = logging.getLogger(__name__)

MOST_BYTES = 2**25
_LONG_NUMBER = re.compile(r"[0-9]{20,}")
_MOST_DIGITS = linear.MOST_BITS // 4
"""More do not fit into the room of a text's terms: counted first, as all else takes seconds for them."""

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_COMPARISONS = ("<=", ">=", "<", ">", "=", "distinct")
_OPERATORS = ("+", "-", "*", "/")
_IGNORED = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")


def read_vnnlib(path: str | Path) -> Specification:
    """The specification in a VNN-LIB file of either version.

    Raises:
        StorageError: a file that is missing, larger than 32 MiB or no text.
        PropertyError: as `parse_vnnlib`.
    """
    path = Path(path)
    try:
        text = io.StringIO(read_bytes(path, MOST_BYTES).decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError:
        raise StorageError(f"expected a VNN-LIB file, which is text; got other bytes in {str(path)!r}") from None
    spec = parse_vnnlib(text, path.name)
    _log.info("read %s: %d inputs, %d outputs, %d boxes", path, spec.inputs, spec.outputs, len(spec.cases))
    return spec


def parse_vnnlib(text: str, name: str = "") -> Specification:
    """The specification that a VNN-LIB text states, called ``name`` in reports.

    Read are: constants X_i and Y_i of sort Real; ``and or not``; ``<= >= < > = distinct`` between linear terms made with
    ``+ - * /`` from variables and decimals. Bounds of single inputs become boxes.

    Raises:
        PropertyError: version 2.0 without the package ``vnnlib``; a text that is not VNN-LIB, with the line and column;
            something else in it; more than 4,096 alternatives; what `veriflow.queries.specification.specification` refuses.
    """
    digits = sum(found.end() - found.start() for found in _LONG_NUMBER.finditer(text))
    if digits > _MOST_DIGITS:
        raise PropertyError(f"expected at most {_MOST_DIGITS} digits in numbers of 20 digits and more; got {digits}")
    terms = read_terms(text.removeprefix("\ufeff"))
    if not terms:
        raise PropertyError("expected a VNN-LIB property; got a text without assertions")
    if _head(terms[0]) == "vnnlib-version":
        _check_version(terms[0])
        return _version_two(text, name)
    inputs, outputs = _declared(terms)
    reader = _Assertions(inputs, outputs)
    assertions = [reader.formula(term) for term in map(_asserted, terms) if term is not None]
    if not assertions:
        raise PropertyError("expected a VNN-LIB property; got a text without assertions")
    common, rows = linear.alternatives(assertions)
    return specification([DeclaredNetwork(inputs, outputs)], rows, _names(inputs), name, common)


def _check_version(term: Term) -> None:
    """The parser of version 2.0 takes others too and prints warnings."""
    if not isinstance(term, Group) or [part.text for part in term.parts[1:]] != ["<2.0>"]:
        got = " ".join(part.text for part in term.parts[1:]) if isinstance(term, Group) else term.text
        raise PropertyError(f"expected the version <2.0> at {term.place}; got {shortened(got)!r}")


def _version_two(text: str, name: str) -> Specification:
    try:
        from .reader_v2 import parse_vnnlib2  # noqa: PLC0415 - not every platform has the parser
    except ImportError:
        raise PropertyError(
            "expected the package 'vnnlib' to read VNN-LIB 2.0; it is not installed (pip install vnnlib)"
        ) from None
    return parse_vnnlib2(text, name)


def _names(inputs: int) -> Callable[[int], str]:
    return lambda place: f"X_{place}" if place < inputs else f"Y_{place - inputs}"


def _head(term: Term) -> str:
    if isinstance(term, Group) and term.parts and isinstance(term.parts[0], Word):
        return term.parts[0].text
    raise PropertyError(
        f"expected a command such as (declare-const …) or (assert …) at {term.place}; got {term.text!r}"
    )


def _declared(terms: Sequence[Term]) -> tuple[int, int]:
    """How many inputs and outputs are declared, each from 0 on without a gap."""
    found: dict[str, set[int]] = {"X": set(), "Y": set()}
    for term in terms:
        head = _head(term)
        if not isinstance(term, Group) or head not in ("declare-const", "declare-fun"):
            continue
        name, *sorts = term.parts[1:] or [term]
        if head == "declare-fun" and sorts and isinstance(sorts[0], Group) and not sorts[0].parts:
            sorts = sorts[1:]
        match = _VARIABLE.fullmatch(name.text)
        if match is None:
            raise PropertyError(f"expected a constant X_i or Y_i to be declared at {name.place}; got {name.text!r}")
        if [part.text for part in sorts] != ["Real"]:
            got = shortened(" ".join(part.text for part in sorts)) or "nothing"
            raise PropertyError(f"expected the sort Real for {name.text} at {name.place}; got {got}")
        kind, index = match[1], int(match[2])
        if index in found[kind]:
            raise PropertyError(f"expected {name.text} to be declared once; got it again at {name.place}")
        found[kind].add(index)
    for kind, indices in found.items():
        if indices != set(range(len(indices))) or not indices:
            missing = min(set(range(len(indices) + 1)) - indices)
            raise PropertyError(
                f"expected the constants {kind}_0, {kind}_1, … to be declared; got none for {kind}_{missing}"
            )
    return len(found["X"]), len(found["Y"])


def _asserted(term: Term) -> Term | None:
    """What a command asserts, or None where it asserts nothing."""
    head = _head(term)
    if head in (*_IGNORED, "declare-const", "declare-fun"):
        return None
    if head != "assert" or not isinstance(term, Group):
        raise PropertyError(f"expected declare-const or assert at {term.place}; got {head!r}")
    if len(term.parts) != 2:
        raise PropertyError(f"expected one formula after assert at {term.place}; got {len(term.parts) - 1}")
    return term.parts[1]


class _Assertions:
    """Terms as formulas over the declared constants."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.budget = linear.Budget()

    def formula(self, term: Term, is_negated: bool = False) -> Formula:
        if not isinstance(term, Group) or not term.parts:
            raise PropertyError(f"expected a comparison, and, or, not at {term.place}; got {term.text!r}")
        head, *arguments = term.parts
        if head.text in ("and", "or"):
            _check_count(term, 1)
            junction: Literal["and", "or"] = "and" if (head.text == "and") != is_negated else "or"
            if junction == "or":
                linear.check_alternatives(len(arguments), term.place)
            return Joined(junction, tuple(self.formula(part, is_negated) for part in arguments))
        if head.text == "not":
            _check_count(term, 1, 1)
            return self.formula(arguments[0], not is_negated)
        if head.text in _COMPARISONS:
            _check_count(term, 2)
            formula = linear.comparison(head.text, [self.linear(part) for part in arguments], term.place)
            return ~formula if is_negated else formula
        raise PropertyError(f"expected a comparison, and, or, not at {term.place}; got {head.text!r}")

    def linear(self, term: Term) -> Expression:
        return self.budget.charged(self._linear(term), term.place)

    def _linear(self, term: Term) -> Expression:
        if isinstance(term, Word):
            return linear.number(term.text, term.place) if is_decimal(term.text) else self._variable(term)
        head, *arguments = term.parts or (Word("", term.line, term.column),)
        if head.text not in _OPERATORS:
            raise PropertyError(f"expected a number, a constant or + - * / at {term.place}; got {head.text!r}")
        _check_count(term, 2 if head.text == "/" else 1)
        first, *rest = (self.linear(part) for part in arguments)
        if head.text == "+":
            return linear.total([first, *rest], term.place)
        if head.text == "*":
            return linear.product([first, *rest], term.place)
        return (linear.difference if head.text == "-" else linear.quotient)(first, rest, term.place)

    def _variable(self, word: Word) -> Expression:
        match = _VARIABLE.fullmatch(word.text)
        if match is None or int(match[2]) >= (self.inputs if match[1] == "X" else self.outputs):
            raise PropertyError(f"expected a number or a declared constant at {word.place}; got {word.text!r}")
        return linear.variable(int(match[2]) + (self.inputs if match[1] == "Y" else 0))


def _check_count(term: Group, least: int, most: int | None = None) -> None:
    found = len(term.parts) - 1
    if found < least or (most is not None and found > most):
        count = f"{least}" if least == most else f"{least} or more"
        raise PropertyError(f"expected {count} arguments of {term.parts[0].text!r} at {term.place}; got {found}")
