"""What a property file asks, whatever its format: is there an input in a box at which constraints on inputs and outputs hold?

Every number is an exact rational. Variables are numbered from 0: first the inputs of all networks in the order of their
declaration, then the outputs of all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ..errors import PropertyError
from .constraints import Constraint, Disjunction

Row = tuple[Constraint, ...]
Ends = tuple[Fraction | None, ...]


MOST_NUMBERS = 1_000_000
"""Most inputs, and most outputs, of all networks of a specification together."""

MOST_ENDS = 2**24
"""Most ends of all boxes of a specification together."""


@dataclass(frozen=True)
class Tensor:
    """An input or output as a property file declares it: its name, element type and shape."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DeclaredNetwork:
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
        lower: exact lower end of each input; None where it has none.
        upper: exact upper end of each input; None where it has none.
        violation: disjuncts over inputs and outputs, without what the box says already; none where the file contradicts
            itself.
    """

    lower: Ends
    upper: Ends
    violation: Disjunction


@dataclass(frozen=True)
class Specification:
    """The question of a property file, satisfied ("sat", the property is violated) where one of its cases is satisfied.

    Attributes:
        networks: as declared, at least one.
        cases: of different boxes, at least one.
        text: a name for reports; two specifications may differ in it and be equal.
        name: from the place of an input to its name in the file, for errors; it may differ likewise.
    """

    networks: tuple[DeclaredNetwork, ...]
    cases: tuple[Case, ...]
    text: str = field(default="", compare=False)
    name: Callable[[int], str] = field(default="input {}".format, compare=False, repr=False)

    def check_bounded(self) -> None:
        """Refuse inputs without a bound.

        Raises:
            PropertyError: one of them, by its name.
        """
        for case in self.cases:
            for side, ends in (("a lower", case.lower), ("an upper", case.upper)):
                if None in ends:
                    name = self.name(ends.index(None))
                    raise PropertyError(f"expected {side} bound on every input; got none on {name}")

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
            all(
                (low is None or low <= v) and (high is None or v <= high)
                for low, v, high in zip(case.lower, inputs, case.upper, strict=True)
            )
            and any(all(constraint.holds(values) for constraint in row) for row in case.violation)
            for case in self.cases
        )


def specification(
    networks: Sequence[DeclaredNetwork],
    rows: Iterable[Row],
    name: Callable[[int], str],
    text: str = "",
    common: Row = (),
) -> Specification:
    """The specification of a formula in disjunctive normal form: rows with equal input boxes make one case.

    Bounds of single inputs are intersected and become the box; a strict bound stays in the row as well. A row whose bounds
    cross is satisfied by no input and left out. If no row is left, nothing satisfies the specification: it has one case
    without disjuncts, and its text says why.

    Args:
        networks: as declared.
        rows: conjunctions over inputs and outputs.
        name: from the place of a variable to its name in the file, for errors.
        text: a name for reports.
        common: constraints that belong to every row.

    Raises:
        PropertyError: a row that says nothing about outputs, more inputs or outputs than `MOST_NUMBERS`.
    """
    inputs, outputs = (sum(sizes) for sizes in zip(*((n.inputs, n.outputs) for n in networks), strict=True))
    if max(inputs, outputs) > MOST_NUMBERS:
        raise PropertyError(f"expected at most {MOST_NUMBERS} inputs and outputs; got {inputs} and {outputs}")
    shared = _Bounds([None] * inputs, [None] * inputs)
    kept = tuple(constraint for constraint in common if shared.tighten(constraint))
    first = shared.crossing(range(inputs))
    boxes: dict[tuple[tuple[int, Fraction | None, Fraction | None], ...], dict[Row, None]] = {}
    crossed = "it is never true"
    for row in rows:
        bounds = _Bounds(list(shared.lower), list(shared.upper), list(shared.strict))
        rest = tuple(dict.fromkeys((*kept, *(constraint for constraint in row if bounds.tighten(constraint)))))
        if not any(i >= inputs for constraint in rest for i, _ in constraint.coefficients):
            raise PropertyError("expected constraints on outputs in every alternative; got one on inputs alone")
        place = first if first is not None else bounds.crossing(sorted(bounds.changed))
        if place is None:
            own = tuple((i, bounds.lower[i], bounds.upper[i]) for i in sorted(bounds.changed))
            boxes.setdefault(own, {})[rest] = None
        else:
            ends = (_short(bounds.lower[place]), _short(bounds.upper[place]))
            crossed = f"{name(place)} >= {ends[0]} and {name(place)} <= {ends[1]} have no input in common"
    if not boxes:
        nothing = (Fraction(0),) * inputs
        return Specification(tuple(networks), (Case(nothing, nothing, ()),), f"{text} ({crossed})".strip(), name)
    if 2 * inputs * len(boxes) > MOST_ENDS:
        raise PropertyError(
            f"expected boxes with at most {MOST_ENDS} ends together; got {len(boxes)} boxes of {inputs} inputs"
        )
    cases: dict[tuple[Ends, Ends], dict[Row, None]] = {}
    for own, found in boxes.items():
        lower, upper = list(shared.lower), list(shared.upper)
        for i, least, most in own:
            lower[i], upper[i] = least, most
        cases.setdefault((tuple(lower), tuple(upper)), {}).update(found)
    return Specification(tuple(networks), tuple(Case(*ends, tuple(found)) for ends, found in cases.items()), text, name)


def _short(value: Fraction | None) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass
class _Bounds:
    """The bounds of single inputs in one row, and the inputs whose bounds this row has tightened."""

    lower: list[Fraction | None]
    upper: list[Fraction | None]
    strict: list[tuple[int, Constraint]] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)

    def tighten(self, constraint: Constraint) -> bool:
        """Tighten a bound if the constraint is about a single input; whether the row still needs the constraint."""
        if len(constraint.coefficients) != 1 or constraint.coefficients[0][0] >= len(self.lower):
            return True
        ((place, coefficient),) = constraint.coefficients
        bound = constraint.bound / coefficient
        side, tighter = (self.lower, max) if coefficient > 0 else (self.upper, min)
        known = side[place]
        side[place] = bound if known is None else tighter(known, bound)
        if side[place] != known:
            self.changed.add(place)
        if constraint.strict:
            self.strict.append((place, constraint))
        return constraint.strict

    def crossing(self, places: Sequence[int]) -> int | None:
        """One of these inputs, or of those with strict bounds, whose bounds exclude every number; None if there is none."""
        for place in places:
            low, high = self.lower[place], self.upper[place]
            if low is not None and high is not None and low > high:
                return place
        for place, constraint in self.strict:
            low = self.lower[place]
            if low is not None and low == self.upper[place] and constraint.slack({place: low}) <= 0:
                return place
        return None
