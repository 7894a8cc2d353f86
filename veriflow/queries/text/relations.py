"""Relations as text: the calls that there are, and how their arguments are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from ...errors import PropertyError
from ...piecewise.graph import Graph
from ...wording import perhaps
from .. import relations
from ..calls import Call, Value, read_call
from ..constraints import Expression
from ..properties import class_number
from ..relations import Relation

MOST_DIGITS = 300
"""Most characters of a number, and its largest exponent."""

ReadNetwork = Callable[[str], Graph]
"""From the name of a file to the network in it."""

ReadScore = Callable[[str], Expression]
"""From a text such as ``y[1] - y[0]`` to the expression."""

_Reader = Callable[[Value], object]


@dataclass(frozen=True)
class _Signature:
    """A relation's constructor, what its parameters are read as, in order, and how many of them must be given."""

    constructor: Callable[..., Relation]
    parameters: Mapping[str, str]
    required: int

    def usage(self, name: str) -> str:
        parts = [key if place < self.required else f"{key}=…" for place, key in enumerate(self.parameters)]
        return f"{name}({', '.join(parts)})"


_PERTURBED = {"scale": "scale", "tolerance": "number"}
SIGNATURES: Mapping[str, _Signature] = {
    "robust": _Signature(relations.robust, {"eps": "number", "norm": "number", "c": "class", **_PERTURBED}, 1),
    "fair": _Signature(
        relations.fair,
        {"feature": "name", "values": "numbers", "within": "range", "allow": "ranges", "tolerance": "number"},
        1,
    ),
    "monotone": _Signature(
        relations.monotone,
        {"feature": "name", "output": "score", "increasing": "yes or no", "by": "number", "tolerance": "number"},
        1,
    ),
    "lipschitz": _Signature(
        relations.lipschitz,
        {"bound": "fraction", "norm": "number", "eps": "number", "output": "score", **_PERTURBED},
        3,
    ),
    "equivalent": _Signature(relations.equivalent, {"other": "network", "tolerance": "number"}, 2),
    "same_decision": _Signature(relations.same_decision, {"other": "network", "tolerance": "number"}, 1),
    "abstains_outside": _Signature(relations.abstains_outside, {"delta": "number", "reach": "number"}, 1),
}
"""The relations by name."""


def parse_relation(
    text: str, read_score: ReadScore, read_network: ReadNetwork | None, classes: Sequence[str] = ()
) -> Relation:
    """The relation that a call such as ``fair(sex, 0, 1, allow=[age: 5])`` states.

    Raises:
        PropertyError: a text that is no call of a relation, arguments that do not fit it.
    """
    call = read_call(text)
    signature = SIGNATURES[call.name]
    given = _assigned(call, signature)
    readers: dict[str, _Reader] = {
        **_READERS,
        "score": partial(_score, read_score=read_score),
        "class": partial(_class, classes=classes),
    }
    values = {key: _read(value, key, signature.parameters[key], readers) for key, value in given.items()}
    if "other" in values:
        if read_network is None:
            raise PropertyError(f"expected a reader of network files for {call.name}(…); got none")
        values = {**values, "other": read_network(values["other"]), "name": values["other"]}
    return signature.constructor(**values)


def _assigned(call: Call, signature: _Signature) -> dict[str, Value]:
    arguments = call.arguments
    if call.name == "fair" and len(arguments) > 1 and isinstance(arguments[1], str):
        arguments = [arguments[0], arguments[1:]]
    names = list(signature.parameters)
    given = dict(zip(names, arguments, strict=False))
    unknown = [name for name in call.options if name not in names or name in given]
    given |= call.options
    missing = [name for name in names[: signature.required] if name not in given]
    if len(arguments) > len(names) or unknown or missing:
        if unknown:
            wrong = f"{unknown[0]}=…{perhaps(unknown[0], names)}"
        else:
            wrong = f"no {missing[0]}" if missing else f"{len(arguments)} arguments"
        raise PropertyError(f"expected {signature.usage(call.name)}; got {wrong}")
    return given


def _read(value: Value, key: str, kind: str, readers: Mapping[str, _Reader]) -> Any:  # noqa: ANN401
    try:
        return readers[kind](value)
    except PropertyError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise PropertyError(f"expected {_KINDS.get(kind, f'a {kind}')} for {key}; got {str(value)[:80]!r}") from None


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _rational(value: Value) -> Fraction:
    """The decimal or quotient as it is written, exactly; OverflowError where it is too long."""
    text = _text(value)
    exponents = re.findall(r"[eE][+-]?0*([0-9]+)", text)
    if len(text) > MOST_DIGITS or any(len(digits) > 3 or int(digits) > MOST_DIGITS for digits in exponents):
        raise OverflowError
    return Fraction(text)


def _number(value: Value) -> float:
    text = _text(value)
    return float(_rational(value)) if "/" in text else float(text)


def _whole(value: Value) -> int:
    text = _text(value)
    if len(text) > MOST_DIGITS:
        raise OverflowError
    return int(text)


def _numbers(value: Value) -> list[float]:
    if not isinstance(value, list):
        raise TypeError
    return [_number(item) for item in value]


def _range(value: Value) -> tuple[float, float]:
    low, high = _numbers(value)
    return low, high


def _ranges(value: Value) -> dict[str, float | tuple[float, float]]:
    if not isinstance(value, dict):
        raise TypeError
    return {name: _range(reach) if isinstance(reach, list) else _number(reach) for name, reach in value.items()}


def _yes(value: Value) -> bool:
    if value not in ("yes", "no"):
        raise ValueError
    return value == "yes"


def _score(value: Value, read_score: ReadScore) -> int | Expression:
    text = _text(value)
    return _whole(text) if text.isdecimal() else read_score(text)


def _class(value: Value, classes: Sequence[str]) -> int:
    text = _text(value)
    return _whole(text) if text.isdecimal() else class_number(text, classes)


_KINDS = {
    "number": "a number",
    "fraction": "a number of at most 300 digits",
    "numbers": "a list of numbers such as [0, 1]",
    "range": "a list of two numbers",
    "ranges": "a list such as [age: 5]",
    "scale": "a list of numbers or 'deviation'",
    "yes or no": "yes or no",
    "score": "an output such as y[0], or a linear expression of outputs,",
}
_READERS: Mapping[str, _Reader] = {
    "number": _number,
    "fraction": _rational,
    "name": _text,
    "network": _text,
    "numbers": _numbers,
    "range": _range,
    "ranges": _ranges,
    "scale": lambda value: value if value == "deviation" else _numbers(value),
    "yes or no": _yes,
}
