"""Properties of networks that end in a sigmoid, a softmax or an argmax, as properties of the numbers before it (the logits)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np

from ..errors import PropertyError
from ..piecewise.build import fresh, with_map
from ..piecewise.graph import Graph
from .constraints import Atom, Constraint, Disjunction, Formula, Joined
from .properties import Property
from .relations import Relation
from .specification import Case, DeclaredNetwork, Row, Specification

EndingName = Literal["sigmoid", "softmax", "log-softmax", "argmax"]
"""What stands after the logits: elementwise sigmoid; softmax or its logarithm; the number of the first largest logit."""


class LogitEnding(NamedTuple):
    """What stands after a network's logits, how many logits there are, and what an argmax has in place of 0, 1, …."""

    kind: EndingName
    logits: int
    labels: tuple[int | str, ...] = ()


WEAKENED = "thresholds on logits rounded in the 15th digit, so that more inputs count as violations"


def specification_on_logits(
    spec: Specification, endings: Sequence[LogitEnding | tuple[EndingName, int] | None]
) -> Specification:
    """The specification of networks without their endings: logits satisfy it where the outputs satisfy the given one.

    A threshold such as y > 0.9 after a sigmoid is an irrational threshold on the logit. A rational number below it takes
    its place, so that no violation is lost; the text then says so.

    Args:
        spec: about the networks' outputs.
        endings: for each network the ending and the number of logits; None where nothing was taken off.

    Raises:
        PropertyError: endings that do not fit the specification; what `violation_on_logits` refuses.
    """
    if len(endings) != len(spec.networks):
        raise PropertyError(f"expected {len(spec.networks)} endings; got {len(endings)}")
    networks, cases, text = list(spec.networks), list(spec.cases), spec.text
    start = spec.inputs
    for place, (network, ending) in enumerate(zip(spec.networks, endings, strict=True)):
        if ending is not None:
            kind, logits, labels = LogitEnding(*ending)
            networks[place] = _with_logits(network, kind, logits)
            before, outputs = cases, range(start, start + network.outputs)
            cases = [
                replace(case, violation=violation_on_logits(case.violation, kind, outputs, logits, labels))
                for case in cases
            ]
            text += _note(before, cases, kind)
            start += logits
        else:
            start += network.outputs
    met = [case for case in cases if case.violation] or cases[:1]
    return Specification(tuple(networks), tuple(met), text, spec.name)


def without_ending(network: Graph, ending: LogitEnding, prop: Property | Relation) -> tuple[Graph, Property | Relation]:
    """A network without its ending, and the property of its outputs that holds where the given one holds with the ending.

    A property of classes is asked of the logits themselves; a network that gives σ(l) alone gets the two logits 0 and l. A
    property of outputs becomes one of logits by `property_on_logits`.

    Raises:
        PropertyError: a relation of outputs, or of several sigmoids.
    """
    noted = f"{prop.text} (before the last {ending.kind})"
    several = ending.kind == "sigmoid" and ending.logits > 1
    if isinstance(prop, Property) and (several or not prop.of_logits):
        return network, property_on_logits(prop, *ending)
    if isinstance(prop, Property):
        return decision_graph(network, ending), replace(prop, text=noted)
    if several or not prop.of_logits:
        raise PropertyError(f"expected a network without its last {ending.kind} for {prop.text!r}; got one with it")
    return decision_graph(network, ending), Relation(noted, lambda setting: replace(prop.query(setting), text=noted))


def decision_graph(network: Graph, ending: LogitEnding | None) -> Graph:
    """The network's logits, one for each class: 0 and l for a single sigmoid σ(l), as softmax(0, l) = (1 − σ(l), σ(l))."""
    if ending is None or ending.kind != "sigmoid" or ending.logits != 1:
        return network
    name = fresh("logits", network.sizes)
    pair = with_map(network, name, [(network.output, np.array([[0.0], [1.0]]))], np.zeros(2))
    return replace(pair, source=None if network.source is None else network.source.as_pair())


def property_on_logits(prop: Property, ending: EndingName, logits: int, labels: Sequence[int | str] = ()) -> Property:
    """The property of a network without its ending that logits have where the outputs have the given one.

    Raises, when it is asked about a network:
        PropertyError: what `violation_on_logits` refuses.
    """
    given = 1 if ending == "argmax" else logits

    def formula(outputs: int) -> Formula:
        del outputs
        violation = violation_on_logits(prop.violation(given), ending, range(given), logits, labels)
        return ~Joined("or", tuple(Joined("and", tuple(map(Atom, row))) for row in violation))

    return Property(f"{prop.text} (before the last {ending})", formula)


def _with_logits(network: DeclaredNetwork, kind: EndingName, logits: int) -> DeclaredNetwork:
    given = 1 if kind == "argmax" else logits
    if network.outputs != given:
        raise PropertyError(f"expected {given} outputs, as the network's {kind} gives; got {network.outputs} declared")
    return replace(network, outputs=logits)


def _note(before: Sequence[Case], after: Sequence[Case], kind: EndingName) -> str:
    if kind not in ("sigmoid", "softmax"):
        return ""
    bounds = {constraint.bound for case in after for row in case.violation for constraint in row}
    known = {constraint.bound for case in before for row in case.violation for constraint in row}
    return f" ({WEAKENED})" if bounds - known - {Fraction(0)} else ""


def violation_on_logits(
    violation: Disjunction, ending: EndingName, outputs: range, logits: int, labels: Sequence[int | str] = ()
) -> Disjunction:
    """A violation over a network's outputs and other variables, with the network's logits in place of its outputs.

    These constraints have a counterpart on logits: comparisons of two outputs; for a sigmoid, and for a softmax of two, an
    output against a number; for a log-softmax every linear form whose coefficients sum to zero; for an argmax every
    comparison with numbers. Variables after the outputs get higher numbers where there are more logits than outputs.

    Args:
        violation: over all variables.
        ending: what the outputs are of the logits.
        outputs: the numbers of the outputs' variables.
        logits: how many logits there are.
        labels: what an argmax gives in place of 0, 1, ….

    Raises:
        PropertyError: other constraints on the outputs, labels that are text.
    """
    rows: list[Row] = []
    for row in violation:
        rows += _moved_row(row, ending, outputs, logits, labels or range(logits))
    return tuple(dict.fromkeys(rows))


def _moved_row(row: Row, ending: EndingName, outputs: range, logits: int, labels: Sequence[int | str]) -> Iterator[Row]:
    added = logits - len(outputs)
    own = [c for c in row if any(i in outputs for i, _ in c.coefficients)]
    rest = tuple(
        replace(c, coefficients=tuple((i + added if i >= outputs.stop else i, k) for i, k in c.coefficients))
        for c in row
        if c not in own
    )
    if any(i not in outputs for c in own for i, _ in c.coefficients):
        raise PropertyError(f"expected outputs of a {ending} alone in a constraint; got other variables beside them")
    if ending == "argmax" and own:
        start = outputs.start
        for winner, label in enumerate(labels):
            if isinstance(label, str):
                raise PropertyError(f"expected a property of classes, as labels are text; got {own[0]}")
            if all(_met(c, start, label) for c in own):
                others = (j for j in range(logits) if j != winner)
                yield rest + tuple(_larger(start + winner, start + j, strict=j < winner) for j in others)
        return
    moved = [_moved(c, ending, outputs) for c in own]
    if None not in moved:
        yield rest + tuple(itertools.chain.from_iterable(part for part in moved if part is not None))


def _met(constraint: Constraint, place: int, value: int) -> bool:
    slack = constraint.slack({place: Fraction(value)})
    return slack > 0 if constraint.strict else slack >= 0


def _larger(first: int, second: int, *, strict: bool) -> Constraint:
    terms = sorted([(first, Fraction(1)), (second, Fraction(-1))])
    return Constraint(tuple(terms), Fraction(0), strict)


def _moved(constraint: Constraint, ending: EndingName, outputs: range) -> Row | None:
    """The constraint on logits: empty where outputs always meet it, None where they never do."""
    terms = constraint.coefficients
    if ending == "log-softmax" and sum(c for _, c in terms) == 0:
        return (constraint,)
    if ending != "log-softmax" and len(terms) == 2 and constraint.bound == 0 and terms[0][1] == -terms[1][1]:
        (first, factor), (second, _) = terms
        return (_larger(*((first, second) if factor > 0 else (second, first)), strict=constraint.strict),)
    if len(terms) == 1 and (ending == "sigmoid" or (ending == "softmax" and len(outputs) == 2)):
        ((place, factor),) = terms
        others = [] if ending == "sigmoid" else [i for i in outputs if i != place]
        return _threshold(place, others, 1 if factor > 0 else -1, constraint.bound / factor, constraint.strict)
    raise PropertyError(f"expected comparisons that can be moved before a {ending}; got {constraint}")


def _threshold(place: int, others: Sequence[int], sign: int, threshold: Fraction, strict: bool) -> Row | None:
    """``σ(l) ≥ threshold`` (sign 1) or ``≤`` (sign −1), for l the logit, or its difference to the other one."""
    if not 0 < threshold < 1:
        return () if (threshold <= 0) == (sign > 0) else None
    terms = [(place, Fraction(sign)), *((i, Fraction(-sign)) for i in others)]
    return (Constraint(tuple(sorted(terms)), _logit_below(threshold, sign), strict),)


def _logit_below(threshold: Fraction, sign: int) -> Fraction:
    """A rational lower bound on v = sign · log(t / (1 − t)), exact for t = 1/2.

    The float is off by less than 2⁻⁵⁰ (1 + |v|): one rounding of the ratio, one of the logarithm.
    """
    odds = threshold / (1 - threshold)
    if odds == 1:
        return Fraction(0)
    if not Fraction(1, 10**300) < odds < 10**300:
        raise PropertyError("expected a threshold of a sigmoid further than 1e-300 from 0 and 1; got one nearer")
    value = sign * math.log(odds)
    return Fraction(value) - Fraction(1 + math.ceil(abs(value)), 2**50)
