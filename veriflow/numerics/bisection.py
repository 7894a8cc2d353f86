"""Root finding on the bit patterns of doubles: at any scale, without a tolerance."""

from collections.abc import Callable

import numpy as np

from .arrays import Mask, Vector


def bisect_doubles(holds: Callable[[Vector], Mask], low: Vector, high: Vector) -> Vector:
    """The last double of each [low, high] at which `holds` is true, where it is first true and then false.

    `low` where it is true nowhere. `low` and `high` are non-negative, of shape (n,); `holds` maps (15, n) to (15, n).
    Such doubles are ordered as their bit patterns are: cutting these in sixteen ends within 16 steps, at any scale and
    without a tolerance.
    """
    first = np.asarray(low, dtype=np.float64).view(np.int64)
    last = np.asarray(high, dtype=np.float64).view(np.int64) + 1
    parts = np.arange(1, 16)[:, None]
    while (gap := last - first).max(initial=0) > 1:
        points = first + gap // 16 * parts + gap % 16 * parts // 16
        true = holds(points.view(np.float64)).sum(0)
        ladder = np.concatenate([first[None], points, last[None]])
        first, last = (np.take_along_axis(ladder, (true + k)[None], 0)[0] for k in (0, 1))
    return first.view(np.float64)
