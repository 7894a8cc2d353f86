"""VNN-LIB 2.0 as specifications: the standard's own parser, package ``vnnlib``, reads and checks, this takes it over exactly.

Read are networks of one input and one output, with ``equal-to`` and ``isomorphic-to``; ``and or``; ``<= >= < > == !=``
between linear terms. Tensors are counted row by row. Element types are taken as real numbers.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Literal

import vnnlib

from veriflow.errors import PropertyError
from veriflow.queries.constraints import Expression, Formula, Joined
from veriflow.queries.specification import MOST_NUMBERS, DeclaredNetwork, Specification, Tensor, specification

from . import linear_terms as linear

_TYPES = ("Real", "real", "float32", "float64")
_FAILURES = (vnnlib.VNNLibException, UnicodeDecodeError, OverflowError, IndexError)
"""What the parser raises; the latter three where it meets other letters than plain ones, and numbers beyond its own."""

_LONG_INDEX = re.compile(r"[\[,]\s*([0-9]{10,})")
_REAL = re.compile(r"(\(declare-(?:input|output)\s+\w+\s+)Real\b")
_SIGNS: dict[type[vnnlib.Comparison], str] = {
    vnnlib.LessEqual: "<=",
    vnnlib.GreaterEqual: ">=",
    vnnlib.LessThan: "<",
    vnnlib.GreaterThan: ">",
    vnnlib.Equal: "=",
    vnnlib.NotEqual: "distinct",
}

_Definition = vnnlib.InputDefinition | vnnlib.OutputDefinition


def parse_vnnlib2(text: str, name: str = "") -> Specification:
    """The specification that a VNN-LIB 2.0 text states, called ``name`` in reports.

    The nesting of the text must have been checked: the parser is recursive.

    Raises:
        PropertyError: a text that the standard's parser refuses, hidden nodes, several inputs or outputs of a network,
            element types other than Real, float32 and float64, terms that are not linear, more than 4,096 alternatives;
            and what `veriflow.queries.specification.specification` refuses.
    """
    query = _parsed(text)
    declared: list[DeclaredNetwork] = []
    for network in query.networks:
        declared.append(_declared(network, declared))
    reader = _Reader(query.networks)
    common, rows = linear.alternatives([reader.formula(assertion.expr) for assertion in query.assertions])
    return specification(declared, rows, reader.name, name, common)


def _parsed(text: str) -> vnnlib.Query:
    """The parser's tree. The type that the standard calls Real is ``real`` to version 1.0.2, which else errs on constants."""
    if long := _LONG_INDEX.search(text):
        place = f"line {text.count(chr(10), 0, long.start()) + 1}"
        raise PropertyError(f"expected indices and sizes of at most 9 digits at {place}; got {long[1][:40]}")
    try:
        return vnnlib.parse_query_string(text)
    except _FAILURES as error:
        refusal = "a number beyond its range" if isinstance(error, IndexError) else _refusal(str(error))
    try:
        return vnnlib.parse_query_string(_REAL.sub(r"\1real", text))
    except _FAILURES:
        raise PropertyError(f"expected VNN-LIB 2.0; got {refusal}") from None


def _refusal(message: str) -> str:
    """The parser's first complaint, in words."""
    try:
        first = json.loads(message)["errors"][0]
        what, where = str(first["message"]), f"{first['offendingSymbol']!r} in line {first['line']}"
        return f"{what[:1].lower()}{what[1:]} {where}: {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return re.sub(r"^Parse error: ", "a ", message)


def _declared(network: vnnlib.Network, earlier: list[DeclaredNetwork]) -> DeclaredNetwork:
    if network.hidden:
        raise PropertyError(f"expected constraints on inputs and outputs; got hidden nodes of network {network.name!r}")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise PropertyError(
            f"expected networks of one input and one output; got {len(network.inputs)} inputs and "
            f"{len(network.outputs)} outputs of {network.name!r}"
        )
    inputs, outputs = _size(network.inputs[0]), _size(network.outputs[0])
    tensors = (_tensor(network.inputs[0]), _tensor(network.outputs[0]))
    other = network.equal_to or network.isometric_to
    if not other:
        return DeclaredNetwork(inputs, outputs, None, network.name, tensors)
    places = [place for place, known in enumerate(earlier) if known.name == other]
    if not places:
        raise PropertyError(f"expected {network.name!r} to be like a network declared before; got {other!r}")
    like = earlier[places[0]]
    if (like.inputs, like.outputs) != (inputs, outputs):
        raise PropertyError(
            f"expected {network.name!r} to have {like.inputs} inputs and {like.outputs} outputs, as {other!r} has; "
            f"got {inputs} and {outputs}"
        )
    return DeclaredNetwork(inputs, outputs, places[0] if network.equal_to else None, network.name, tensors)


def _tensor(definition: _Definition) -> Tensor:
    return Tensor(definition.name, _kind(definition), tuple(definition.shape))


def _kind(definition: _Definition) -> str:
    return str(definition).split()[2]


def _size(definition: _Definition) -> int:
    kind = _kind(definition)
    if kind not in _TYPES:
        raise PropertyError(f"expected {definition.name} of type {', '.join(_TYPES)}; got {kind}")
    size = math.prod(definition.shape)
    if not 1 <= size <= MOST_NUMBERS:
        got = f"{list(definition.shape[:8])}"
        raise PropertyError(f"expected {definition.name} to have from 1 to {MOST_NUMBERS} entries; got the shape {got}")
    return size


class _Reader:
    """Nodes of the parser's tree as formulas over numbered variables."""

    def __init__(self, networks: tuple[vnnlib.Network, ...]) -> None:
        tensors: list[_Definition] = [n.inputs[0] for n in networks]
        tensors += [n.outputs[0] for n in networks]
        sizes = [math.prod(tensor.shape) for tensor in tensors]
        starts = [0, *accumulate(sizes)]
        self.budget = linear.Budget()
        self.tensors = {t.name: (start, t.shape) for t, start in zip(tensors, starts, strict=False)}

    def name(self, place: int) -> str:
        """The variable of that number, as the file writes it."""
        tensor, (start, shape) = max(
            ((name, found) for name, found in self.tensors.items() if found[0] <= place), key=lambda item: item[1][0]
        )
        indices, rest = [], place - start
        for size in reversed(shape):
            rest, index = divmod(rest, size)
            indices.append(str(index))
        return f"{tensor}[{','.join(reversed(indices))}]" if shape else tensor

    def formula(self, node: vnnlib.BoolExpr) -> Formula:
        if isinstance(node, vnnlib.And | vnnlib.Or):
            junction: Literal["and", "or"] = "and" if isinstance(node, vnnlib.And) else "or"
            if junction == "or":
                linear.check_alternatives(len(node.args), _place(node))
            return Joined(junction, tuple(map(self.formula, node.args)))
        for kind, sign in _SIGNS.items():
            if isinstance(node, kind):
                return linear.comparison(sign, [self.linear(node.lhs), self.linear(node.rhs)], _place(node))
        raise PropertyError(f"expected comparisons, and, or; got {node}")

    def linear(self, node: vnnlib.ArithExpr) -> Expression:
        return self.budget.charged(self._linear(node), _place(node))

    def _linear(self, node: vnnlib.ArithExpr) -> Expression:
        if isinstance(node, vnnlib.Var):
            return linear.variable(self._number(node))
        if isinstance(node, vnnlib.Literal):
            return linear.number(node.lexeme, _place(node))
        if isinstance(node, vnnlib.Negate):
            return linear.difference(self.linear(node.expr), [], _place(node))
        if isinstance(node, vnnlib.Plus):
            return linear.total(map(self.linear, node.args), _place(node))
        if isinstance(node, vnnlib.Minus):
            return linear.difference(self.linear(node.head), [self.linear(part) for part in node.rest], _place(node))
        if isinstance(node, vnnlib.Multiply):
            return linear.product(map(self.linear, node.args), _place(node))
        raise PropertyError(f"expected numbers, variables and + - *; got {node}")

    def _number(self, variable: vnnlib.Var) -> int:
        start, shape = self.tensors[variable.name]
        place = 0
        for index, size in zip(variable.indices, shape, strict=True):
            place = place * size + index
        return start + place


def _place(node: vnnlib.ArithExpr | vnnlib.BoolExpr) -> str:
    """The line that a term is in, by the first variable or number in it."""
    first: vnnlib.Node = node
    while not isinstance(first, vnnlib.Var | vnnlib.Literal):
        first = first.children()[0]
    return f"line {first.line}"
