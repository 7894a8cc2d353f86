"""Verdicts on networks full of divisions, means and normalisations, against their definition in rationals."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from constant_networks import Network, random_network
from differential import z3_answer

from exporters import read_onnx
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import network_query
from veriflow.regions.box import Box
from verify import Outcome, verify


def question(net: Network, rng: np.random.Generator) -> tuple[Box, Fraction, bool]:
    """A box, a level at or very near to the output in one of its corners, and whether it must be passed."""
    low = np.round(rng.standard_normal(net.inputs), int(rng.integers(0, 3))).astype(np.float32)
    high = (low + rng.choice([0.0, 0.5, 1.0, 3.0], net.inputs)).astype(np.float32)
    box = Box(low.astype(float), high.astype(float))
    corners = [[Fraction(float(v)) for v in np.where(rng.random(net.inputs) < 0.5, low, high)] for _ in range(4)]
    level = max(net.at(corner)[0] for corner in corners)
    away = Fraction(int(rng.choice([0, 0, 1, -1]))) * Fraction(1, 2 ** int(rng.choice([10, 20, 40, 52, 60])))
    return box, level + away * max(abs(level), 1), bool(rng.integers(2))


def truth(net: Network, box: Box, level: Fraction, strict: bool) -> bool | None:
    """Whether the level is reached; None where that hangs on the sixtieth digit of a root."""
    lower, upper = box.ends
    rows = []
    for i in range(net.inputs):
        unit = [Fraction(int(i == j)) for j in range(net.inputs)]
        rows += [((*(-v for v in unit), lower[i]), False), ((*unit, -upper[i]), False)]
    found = {
        net.reaches(rows, level, strict=strict, greater=greater)
        for greater in ((False, True) if net.has_roots else (False,))
    }
    return found.pop() if len(found) == 1 else None


def check(seeds):
    seen = Counter()
    for seed in seeds:
        net = random_network(seed)
        box, level, strict = question(net, np.random.default_rng([seed, 1]))
        violated = truth(net, box, level, strict)
        prop = formula_property(~((y[0] > level) if strict else (y[0] >= level)))
        query = network_query(read_onnx(net.model()), box, prop)
        answers = {name: verify(query, name, timeout=600) for name in ("bab", "milp")}
        found = {name: verdict.outcome for name, verdict in answers.items()} | {"z3": z3_answer(query)}
        for name, verdict in answers.items():
            if verdict.witness is not None:
                point = list(verdict.witness.point)
                assert box.contains(point), (seed, name)
                for greater in (False, True):
                    value = net.at(point, greater=greater)[0]
                    assert value > level or (value == level and not strict), (seed, name)
        right = {True: Outcome.VIOLATED, False: Outcome.HOLDS}.get(violated)
        for name, outcome in found.items():
            wrong = (
                (Outcome.HOLDS, Outcome.VIOLATED)
                if right is None
                else ({True: Outcome.HOLDS, False: Outcome.VIOLATED}[violated],)
            )
            if name == "z3" and net.has_roots and outcome is Outcome.VIOLATED:
                continue  # it is asked about all values between two floats around each root
            assert outcome not in wrong, (seed, name, outcome, right)
            seen[outcome] += 1
    return seen


def test_verdicts_are_right():
    seen = check(range(60))
    assert seen[Outcome.HOLDS] >= 30 and seen[Outcome.VIOLATED] >= 30


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(50))
def test_verdicts_are_right_on_many_more(part):
    seen = check(range(100 * part, 100 * part + 100))
    assert seen[Outcome.HOLDS] >= 50 and seen[Outcome.VIOLATED] >= 50
