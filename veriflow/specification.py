"""What a property file asks, whatever its format: is there an input in a box such that constraints hold of inputs and outputs?

Every number is an exact rational. Variables are counted in one row: the inputs of all networks in the order of their
declaration, then the outputs of all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from .errors import PropertyError
from .properties import Constraint, Disjunction

Row = tuple[Constraint, ...]
Point = tuple[Fraction, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output as a property file declares it: its name, element type and shape."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Declared:
    """A network as a property file declares it.

    Attributes:
        inputs: how many numbers it takes.
        outputs: how many numbers it gives.
        same_file_as: place of the earlier network whose file this one shares; None for a file of its own.
        name: in the file, empty where the format has none; two specifications may differ in it and be equal.
        tensors: its input and its output as declared, where the format says so; they may differ likewise.
    """

    inputs: int
    outputs: int
    same_file_as: int | None = None
    name: str = field(default="", compare=False)
    tensors: tuple[Tensor, Tensor] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Case:
    """One box of inputs, and what is asked of the inputs in it.

    Attributes:
        lower: exact lower end of each input.
        upper: exact upper end of each input.
        violation: disjuncts over inputs and outputs; what the box says already is not said again.
    """

    lower: Point
    upper: Point
    violation: Disjunction


@dataclass(frozen=True)
class Specification:
    """The question of a property file: satisfied ("sat", the property is violated) where one of the cases is.

    Attributes:
        networks: as declared, at least one.
        cases: of different boxes, at least one.
        text: a name for reports; two specifications may differ in it and be equal.
    """

    networks: tuple[Declared, ...]
    cases: tuple[Case, ...]
    text: str = field(default="", compare=False)

    @property
    def inputs(self) -> int:
        """Number of inputs of all networks together."""
        return sum(network.inputs for network in self.networks)

    @property
    def outputs(self) -> int:
        """Number of outputs of all networks together."""
        return sum(network.outputs for network in self.networks)

    def satisfied_by(self, inputs: Sequence[Fraction], outputs: Sequence[Fraction]) -> bool:
        """Whether exact inputs and outputs are what the file asks for."""
        values = [*inputs, *outputs]
        return any(
            all(low <= v <= high for low, v, high in zip(case.lower, inputs, case.upper, strict=True))
            and any(all(constraint.holds(values) for constraint in row) for row in case.violation)
            for case in self.cases
        )


def specification(
    networks: Sequence[Declared], rows: Iterable[Row], name: Callable[[int], str], text: str = ""
) -> Specification:
    """The specification of a formula in disjunctive normal form: rows with equal input boxes make one case.

    Bounds of single inputs become the box, intersected where there are several; a strict one stays in the row as well. A
    row whose bounds cross is met by no input and is left out.

    Args:
        networks: as declared.
        rows: conjunctions over inputs and outputs.
        name: from the place of a variable to its name in the file, for errors.
        text: a name for reports.

    Raises:
        PropertyError: an input without a bound, a row that says nothing about outputs, bounds that cross in every row.
    """
    inputs = sum(network.inputs for network in networks)
    boxes: dict[tuple[Point, Point], dict[Row, None]] = {}
    crossed = None
    for row in rows:
        bounds = _Bounds(inputs)
        rest = tuple(constraint for constraint in row if bounds.leave(constraint))
        if not any(i >= inputs for constraint in rest for i, _ in constraint.coefficients):
            raise PropertyError("expected constraints on outputs in every alternative; got one on inputs alone")
        lower, upper = bounds.ends(name)
        place = bounds.crossing(lower, upper)
        if place is None:
            boxes.setdefault((lower, upper), {})[rest] = None
        else:
            crossed = f"{name(place)} >= {lower[place]} and {name(place)} <= {upper[place]}"
    if not boxes:
        raise PropertyError(f"expected bounds that some input meets; got {crossed or 'a formula that is never true'}")
    cases = tuple(Case(lower, upper, tuple(found)) for (lower, upper), found in boxes.items())
    return Specification(tuple(networks), cases, text)


class _Bounds:
    """The bounds of single inputs in one row."""

    def __init__(self, inputs: int) -> None:
        self.lower: list[Fraction | None] = [None] * inputs
        self.upper: list[Fraction | None] = [None] * inputs
        self.strict: list[tuple[int, Constraint]] = []

    def leave(self, constraint: Constraint) -> bool:
        """Take the constraint in if it bounds an input; whether it must stay in the row."""
        if len(constraint.coefficients) != 1 or constraint.coefficients[0][0] >= len(self.lower):
            return True
        ((place, coefficient),) = constraint.coefficients
        bound = constraint.bound / coefficient
        if coefficient > 0:
            known = self.lower[place]
            self.lower[place] = bound if known is None else max(known, bound)
        else:
            known = self.upper[place]
            self.upper[place] = bound if known is None else min(known, bound)
        if constraint.strict:
            self.strict.append((place, constraint))
        return constraint.strict

    def ends(self, name: Callable[[int], str]) -> tuple[Point, Point]:
        """The box.

        Raises:
            PropertyError: an input without a bound.
        """
        for side, ends in (("a lower", self.lower), ("an upper", self.upper)):
            if None in ends:
                raise PropertyError(f"expected {side} bound on every input; got none on {name(ends.index(None))}")
        return tuple(v for v in self.lower if v is not None), tuple(v for v in self.upper if v is not None)

    def crossing(self, lower: Point, upper: Point) -> int | None:
        """An input that no number can be, or None."""
        crossed = [place for place, (low, high) in enumerate(zip(lower, upper, strict=True)) if low > high]
        crossed += [i for i, bound in self.strict if lower[i] == upper[i] and bound.slack({i: lower[i]}) <= 0]
        return crossed[0] if crossed else None
