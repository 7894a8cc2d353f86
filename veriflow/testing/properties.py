"""What every property obeys: its violation holds exactly where the property does not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction

from ..queries.constraints import Atom, Disjunction, Formula, Joined
from ..queries.properties import Property
from .requirements import require

Truth = Callable[[Sequence[Fraction]], bool]
"""A property by other means: whether it holds of exact outputs."""

_TRIED = 500


def check_property(prop: Property, outputs: int, truth: Truth | None = None) -> None:
    """Check a property of so many outputs, at seeded points of which many lie where a constraint is an equation.

    The formula, read part by part, and the disjuncts of the violation disagree everywhere. Where ``truth`` is given, the
    formula agrees with it. What is said of logits stays the same when one number is added to all of them.

    Raises:
        AssertionError: what does not hold, in a sentence.
    """
    require(prop.text and "\n" not in prop.text, f"expected a text of one line; got {prop.text!r}")
    formula, violation = prop.formula(outputs), prop.violation(outputs)
    seen = set()
    for point in points(formula, outputs):
        holds = formula_holds(formula, point)
        seen.add(holds)
        shown = f"y = ({', '.join(map(str, point))})"
        require(
            some_disjunct_holds(violation, point) != holds, f"expected either {prop.text!r} or its violation at {shown}"
        )
        require(
            truth is None or truth(point) == holds, f"expected {prop.text!r} to be {not holds} at {shown}; got {holds}"
        )
        if prop.of_logits and outputs > 1:
            moved = formula_holds(formula, [value + 1 for value in point])
            require(moved == holds, f"expected the same of logits that are all greater by 1; got another at {shown}")
    require(len(seen) == 2, f"expected points where {prop.text!r} holds and others; got {seen} alone")


def formula_holds(formula: Formula, point: Sequence[Fraction]) -> bool:
    """Whether a formula holds of exact outputs, part by part: without its disjunctive normal form."""
    if isinstance(formula, Joined):
        return (all if formula.junction == "and" else any)(formula_holds(part, point) for part in formula.parts)
    if isinstance(formula, Atom):
        return formula.constraint.holds(point)
    raise AssertionError(f"expected comparisons joined by and, or and not; got {type(formula).__name__}")


def some_disjunct_holds(rows: Disjunction, point: Sequence[Fraction]) -> bool:
    """Whether all constraints of a disjunct hold of exact outputs."""
    return any(all(constraint.holds(point) for constraint in row) for row in rows)


def points(formula: Formula, outputs: int) -> list[list[Fraction]]:
    """Seeded points of half numbers, and for each a point that a constraint of the formula has as an equation."""
    rng = random.Random(0)  # noqa: S311 - no secret
    constraints = [constraint for row in formula.disjuncts() for constraint in row]
    found = []
    for _ in range(_TRIED):
        point = [Fraction(rng.randint(-6, 6), 2) for _ in range(outputs)]
        found.append(point)
        if constraints:
            chosen = rng.choice(constraints)
            place, factor = rng.choice(chosen.coefficients)
            tie = list(point)
            tie[place] -= chosen.slack(point) / factor
            found.append(tie)
    return found
