"""A query: is there an input in the region at which the graph's outputs violate the property?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from .errors import QueryError
from .piecewise.graph import Graph, compose
from .properties import Disjunction, Property
from .regions import Ball, Region

if TYPE_CHECKING:
    from .flow import Flow


@dataclass(frozen=True, eq=False)
class Query:
    """A graph, an input region and a violation.

    Attributes:
        graph: from the region's space (latent z, with a flow; else the data itself) to the network's outputs.
        region: where inputs may lie, its ends float32 numbers (for a box perhaps around exact ones).
        violation: disjuncts over the graph's outputs.
        text: the property in words.
        data: name of the graph's tensor that holds the data point; the input itself where there is no flow.
        flow: the flow in the graph, for densities and masses in reports.
        latent: name of the tensor that holds the latent point; None where that is the input.
        network_outputs: how many of the graph's outputs are the network's own, the first ones; None for all. The others
            are there for the violation to speak of, such as data points or a latent norm.
    """

    graph: Graph
    region: Region
    violation: Disjunction
    text: str
    data: str
    flow: Flow | None = None
    latent: str | None = None
    network_outputs: int | None = None

    def __post_init__(self) -> None:
        if self.region.dim != self.graph.input_size:
            raise QueryError(
                f"expected a region of {self.graph.input_size} dimensions, as the graph takes; got {self.region.dim}"
            )

    def at(self, region: Region) -> Query:
        """The same question over another region."""
        return replace(self, region=region.rounded_outward())

    def violated_by(self, outputs: list[Fraction]) -> bool:
        """Whether exact outputs violate the property."""
        return any(all(constraint.holds(outputs) for constraint in row) for row in self.violation)


def network_query(network: Graph, region: Region, prop: Property) -> Query:
    """A query on a network alone, over a region of its own inputs."""
    violation = prop.violation(network.output_size)
    return Query(network, region.rounded_outward(), violation, prop.text, network.input)


def flow_query(flow: Flow, network: Graph, region: Ball, prop: Property) -> Query:
    """A query on ``network ∘ flow`` over a ball or shell of the flow's latent space.

    Raises:
        QueryError: a network that does not take the flow's data.
    """
    if network.input_size != flow.dim:
        raise QueryError(f"expected a network of {flow.dim} inputs, as the flow gives; got one of {network.input_size}")
    decoder = flow.graph()
    graph = compose(decoder, network)
    return Query(graph, region.rounded_outward(), prop.violation(network.output_size), prop.text, decoder.output, flow)
