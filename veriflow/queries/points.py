"""Several data points that depend on one latent and on free numbers, and a copy of the network at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from ..errors import PropertyError
from ..numerics.arrays import Matrix, Vector
from ..piecewise.build import fresh, selection, with_map, with_more_inputs, with_norm, with_outputs_joined
from ..piecewise.graph import compose
from ..regions.ball import Ball
from ..regions.product import Product
from ..regions.region import Part
from .constraints import Disjunction
from .query import Application, Query, Setting


class Points:
    """Builds a graph of x, of further points computed from x, and of free numbers in given boxes and balls."""

    def __init__(self, setting: Setting) -> None:
        if len(setting.region.parts) > 1:
            raise PropertyError(f"expected a ball or a box of inputs; got {setting.region}")
        self.setting = setting
        self.parts = [*setting.region.parts]
        self.maps: list[tuple[str, Vector, list[tuple[slice, Matrix]], Vector]] = []

    def add_free_numbers(self, part: Part) -> slice:
        """Add free numbers that lie in a ball or box; returns their places among the input's coordinates."""
        start = sum(known.dim for known in self.parts)
        self.parts.append(part)
        return slice(start, start + part.dim)

    def perturb(self, name: str, ball: Ball, scales: Vector) -> slice:
        """Add a point ``x + scales ∘ δ`` with δ in the ball; returns the places of δ."""
        place = self.add_free_numbers(ball)
        self.maps.append(
            (name, np.ones(ball.dim), [(place, sparse.csr_array(sparse.diags_array(scales)))], np.zeros(ball.dim))
        )
        return place

    def change(
        self,
        name: str,
        column: int | None,
        value: float | slice | None,
        columns: Sequence[int] = (),
        by: slice | None = None,
    ) -> None:
        """Add the point x with one feature set to a number or a free number, and other features shifted by free numbers."""
        size = self.setting.network.input_size
        kept, shift, reads = np.ones(size), np.zeros(size), []
        if by is not None:
            reads.append((by, _unit_columns(size, columns)))
        if column is not None:
            kept[column] = 0
            if isinstance(value, slice):
                reads.append((value, _unit_columns(size, [column])))
            elif value is not None:
                shift[column] = value
        self.maps.append((name, kept, reads, shift))

    def query(
        self, text: str, points: Sequence[str], violation: Disjunction, norm: tuple[slice, float] | None = None
    ) -> Query:
        """The query: the network's outputs at the points, ``"x"`` among them, and then a norm of free numbers."""
        setting, network = self.setting, self.setting.network
        region = Product(tuple(self.parts)) if len(self.parts) > 1 else self.parts[0]
        graph = with_more_inputs(setting.decoder, region.dim - setting.region.dim)
        x = setting.decoder.output
        tensors = {"x": x}
        for name, kept, reads, shift in self.maps:
            tensors[name] = fresh(name, graph.sizes)
            terms = [(x, sparse.csr_array(sparse.diags_array(kept)))]
            if reads:
                terms.append((graph.input, sum(m @ selection(place, graph.input_size) for place, m in reads)))
            graph = with_map(graph, tensors[name], terms, shift)
        outputs, names, applied = [], [], []
        for point in points:
            graph = compose(graph, network, tensors[point])
            outputs.append(graph.output)
            applied.append(Application(network, tensors[point], graph.output))
            names += [f"y[{i}] at {point}" for i in range(network.output_size)]
        if norm is not None:
            graph = with_norm(graph, graph.input, *norm)
            outputs.append(graph.output)
            names.append("size of the perturbation")
        graph = with_outputs_joined(graph, outputs)
        others = tuple(tensors[name] for name, *_ in self.maps)
        return Query(
            graph,
            region.rounded_outward(),
            violation,
            text,
            x,
            setting.flow,
            others=others,
            output_names=tuple(names),
            applications=tuple(applied),
        )


def _unit_columns(size: int, columns: Sequence[int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(columns)), (columns, range(len(columns)))), shape=(size, len(columns)))
