"""Small queries of every kind with known truth, for every engine, tool and file form.

A query has a name ``KIND.STATEMENT.SEED``; `query` builds it, with dyadic numbers so that ties are exact, and ``truth.json``
holds what is true of it. ``python -m corpus`` in ``tests/`` chose the seeds: for each kind and statement the first that
holds and the first that is violated though not at the middle of the region.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from corpus.edges import EDGES
from corpus.families import FAMILIES
from veriflow.queries.query import Query

TRUTH_FILE = Path(__file__).with_name("truth.json")


@dataclass(frozen=True)
class Truth:
    """What is true of a query.

    Attributes:
        violated: whether the property is violated.
        near: whether a change of 1e-5 in its thresholds changes the truth: an engine that works in floats may then be
            unable to tell, but must not be wrong.
    """

    violated: bool
    near: bool


def truths() -> dict[str, Truth]:
    """Name → what is true."""
    stored = json.loads(TRUTH_FILE.read_text())
    return {name: Truth(entry["violated"], entry["near"]) for name, entry in stored.items()}


def query(name: str) -> Query:
    """The query of that name."""
    if name in EDGES:
        return EDGES[name]()
    family, _, seed = name.rpartition(".")
    return FAMILIES[family](int(seed))


def is_thin(asked: Query) -> bool:
    """Whether the region is a sphere: forms that state norms as outputs meet it exactly or never, so floats cannot tell."""
    return any(0 < part.inner == part.radius for part in asked.region.parts)
