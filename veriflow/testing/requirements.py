"""What the laws of the test-kit are stated with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch


def require(is_true: object, sentence: str) -> None:
    """Raise AssertionError with a sentence unless something is true; with ``python -O`` too."""
    if not is_true:
        raise AssertionError(sentence)


def require_close(got: npt.ArrayLike, wanted: npt.ArrayLike, what: str, *, rel: float = 0.0, abs_: float = 0.0) -> None:
    """Raise AssertionError unless numbers agree: |got − wanted| ≤ abs + rel·|wanted| everywhere, or both are the same."""
    values, truth = np.broadcast_arrays(np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        close = (values == truth) | (np.abs(values - truth) <= abs_ + rel * np.abs(truth))
    if not close.all():
        place = tuple(int(i) for i in np.argwhere(~close)[0])
        raise AssertionError(f"expected {what}: {truth[place]!r}; got {values[place]!r}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from a seed, and as they were afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
