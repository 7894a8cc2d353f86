"""The violation of a query as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from ..numerics.arrays import Vector
from ..piecewise.bounds.conjunctions import Conjunctions
from .constraints import Constraint, Disjunction


def constraint_rows(constraints: Sequence[Constraint], outputs: int) -> tuple[Vector, Vector]:
    """Coefficients ``[n, outputs]`` and bounds ``[n]`` of constraints, in float64."""
    rows = np.zeros((len(constraints), outputs))
    for place, constraint in enumerate(constraints):
        for index, coefficient in constraint.coefficients:
            rows[place, index] = float(coefficient)
    return rows, np.array([float(constraint.bound) for constraint in constraints])


@dataclass(frozen=True)
class ViolationArrays:
    """A violation as arrays, each made when it is first asked for.

    Attributes:
        violation: disjuncts over a graph's outputs.
        outputs: how many outputs the graph has.
    """

    violation: Disjunction
    outputs: int

    @cached_property
    def conjunctions(self) -> Conjunctions:
        """The disjuncts, over rows of the constraints of all disjuncts, each once."""
        constraints, groups = self._indexed
        rows, bounds = constraint_rows(constraints, self.outputs)
        return Conjunctions(rows, bounds, groups)

    @cached_property
    def missed(self) -> Vector:
        """By how much each row of `conjunctions` is missed at equality: the least normal number where it is strict."""
        least = np.finfo(np.float64).tiny
        return np.array([least if constraint.strict else 0.0 for constraint in self._indexed[0]])

    @cached_property
    def _indexed(self) -> tuple[tuple[Constraint, ...], tuple[tuple[int, ...], ...]]:
        """The constraints of all disjuncts (one that always holds, if there are none), and the places of each disjunct's."""
        places: dict[Constraint, int] = {}
        groups = tuple(tuple(places.setdefault(c, len(places)) for c in row) for row in self.violation)
        return tuple(places) or (Constraint((), Fraction(-1)),), groups
