"""A query: is there an input in the region at which the graph's outputs violate the property?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from ..errors import QueryError
from ..piecewise.graph import Graph, with_maps_before_relus
from ..regions.ball import Ball
from ..regions.product import Product
from ..regions.region import Part, Region
from ..wording import shortened
from .constraints import Disjunction
from .rationals import is_huge
from .violation_arrays import ViolationArrays

if TYPE_CHECKING:  # a query needs no torch
    from ..flows.flow import Flow


@dataclass(frozen=True, eq=False)
class Application:
    """Where a query's graph applies a network: the names of the tensors that the network reads and gives."""

    network: Graph
    input: str
    output: str


@dataclass(frozen=True, eq=False)
class Query:
    """A graph, an input region and a violation.

    Attributes:
        graph: from the region's space to the outputs that the violation constrains. With a flow its input is the latent z,
            perhaps followed by free numbers such as a perturbation of the data point; without a flow it is the data. A ReLU
            that reads the input or another ReLU gets a copy to read.
        region: the set of inputs; its ends are float32 numbers (for a box perhaps around exact ones). With free numbers it
            is a product whose first part is the region of z.
        violation: disjuncts over the graph's outputs.
        text: the property in words.
        data: name of the graph's tensor that holds the data point; the input itself where there is no flow.
        flow: the flow in the graph, for densities and masses in reports.
        latent: name of the tensor that holds the latent point; None where the input begins with it.
        network_outputs: how many of the graph's outputs are the network's own, the first ones; None for all. The others
            are further quantities that the violation constrains, such as data points or a latent norm.
        others: names of the tensors that hold further data points, such as a perturbed one.
        output_names: what to call each of the network's outputs in reports; y[0], y[1], … where there are none.
        applications: the networks under test, each wherever it is applied.
        arrays: the violation as arrays; made here, and shared by queries that differ in their region alone.
    """

    graph: Graph
    region: Region
    violation: Disjunction
    text: str
    data: str
    flow: Flow | None = None
    latent: str | None = None
    network_outputs: int | None = None
    others: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    applications: tuple[Application, ...] = ()
    arrays: ViolationArrays = field(default=ViolationArrays((), 0), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "graph", with_maps_before_relus(self.graph))
        if self.arrays.violation is not self.violation or self.arrays.outputs != self.graph.output_size:
            object.__setattr__(self, "arrays", ViolationArrays(self.violation, self.graph.output_size))
        if self.region.dim != self.graph.input_size:
            raise QueryError(
                f"expected a region of {self.graph.input_size} dimensions, as the graph takes; got {self.region.dim}"
            )
        for constraint in (constraint for row in self.violation for constraint in row):
            if is_huge(constraint.bound) or any(is_huge(c) for _, c in constraint.coefficients):
                raise QueryError("expected a property with numbers of sizes up to 1e300; got a larger one")
        if not self.output_names:
            count = self.graph.output_size if self.network_outputs is None else self.network_outputs
            object.__setattr__(self, "output_names", tuple(f"y[{i}]" for i in range(count)))

    def __repr__(self) -> str:
        return f"Query({shortened(self.text)}: {self.graph!r} over {shortened(str(self.region))})"

    @property
    def features(self) -> list[str]:
        """What to call each entry of the data point: as the flow does, else X_0, X_1, …"""
        return list(self.flow.features) if self.flow else [f"X_{i}" for i in range(self.graph.sizes[self.data])]

    @property
    def latent_region(self) -> Part:
        """The part of the region that is about the latent z: the first one."""
        return self.region.parts[0]

    def at(self, region: Region) -> Query:
        """The same question over another region; one that is about z alone leaves the other parts of a product."""
        others = self.region.parts[1:]
        if others and len(region.parts) == 1 and region.dim == self.latent_region.dim:
            region = Product((*region.parts, *others))
        return replace(self, region=region.rounded_outward())

    def violated_by(self, outputs: list[Fraction], upper: list[Fraction] | None = None) -> bool:
        """Whether exact outputs violate the property; with ``upper``, whether all from ``outputs`` to ``upper`` do."""
        upper = outputs if upper is None else upper
        return any(all(constraint.holds_within(outputs, upper) for constraint in row) for row in self.violation)


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
