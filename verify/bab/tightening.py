"""Tighter bounds on the inputs of ReLUs, by a small branch and bound on each unit.

The gap between the two linear bounds of a ReLU grows with the interval of its input. So each unit that is unstable over the
region gets two trees of its own, one for each end of its interval: the domain with the worst bound is split again and
again, and the worst bound over the leaves is the new end. Layers are taken in order, each with the new bounds of those before.

Source: bound tightening by optimisation, as for mixed-integer programs (Tjeng et al., *Evaluating Robustness of Neural
Networks with Mixed Integer Programming*, ICLR 2019, section 4.2), with trees cut short in the place of exact optima.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veriflow.numerics.arrays import Indices, Vector
from veriflow.piecewise.bounds.alpha_crown import MarginBounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Graph
from veriflow.regions.region import Region

from .frontier import Frontier, misfit, numbers
from .relu_domains import ReluDomains, ReluTree

FIRST, MOST = 8, 2048
"""Splits in each tree in the first round, and in the last one: each round doubles them."""

EARLY = 16
"""Tightening begins once its first round costs at most EARLY times the work done so far."""

MEMORY = 1 << 28
"""Bytes that the trees of one layer may take: in wide layers each is split less often."""

KEPT = ("least", "most", "worth")
"""Names of the arrays over units in a frontier: lower and upper bounds, and whether the unit's trees grow again."""

WORTH = 0.02
"""Share by which a round must shrink a unit's interval for its trees to grow again."""


class Tightening:
    """Bounds over a region that get tighter round by round.

    Args:
        graph: whose units are bounded.
        region: of its inputs.
        root: α-CROWN's bounds over the whole region, with the relaxations to start from.

    Attributes:
        bounds: the tightest so far.
        cost: number of domains bounded, each counted by its share of the graph's units.
        splits: in each tree in the next round.
    """

    def __init__(self, graph: Graph, region: Region, root: MarginBounds) -> None:
        self.graph, self.region, self.root = graph, region, root
        self.bounds, self.cost, self.splits = root.bounds, 0.0, FIRST
        names = [relu.input for relu in graph.relus if relu.input in root.inner]
        self._worth = {name: np.ones(graph.sizes[name], dtype=bool) for name in names}

    def kept(self) -> dict[str, NDArray[Any]]:
        """Its state as arrays."""
        parts = ((self.bounds.lower, np.float64), (self.bounds.upper, np.float64), (self._worth, np.bool_))
        arrays = [np.concatenate([np.zeros(0, kind), *(part[name] for name in self._worth)]) for part, kind in parts]
        return {**dict(zip(KEPT, arrays, strict=True)), **numbers(cost=self.cost, splits=self.splits)}

    def restore(self, frontier: Frontier) -> None:
        """Go on from `kept`.

        Raises:
            StorageError: arrays for the units of another graph.
        """
        mine = self.kept()
        found = frontier.stacks({name: mine[name] for name in KEPT})
        if len(found[KEPT[0]]) != len(mine[KEPT[0]]):
            raise misfit("bounds of other units")
        self.cost, self.splits = frontier.number("cost"), frontier.count("splits")
        ends = np.cumsum([0, *(len(worth) for worth in self._worth.values())])
        units = {name: slice(*pair) for name, pair in zip(self._worth, itertools.pairwise(ends), strict=True)}
        least, most, worth = (found[name] for name in KEPT)
        lower, upper = self.bounds.lower, self.bounds.upper
        self.bounds = Bounds(
            {**lower, **{name: np.maximum(lower[name], least[place]) for name, place in units.items()}},
            {**upper, **{name: np.minimum(upper[name], most[place]) for name, place in units.items()}},
            self.bounds.convex,
        )
        self._worth = {name: worth[place] for name, place in units.items()}

    @property
    def is_over(self) -> bool:
        """Whether no further round is taken."""
        return self.splits > MOST or not any(worth.any() for worth in self._worth.values())

    def is_due(self, domains: int) -> bool:
        """Whether the next round is due, after a search has bounded so many domains: both get about as much work."""
        if self.cost:
            return domains >= self.cost and not self.is_over
        rows = [2 * self._units(name).size * self._share(self.graph.ending_at(name)) for name in self._worth]
        return EARLY * domains >= sum(rows) * (2 * FIRST + 1) and not self.is_over

    def tighten(self, deadline: float) -> None:
        """Take one round, up to ``deadline`` (a `time.monotonic` value)."""
        for name, worth in self._worth.items():
            if time.monotonic() > deadline:
                break
            low, high = self.bounds.lower[name], self.bounds.upper[name]
            units = self._units(name)
            self._worth[name] = np.zeros_like(worth)
            if not units.size:
                continue
            lower, upper = low.copy(), high.copy()
            least, most = self._ends(name, units, deadline)
            lower[units], upper[units] = np.maximum(low[units], least), np.minimum(high[units], most)
            self._worth[name] = upper - lower < (1 - WORTH) * (high - low)
            self.bounds = Bounds(
                {**self.bounds.lower, name: lower}, {**self.bounds.upper, name: upper}, self.bounds.convex
            )
        self.splits *= 2

    def _units(self, name: str) -> Indices:
        """Entries of a tensor whose trees are to grow."""
        return np.flatnonzero(self._worth[name] & (self.bounds.lower[name] < 0) & (self.bounds.upper[name] > 0))

    def _share(self, graph: Graph) -> float:
        """Cost of a domain of a part of the graph, relative to one of the whole graph."""
        return graph.relu_count / self.graph.relu_count

    def _ends(self, name: str, units: Indices, deadline: float) -> tuple[Vector, Vector]:
        """Lower and upper bounds on some entries of a tensor."""
        graph = self.graph.ending_at(name)
        eye = np.eye(graph.output_size)
        # an entry's margin is its lower bound; in the second half, minus its upper bound
        tree = ReluTree(graph, self.region, self.bounds, np.concatenate([-eye, eye]), np.zeros(2 * len(eye)))
        whole = tree.whole(np.concatenate([units, units + len(eye)]), self.root.inner[name])
        margins = self._grown(tree, whole, deadline)
        return margins[: len(units)], -margins[len(units) :]

    def _grown(self, tree: ReluTree, whole: ReluDomains, deadline: float) -> Vector:
        """Proved least margin of each row, ``[n]``: the worst domains are split, of rows whose margin is not above zero."""
        count, size = len(whole.rows), sum(array[0].nbytes for array in vars(whole).values())
        most = max(min(self.splits + 1, MEMORY // (count * size)), 1)
        kept = ReluDomains(*(np.zeros((count, most, *array.shape[1:]), array.dtype) for array in vars(whole).values()))
        margins = np.full((count, most), np.inf)

        def put(at: tuple[Indices, Indices], domains: ReluDomains, found: Vector) -> None:
            for array, part in zip(vars(kept).values(), vars(domains).values(), strict=True):
                array[at] = part
            margins[at] = found

        share = self._share(tree.graph)
        rows, column = np.arange(count), np.zeros(count, dtype=np.intp)
        found = tree.bounded(whole)
        put((rows, column), found.domains, found.margins)
        self.cost += count * share
        for last in range(1, most):
            worst = margins.argmin(axis=1)
            rows = np.flatnonzero(margins[np.arange(count), worst] <= 0)
            if not rows.size or time.monotonic() > deadline:
                break
            at = (rows, worst[rows])
            found = tree.bounded(kept[at].children())
            better = np.maximum(found.margins, margins[at].repeat(2))
            put(at, found.domains[::2], better[::2])
            put((rows, np.full_like(rows, last)), found.domains[1::2], better[1::2])
            self.cost += 2 * len(rows) * share
        return np.asarray(margins.min(axis=1))
