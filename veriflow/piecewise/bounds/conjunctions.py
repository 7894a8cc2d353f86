"""Conjunctions of linear constraints on the output of a graph, as arrays."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ...numerics.arrays import Vector


@dataclass(frozen=True, eq=False)
class Conjunctions:
    """Linear constraints ``rows @ output ≥ bounds`` in groups, each a conjunction that bounds are to exclude.

    Attributes:
        rows: ``[n, outputs]``.
        bounds: ``[n]``.
        groups: for each conjunction, which rows it joins; several may join the same one.
    """

    rows: Vector
    bounds: Vector
    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def members(self) -> NDArray[np.intp]:
        """The groups ``[groups, longest]``, filled up with zeros where `is_member` is false."""
        members = np.zeros(self.is_member.shape, dtype=np.intp)
        members[self.is_member] = np.fromiter(itertools.chain(*self.groups), dtype=np.intp)
        return members

    @cached_property
    def is_member(self) -> NDArray[np.bool_]:
        """Which entries of `members` are some, ``[groups, longest]``."""
        sizes = np.array([len(group) for group in self.groups], dtype=np.intp)
        return np.arange(max(sizes.max(initial=0), 1)) < sizes[:, None]

    @cached_property
    def is_full(self) -> bool:
        """Whether all groups have as many members."""
        return bool(self.is_member.all())

    @cached_property
    def incidence(self) -> sparse.csr_array:
        """Ones ``[groups, n]`` where a group joins a row."""
        groups, _ = self.is_member.nonzero()
        entries = (np.ones(len(groups)), (groups, self.members[self.is_member]))
        return sparse.csr_array(entries, shape=(len(self.groups), len(self.bounds)))

    def least(self, values: Vector) -> Vector:
        """The least of each group's entries of values ``[..., n]``, ``[..., groups]``; infinity for a group of none."""
        return np.asarray(np.where(self.is_member, values[..., self.members], np.inf).min(axis=-1))

    def chosen(self, places: NDArray[np.intp]) -> Conjunctions:
        """Some of the groups, in that order, over the same rows."""
        return Conjunctions(self.rows, self.bounds, tuple(self.groups[place] for place in places.tolist()))
