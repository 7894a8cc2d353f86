"""The truth of a small query over an L2 ball or shell, in floats: every activation pattern, every set of active rows.

Within a pattern all is linear, so the greatest slack in the region, or the least norm of a violation, is attained at a point
that the active rows and a sphere determine: no bounds, no programs, no solver. Disjuncts are single constraints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from veriflow.numerics.arrays import Vector
from veriflow.piecewise.graph import Relu
from veriflow.queries.query import Query

NEAR = 1e-9
"""How far a point may miss a row, by rounding."""


def greatest_slack(query: Query) -> float:
    """The greatest slack of a disjunct over the ball or shell: above zero, the property is violated; below, it holds."""
    inner, radius, best = query.region.inner, query.region.radius, -math.inf
    anywhere = np.random.default_rng(0).normal(size=(64, query.region.dim))
    for rows, limits, slack, constant in _pieces(query):
        for foot, free in _faces(rows, limits):
            if np.linalg.norm(foot) > radius:
                continue
            along = free @ slack
            # where the slack is constant, the points next to the sphere in other faces or directions are as good
            ways = along[None] if np.linalg.norm(along) > 1e-12 else anywhere @ free
            units = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-12)
            reaches = [math.sqrt(max(end**2 - foot @ foot, 0.0)) for end in (radius, inner)]
            points = np.vstack([foot, *(foot + sign * reach * units for reach in reaches for sign in (1, -1))])
            norms = np.linalg.norm(points, axis=1)
            met = (points @ rows.T <= limits + NEAR).all(axis=1) & (norms >= inner - NEAR) & (norms <= radius + NEAR)
            best = max(best, float((points[met] @ slack + constant).max(initial=-math.inf)))
    return best


def least_norm(query: Query) -> float:
    """The least norm of a violation anywhere, infinity where there is none."""
    best = math.inf
    for met, bounds, slack, constant in _pieces(query):
        rows, limits = np.vstack([met, -slack]), np.append(bounds, constant)
        for foot, _ in _faces(rows, limits):
            if (rows @ foot <= limits + NEAR).all():
                best = min(best, float(np.linalg.norm(foot)))
    return best


def _pieces(query: Query) -> Iterator[tuple[Vector, Vector, Vector, float]]:
    """For each pattern and disjunct, the pattern's ``rows @ z <= limits`` and the slack ``slack · z + constant``."""
    graph, dim = query.graph, query.region.dim
    for pattern in itertools.product((0.0, 1.0), repeat=graph.relu_count):
        signs = iter(pattern)
        forms, rows = {graph.input: np.eye(dim, dim + 1)}, [np.zeros((0, dim + 1))]
        for node in graph.nodes:
            if isinstance(node, Relu):
                before = forms[node.input]
                on = np.array([next(signs) for _ in before])[:, None]
                rows.append((1 - 2 * on) * before)
                forms[node.output] = on * before
            else:
                terms = [(w.toarray() if sparse.issparse(w) else w) @ forms[name] for name, w in node.terms]
                forms[node.output] = sum(terms) + np.eye(dim + 1)[-1] * node.bias[:, None]
        met = np.vstack(rows)
        for disjunct in query.violation:
            (constraint,) = disjunct
            form = sum(float(c) * forms[graph.output][i] for i, c in constraint.coefficients)
            yield met[:, :-1], -met[:, -1], form[:-1], float(form[-1]) - float(constraint.bound)


def _faces(rows: Vector, limits: Vector) -> Iterator[tuple[Vector, Vector]]:
    """For each few rows that are met with equality: the point nearest to the origin, the projection onto directions."""
    dim = rows.shape[1]
    for count in range(dim + 1):
        chosen = list(itertools.combinations(range(len(rows)), count))
        if not chosen:
            continue
        active = rows[np.array(chosen, dtype=int).reshape(len(chosen), count)]
        inverse = np.linalg.pinv(active)
        feet = (inverse @ limits[np.array(chosen, dtype=int).reshape(len(chosen), count)][..., None])[..., 0]
        yield from zip(feet, np.eye(dim) - inverse @ active, strict=True)
