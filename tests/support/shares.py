"""Which cases of a law run always, and which by `make nightly` alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def by_day(cases: Iterable[Any], count: int) -> list[Any]:
    """Parameters of a test: ``count`` of the cases, spread out from the first on, and the others marked nightly.

    A tuple is the values of several arguments.
    """
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*row, marks=[] if place * count % len(rows) < count else [pytest.mark.nightly])
        for place, row in enumerate(rows)
    ]
