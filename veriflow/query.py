"""A query: is there an input in the region at which the graph's outputs violate the property?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from .errors import QueryError
from .piecewise.graph import Graph
from .regions import Ball, Product, Region

if TYPE_CHECKING:
    from .flow import Flow
    from .properties import Disjunction


@dataclass(frozen=True, eq=False)
class Query:
    """A graph, an input region and a violation.

    Attributes:
        graph: from the region's space to the outputs that the violation speaks of. With a flow, the input begins with
            the latent z; numbers that may be chosen freely, such as a perturbation of the data point, follow it.
        region: where inputs may lie, its ends float32 numbers; a product whose first part is about z, where more than z
            is chosen.
        violation: disjuncts over the outputs.
        text: the property in words.
        data: name of the graph's tensor that holds the data point; the input itself where there is no flow.
        flow: the flow that the graph begins with, for densities and masses in reports.
        others: names of the tensors that hold further data points, such as a perturbed one.
        output_names: what to call each output in reports; y[0], y[1], … where there are none.
    """

    graph: Graph
    region: Region
    violation: Disjunction
    text: str
    data: str
    flow: Flow | None = None
    others: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.region.dim != self.graph.input_size:
            raise QueryError(
                f"expected a region of {self.graph.input_size} dimensions, as the graph takes; got {self.region.dim}"
            )
        if not self.output_names:
            object.__setattr__(self, "output_names", tuple(f"y[{i}]" for i in range(self.graph.output_size)))

    @property
    def latent_region(self) -> Region:
        """The part of the region that is about the latent z: the first part of a product, or all of it."""
        return self.region.parts[0] if isinstance(self.region, Product) else self.region

    def at(self, region: Region) -> Query:
        """The same question over another region; one that is about z alone leaves the other parts of a product."""
        if (
            isinstance(self.region, Product)
            and region.dim == self.latent_region.dim
            and not isinstance(region, Product)
        ):
            region = Product((region, *self.region.parts[1:]))
        return replace(self, region=region.rounded_outward())

    def violated_by(self, outputs: list[Fraction]) -> bool:
        """Whether exact outputs violate the property."""
        return any(all(constraint.holds(outputs) for constraint in row) for row in self.violation)


@dataclass(frozen=True, eq=False)
class Setting:
    """What a property is asked about.

    Attributes:
        decoder: from the region's space to data points; no nodes at all where the region is one of data points.
        network: the network under test.
        region: of latents, or of data points.
        features: names of the data's coordinates, or none.
        flow: where the decoder comes from, if from a flow.
    """

    decoder: Graph
    network: Graph
    region: Region
    features: Sequence[str] = ()
    flow: Flow | None = None


class Statement(Protocol):
    """What can be asked: a property of the outputs, or a relation between several points or networks."""

    @property
    def text(self) -> str:
        """The statement in words."""

    def query(self, setting: Setting) -> Query:
        """The question whether the statement is violated."""


def network_query(network: Graph, region: Region, prop: Statement) -> Query:
    """A query on a network alone, over a region of its own inputs."""
    identity = Graph(network.input, network.input_size, (), network.input)
    return prop.query(Setting(identity, network, region))


def flow_query(flow: Flow, network: Graph, region: Ball, prop: Statement) -> Query:
    """A query on ``network ∘ flow`` over a ball or shell of the flow's latent space.

    Raises:
        QueryError: a network that does not take the flow's data.
        PropertyError: a property that does not fit the network or the region.
    """
    if network.input_size != flow.dim:
        raise QueryError(f"expected a network of {flow.dim} inputs, as the flow gives; got one of {network.input_size}")
    return prop.query(Setting(flow.graph(), network, region, flow.features, flow))
