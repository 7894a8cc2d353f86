"""Choose the seeds of the corpus and write ``truth.json``: ``cd tests && python -m corpus``."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from tqdm import tqdm

from corpus import TRUTH_FILE
from corpus.edges import EDGES
from corpus.families import FAMILIES
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.query import Query
from veriflow.testing.enumeration import violating_point

SEEDS, NEAR = 40, Fraction(1, 10**5)


def truth(query: Query) -> dict[str, bool]:
    """Whether the query is violated, and whether it is if every threshold moves a little either way."""
    answers = [violating_point(_moved(query, shift)) is not None for shift in (Fraction(0), NEAR, -NEAR)]
    return {"violated": answers[0], "near": len(set(answers)) > 1}


def _moved(query: Query, shift: Fraction) -> Query:
    rows = tuple(tuple(replace(c, bound=c.bound + shift) for c in row) for row in query.violation)
    return replace(query, violation=rows)


def plain(query: Query) -> bool:
    """Whether the middle of the region violates the property."""
    middle = [Fraction(float(low + high)) / 2 for low, high in zip(query.region.lower, query.region.upper, strict=True)]
    return query.violated_by(evaluate_exact(query.graph, middle)[query.graph.output])


def chosen(family: str) -> dict[str, dict[str, bool]]:
    """The first seed that holds, and the first that is violated away from the middle."""
    found: dict[bool, tuple[str, dict[str, bool]]] = {}
    for seed in range(SEEDS):
        query = FAMILIES[family](seed)
        if not plain(query):
            entry = truth(query)
            found.setdefault(entry["violated"], (f"{family}.{seed}", entry))
        if len(found) == 2:
            break
    return dict(sorted(found.values()))


def main() -> None:
    """Write the file."""
    entries = {name: truth(make()) for name, make in EDGES.items()}
    for family in tqdm(FAMILIES, unit="family"):
        entries |= chosen(family)
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    TRUTH_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
