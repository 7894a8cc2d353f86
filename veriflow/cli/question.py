"""What export, verify and certify ask: a flow, a network, a property, and how far out to look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exporters import read_onnx

from ..errors import RegionError
from ..flow import USFlow
from ..level_sets import LevelSet
from ..property_text import parse_property
from ..query import Query, flow_query
from ..regions import Ball
from ..storage import load_flow

FlowOption = Annotated[Path, typer.Option("--flow", metavar="MODEL", help="A flow that `veriflow fit` wrote.")]
NetworkOption = Annotated[Path, typer.Option("--network", metavar="FILE", help="The network under test, as ONNX.")]
PropertyOption = Annotated[
    str,
    typer.Option(
        "--property",
        metavar="TEXT",
        help="What must hold, such as `y[1] - y[0] >= 0.5 | y[1] >= 2`, `classified_as(1)` or `robust(0.1, inf)`.",
    ),
]
MassOption = Annotated[float | None, typer.Option("--mass", help="Look at the most probable set of this mass.")]
RadiusOption = Annotated[float | None, typer.Option("--radius", help="Look at latents up to this norm instead.")]


@dataclass(frozen=True)
class Question:
    """One query for each norm interval of a level set.

    Attributes:
        flow: where inputs are probable.
        level_set: the inputs that are asked about.
        queries: over the level set's intervals, from the centre outwards.
    """

    flow: USFlow
    level_set: LevelSet
    queries: tuple[Query, ...]


def ask(flow_file: Path, network_file: Path, property_text: str, mass: float | None, radius: float | None) -> Question:
    """The question that the options of a command state.

    Raises:
        VeriflowError: whatever is wrong with the files, the property or the region.
    """
    if (mass is None) == (radius is None):
        raise RegionError(f"expected exactly one of --mass and --radius; got {'none' if mass is None else 'both'}")
    flow = load_flow(flow_file)
    network = read_onnx(network_file)
    prop = parse_property(property_text, read_onnx)
    level_set = flow.level_set(mass, radius=radius)
    balls = [Ball(flow.base.p, outer, flow.dim, inner) for inner, outer in level_set.intervals]
    return Question(flow, level_set, tuple(flow_query(flow, network, ball, prop) for ball in balls))
