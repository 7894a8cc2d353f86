"""Lower bounds on the mass of the part of a box beyond a hyperplane.

Where coordinates are independent, a·z over a box is its least value plus a sum of independent numbers s_i = |a_i| t_i ≥ 0,
with t_i the distance of z_i to the end at which a_i z_i is least. The widest s_i keeps its law. The others are rounded down to
a grid, and the law of their sum is a convolution; rounding down only moves mass away from beyond the hyperplane.
"""

from __future__ import annotations

import numpy as np

from ..numerics.arrays import Mask, Vector
from ..numerics.rounding import CONSTANTS, gamma, of_transforms
from .box_masses import box_masses, product_measures
from .coordinate_measures import Interval
from .radial import RadialBase

CELLS = 64
"""Cells of the grid: each coordinate that is rounded loses at most one."""


def masses_beyond(base: RadialBase, lower: Vector, upper: Vector, rows: Vector, levels: Vector) -> Vector:
    """A lower bound on P(z in the box, a·z ≥ m + level) for m the least value of a·z in the box, ``[batch, n]``.

    It is all of the box where the level is not positive.

    Args:
        base: the law of z.
        lower: ends of the boxes ``[batch, dim]``, finite.
        upper: likewise.
        rows: the forms a, ``[batch, n, dim]``.
        levels: ``[batch, n]``.

    Raises:
        RegionError: as `box_masses`.
    """
    masses = np.broadcast_to(box_masses(base, lower, upper)[:, None], levels.shape)
    reach = np.maximum(np.abs(lower), np.abs(upper))[:, None]
    steps = np.abs(rows) * (upper - lower)[:, None]
    needed = (
        levels + (CONSTANTS + gamma(rows.shape[-1])) * steps.sum(axis=-1) + 1e-14 * (np.abs(rows) * reach).sum(axis=-1)
    )
    found = np.where(levels <= 0, masses, 0.0)
    cut = (levels > 0) & (needed < steps.sum(axis=-1))
    if not cut.any():
        return found
    places = np.nonzero(cut)[0]
    low, high, a = lower[places], upper[places], rows[cut]
    order = np.argsort(steps[cut], axis=-1)
    low, high, a = (np.take_along_axis(array, order, -1) for array in (low, high, a))
    parts = [
        factor[places] * _beyond(interval, low, high, a, needed[cut])
        for factor, interval in product_measures(base, lower, upper)
    ]
    found[cut] = np.clip(np.nan_to_num(sum(parts), nan=0.0), 0.0, masses[cut])
    return found


def _beyond(interval: Interval, low: Vector, high: Vector, a: Vector, needed: Vector) -> Vector:
    """The bound under one law of coordinates for boxes and forms ``[count, dim]``, the widest coordinate last."""
    size, width = np.abs(a), high - low
    whole = interval(low, high)
    total = (size * width)[:, :-1].sum(axis=-1)
    step = np.where(total > 0, total / CELLS, 1.0)[:, None]
    length = CELLS + a.shape[-1] + 1
    share = np.zeros((len(a), length))
    share[:, 0] = 1.0
    if a.shape[-1] > 1:
        edges = np.arange(length + 1) * step
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = np.where(size[:, :-1, None] > 0, edges[:, None] / size[:, :-1, None], np.inf)
            t[..., 0] = 0.0
            t = np.minimum(t, width[:, :-1, None])
            inner, outer = _between(low[:, :-1, None], high[:, :-1, None], a[:, :-1, None] > 0, t)
            cells = interval(inner, outer) / whole[:, :-1, None]
        cells = np.nan_to_num(cells, nan=0.0, posinf=0.0)
        transform = np.fft.rfft(cells, axis=-1).prod(axis=1)
        share = np.maximum(np.fft.irfft(transform, n=length, axis=-1), 0.0)
    left = needed[:, None] - np.arange(length) * step
    t = np.clip(left / size[:, -1:], 0.0, None)
    rising, far = a[:, -1:] > 0, t <= width[:, -1:]
    first, last = low[:, -1:], high[:, -1:]
    beyond = interval(
        np.where(rising, np.minimum(first + t, last), first), np.where(rising, last, np.maximum(last - t, first))
    )
    kept = (share * np.where(far, beyond, 0.0)).sum(axis=-1) - of_transforms(a.shape[-1] - 1, length) * whole[:, -1]
    return np.asarray(np.maximum(kept, 0.0) * whole[:, :-1].prod(axis=-1))


def _between(low: Vector, high: Vector, rising: Mask, t: Vector) -> tuple[Vector, Vector]:
    """The cells between neighbouring distances ``[..., k + 1]`` from the end at which the form is least."""
    ends = np.where(rising, np.minimum(low + t, high), np.maximum(high - t, low))
    first, second = ends[..., :-1], ends[..., 1:]
    return np.minimum(first, second), np.maximum(first, second)
