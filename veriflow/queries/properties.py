"""What must hold of a network's outputs y: linear constraints joined by and, or, not; and named constructors.

In Python, ``y[1] - y[0] >= 0.5`` is a formula, and ``&``, ``|``, ``~`` join formulas (put comparisons in parentheses).
As text the same is read by `veriflow.queries.text.formulas.parse_property`. All numbers are kept as exact rationals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import PropertyError
from ..piecewise.graph import compose
from ..wording import perhaps, shortened
from .constraints import Disjunction, Formula, Joined, y
from .query import Application, Query, Setting


@dataclass(frozen=True)
class Property:
    """What must hold of the outputs, as a formula that may depend on how many outputs there are.

    Attributes:
        text: the property in words or as a formula, for reports.
        formula: from the number of outputs to the formula.
        of_logits: whether it is about classes, and so about the logits of a network that ends in probabilities.
    """

    text: str
    formula: Callable[[int], Formula]
    of_logits: bool = False

    def __repr__(self) -> str:
        return f"Property({shortened(self.text)})"

    def violation(self, outputs: int) -> Disjunction:
        """The negation as disjuncts: the property is violated where all constraints of one of them hold.

        Raises:
            PropertyError: a formula that names an output which is not there, or that can never be violated.
        """
        rows = (~self.formula(outputs)).disjuncts()
        for index in (i for row in rows for constraint in row for i, _ in constraint.coefficients):
            _check_output(index, outputs)
        if not rows:
            raise PropertyError(
                f"expected a property that outputs could violate; got {self.text!r}, which always holds"
            )
        return rows

    def query(self, setting: Setting) -> Query:
        """The question whether the outputs of the network violate the property anywhere in the region."""
        graph = compose(setting.decoder, setting.network)
        violation = self.violation(graph.output_size)
        region = setting.region.rounded_outward()
        data = setting.decoder.output
        applied = (Application(setting.network, data, graph.output),)
        return Query(graph, region, violation, self.text, data, setting.flow, applications=applied)


def class_number(name: str, classes: Sequence[str]) -> int:
    """The number of the class of that name.

    Raises:
        PropertyError: no class of that name.
    """
    if name in classes:
        return classes.index(name)
    if not classes:
        raise PropertyError(f"expected the number of a class, as no names of classes are known; got {name!r}")
    known = ", ".join(map(repr, classes))
    raise PropertyError(f"expected a class among {known}; got {name!r}{perhaps(name, classes)}")


def _check_output(index: int, outputs: int) -> None:
    if not isinstance(index, int):
        raise PropertyError(f"expected the number of an output, counted from 0; got {index!r}")
    if not 0 <= index < outputs:
        raise PropertyError(f"expected an output from y[0] to y[{outputs - 1}]; got y[{index}]")


def formula_property(formula: Formula) -> Property:
    """A property given by a formula over ``y``."""
    return Property(str(formula), lambda outputs: formula)


def classified_as(c: int, margin: float = 0.0) -> Property:
    """Output c is the largest by more than ``margin``: y_c − y_j > margin for every other j.

    A tie (at ``margin`` 0) counts as a violation; the violation, y_j − y_c ≥ −margin for some j, is not strict.
    """

    def formula(outputs: int) -> Formula:
        _check_output(c, outputs)
        return Joined("and", tuple(y[c] - y[j] > margin for j in range(outputs) if j != c))

    text = f"classified as {c}" + (f" by more than {float(margin):g}" if margin else "")
    return Property(text, formula, of_logits=True)


def confident(c: int | None, delta: float) -> Property:
    """The largest output, that of class c where c is given, exceeds every other by at least ``delta``.

    Formula: y_c − y_j ≥ delta for every j ≠ c, for the given c or for the largest y_c. With one output y: y ≥ delta for
    class 1, y ≤ −delta for class 0. The margin of logits is the confidence of VeriFlow (arXiv 2406.14265).
    Violation: y_c − y_j < delta for some j, for the given c or for some c with y_c ≥ y_i for all i.

    Raises:
        PropertyError: a margin that is not positive and finite.
    """
    _check_margin(delta)

    def formula(outputs: int) -> Formula:
        if outputs == 1:
            if c not in (None, 0, 1):
                raise PropertyError(f"expected class 0 or 1 of a network with one output; got {c}")
            sides = (y[0] <= -delta, y[0] >= delta)
            return sides[0] | sides[1] if c is None else sides[c]
        if c is not None:
            _check_output(c, outputs)
            return Joined("and", tuple(y[c] - y[j] >= delta for j in range(outputs) if j != c))
        pairs = itertools.permutations(range(outputs), 2)
        smaller = {i: tuple(y[j] - y[i] > 0 for j in range(outputs) if j != i) for i in range(outputs)}
        return Joined("and", tuple(Joined("or", (*smaller[i], y[i] - y[j] >= delta)) for i, j in pairs))

    which = "some class" if c is None else f"class {c}"
    return Property(f"confident of {which} by a margin of {float(delta):g}", formula, of_logits=True)


def never_confident(delta: float) -> Property:
    """No output exceeds every other by ``delta`` or more; with one output, |y| < delta.

    Violation: for some c, y_c − y_j ≥ delta for all j ≠ c; with one output, y ≥ delta or y ≤ −delta.

    Raises:
        PropertyError: a margin that is not positive and finite.
    """
    _check_margin(delta)

    def formula(outputs: int) -> Formula:
        if outputs == 1:
            return (y[0] < delta) & (y[0] > -delta)
        others = [[j for j in range(outputs) if j != i] for i in range(outputs)]
        return Joined("and", tuple(Joined("or", tuple(y[i] - y[j] < delta for j in others[i])) for i in range(outputs)))

    return Property(f"never confident by a margin of {float(delta):g}", formula, of_logits=True)


def _check_margin(delta: float) -> None:
    if not (math.isfinite(delta) and delta > 0):
        raise PropertyError(f"expected a positive finite margin; got {delta}")


def never_confidently_wrong(c: int, probability: float) -> Property:
    """No class other than c gets a softmax probability of ``probability`` or more against c alone.

    Formula: y_j − y_c < log(q / (1 − q)) for every j ≠ c, with q the probability; exact for two classes, where it bounds
    the softmax probability of the wrong class, and implied for more of them.

    Raises:
        PropertyError: a probability outside [1/2, 1).
    """
    if not 0.5 <= probability < 1:
        raise PropertyError(f"expected a probability from 0.5 to below 1; got {probability}")
    gap = math.log(probability / (1 - probability))

    def formula(outputs: int) -> Formula:
        _check_output(c, outputs)
        return Joined("and", tuple(y[j] - y[c] < gap for j in range(outputs) if j != c))

    return Property(f"never wrong with probability >= {float(probability):g} (class {c})", formula, of_logits=True)


def output_between(index: int, low: float, high: float) -> Property:
    """low ≤ y_index ≤ high.

    Raises:
        PropertyError: low above high.
    """
    if not low <= high:
        raise PropertyError(f"expected low <= high; got {low} and {high}")

    def formula(outputs: int) -> Formula:
        _check_output(index, outputs)
        return (y[index] >= low) & (y[index] <= high)

    return Property(f"{float(low):g} <= y[{index}] <= {float(high):g}", formula)
