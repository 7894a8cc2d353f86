"""What JSON documents in files must be: forms of values, checked before anything is built from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import StorageError


@dataclass(frozen=True)
class Form:
    """What a value must be, in words and as a test."""

    text: str
    fits: Callable[[object], bool]


OBJECT = Form("an object", lambda value: isinstance(value, dict))
FLAG = Form("true or false", lambda value: isinstance(value, bool))
TEXT = Form("a text", lambda value: isinstance(value, str))

_FRACTION = re.compile("-?[0-9]{1,4000}(/0*[1-9][0-9]{0,4000})?")  # Python makes no longer numbers of texts
FRACTION = Form("a fraction", lambda value: isinstance(value, str) and _FRACTION.fullmatch(value) is not None)


def whole(least: int, most: float = math.inf) -> Form:
    """A whole number from least to most."""
    return Form(
        f"a whole number from {least} {'on' if most == math.inf else f'to {most}'}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def number(least: float = -math.inf, most: float = math.inf) -> Form:
    """A finite number from least to most, not too large for a float."""

    def fits(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) < 2**1023 and least <= value <= most

    return Form("a finite number" if least == -most else f"a number from {least:g} to {most:g}", fits)


def one_of(*values: str | int) -> Form:
    """One of some values."""
    return Form(
        " or ".join(map(repr, values)),
        lambda value: isinstance(value, str | int | float) and not isinstance(value, bool) and value in values,
    )


def list_of(form: Form, least: int = 0, most: float = math.inf) -> Form:
    """A list of so many values, each of the form."""
    return Form(
        f"a list of values that are each {form.text}" + (f", {least} to {most}" if most < math.inf else ""),
        lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(form.fits, value)),
    )


def none_or(form: Form) -> Form:
    """Null or a value of the form."""
    return Form(f"null or {form.text}", lambda value: value is None or form.fits(value))


def check_record(
    value: object, fields: Mapping[str, Form], what: str, optional: Mapping[str, Form] | None = None
) -> None:
    """Refuse what is no JSON object of exactly these fields.

    Raises:
        StorageError: ``what``, and then the first field that is missing, unknown or has another form.
    """
    forms = {**fields, **(optional or {})}
    if not isinstance(value, dict):
        raise StorageError(f"{what}: {_shown(value)}, not an object")
    for name, form in forms.items():
        if name not in value and name in fields:
            raise StorageError(f"{what}: no {name!r}")
        if name in value and not form.fits(value[name]):
            raise StorageError(f"{what}: {name!r} is {_shown(value[name])}, not {form.text}")
    if unknown := sorted(value.keys() - forms.keys()):
        raise StorageError(f"{what}: an unknown {unknown[0][:80]!r}")


def _shown(value: object) -> str:
    """The value in a few words; a list or object by its kind, as it may be as deep and long as it likes."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)} values"
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a number of many digits"
    return repr(value[:80] if isinstance(value, str) else value)
