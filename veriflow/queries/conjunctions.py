"""The violation of a query as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..numerics.arrays import Vector
from ..piecewise.bounds.alpha_crown import Conjunctions
from .constraints import Constraint
from .query import Query


def constraint_rows(constraints: Sequence[Constraint], outputs: int) -> tuple[Vector, Vector]:
    """Coefficients ``[n, outputs]`` and bounds ``[n]`` of constraints, in float64."""
    rows = np.zeros((len(constraints), outputs))
    for place, constraint in enumerate(constraints):
        for index, coefficient in constraint.coefficients:
            rows[place, index] = float(coefficient)
    return rows, np.array([float(constraint.bound) for constraint in constraints])


def distinct_constraints(query: Query) -> tuple[Constraint, ...]:
    """The constraints of all disjuncts, each once."""
    return tuple(dict.fromkeys(constraint for row in query.violation for constraint in row))


@lru_cache(maxsize=16)
def conjunctions(query: Query) -> Conjunctions:
    """The violation's disjuncts as arrays, over its `distinct_constraints`."""
    places = {constraint: place for place, constraint in enumerate(distinct_constraints(query))}
    rows, bounds = constraint_rows(list(places), query.graph.output_size)
    return Conjunctions(rows, bounds, tuple(tuple(places[c] for c in row) for row in query.violation))
