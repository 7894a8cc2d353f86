"""What solvers may take of time and memory, the checkpoint they keep, and whom they report to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from veriflow.errors import SolverError

from ..tools.process import MEMORY_LIMIT

MOST_SECONDS = 1e9
"""The longest time limit: thirty years."""

MOST_MEMORY = 1e6
"""Gigabytes that a limit may name: a petabyte is no limit any more."""


@dataclass(frozen=True)
class Limits:
    """The options that all solvers share.

    Attributes:
        timeout: seconds after which the answer is UNKNOWN.
        memory: gigabytes for each process of a solver.
        checkpoint: a file in which ``bab`` keeps its frontier, and from which a stopped run goes on.
        report: called with a line on the progress, now and then.

    Raises:
        SolverError: a time limit that is not positive or above `MOST_SECONDS`, a memory limit that is not positive or above
            `MOST_MEMORY`.
    """

    timeout: float = 60.0
    memory: float = MEMORY_LIMIT
    checkpoint: Path | None = None
    report: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        check_time(self.timeout)
        if not 0 < self.memory <= MOST_MEMORY:
            raise SolverError(f"expected a memory limit above 0 GB and up to {MOST_MEMORY:g} GB; got {self.memory}")


def check_time(timeout: float) -> None:
    """Refuse a time limit that is none.

    Raises:
        SolverError: a limit that is not positive, or above `MOST_SECONDS`.
    """
    if not timeout > 0:
        raise SolverError(f"expected a time limit above 0 seconds; got {timeout}")
    if timeout > MOST_SECONDS:
        raise SolverError(f"expected a time limit of at most {MOST_SECONDS:g} seconds; got {timeout}")
