"""A time limit for all that is called within a block, however deep: long loops look at the clock, and what is late ends."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTime(Exception):  # noqa: N818 - no error: an answer that did not come in time
    """Raised by `check_deadline`; whoever set the deadline says what is known by then."""


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Let `check_deadline` raise from ``deadline`` on, a `time.monotonic` value; a deadline around it that is earlier stays."""
    token = _deadline.set(min(deadline, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def check_deadline() -> None:
    """To be called in every loop that may take long.

    Raises:
        OutOfTime: the deadline has come.
    """
    if time.monotonic() >= _deadline.get():
        raise OutOfTime
