"""How a branch and bound is run: its limits, whom it reports to, and where it goes on from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .frontier import Frontier, Search

S_contra = TypeVar("S_contra", bound=Search, contravariant=True)


def silent(search: Search) -> None:
    """A report to nobody."""
    del search


@dataclass(frozen=True)
class SearchOptions(Generic[S_contra]):
    """What the searches have in common.

    Attributes:
        deadline: when the search stops, a `time.monotonic` value.
        report: called with the state of the search now and then.
        frontier: what an earlier search of the same query has left open; None to begin with the whole region.
        most_domains: number of bounded domains at which a search by ReLUs stops.
    """

    deadline: float
    report: Callable[[S_contra], None] = silent
    frontier: Frontier | None = None
    most_domains: float = math.inf
