"""What commands ask: a network, a property, and a level set of a flow or a property file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exporters import Port, read_logits, read_onnx, read_vnnlib
from veriflow.density.level_sets import LevelSet
from veriflow.density.trimmed_sets import TrimmedLevelSet, trimmed_level_set
from veriflow.errors import PropertyError, QueryError, RegionError
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import load_flow
from veriflow.piecewise.graph import Graph
from veriflow.queries.calls import call_name
from veriflow.queries.logits import decision_graph, specification_on_logits, without_ending
from veriflow.queries.query import Query, flow_query
from veriflow.queries.restriction import restricted_queries, specification_queries
from veriflow.queries.specification import Specification
from veriflow.queries.text.formulas import parse_property
from veriflow.regions.ball import Ball

from .options import LATENT_TO_DATA, is_property_file
from .output import Document


@dataclass(frozen=True)
class Question:
    """Queries about a level set: it is as the property says where none of them is violated.

    Attributes:
        flow: where inputs are probable.
        level_set: the inputs that are asked about.
        queries: over the level set's intervals, from the centre outwards (or over the boxes of a property file).
        counted: a query whose violation is the property's alone, to count under the whole flow and on data.
        trimmed: the set that is asked about instead of the level set, if it is another; both have the same mass.
    """

    flow: USFlow
    level_set: LevelSet
    queries: tuple[Query, ...]
    counted: Query
    trimmed: TrimmedLevelSet | None = None


def ask(
    flow_file: Path,
    network_file: Path,
    property_text: str,
    mass: float | None,
    radius: float | None,
    direction: str = LATENT_TO_DATA,
    trim: str | None = None,
    output: str | None = None,
) -> Question:
    """The question about a level set that the options of a command state.

    Raises:
        VeriflowError: whatever is wrong with the files, the property or the region.
    """
    if (mass is None) == (radius is None):
        raise RegionError(f"expected exactly one of --mass and --radius; got {'none' if mass is None else 'both'}")
    from_file = is_property_file(property_text)
    if direction != LATENT_TO_DATA and not from_file:
        raise QueryError(f"expected --direction {direction!r} with a property file alone; got a property's text")
    flow = load_flow(flow_file)
    network, ending, classes, inputs = read_logits(network_file, output, flow.dim)
    _check_inputs(inputs, flow.features)
    trimmed = None
    if trim is None:
        level_set = flow.level_set(mass, radius=radius)
        balls = [Ball(flow.base.p, outer, flow.dim, inner) for inner, outer in level_set.intervals]
    else:
        trimmed = trimmed_level_set(flow, mass=mass, radius=radius, limit=trim_limit(trim))
        level_set, balls = trimmed.level_set, [trimmed.ball]
    if not from_file:
        prop = parse_property(property_text, partial(_other_network, property_text), classes)
        if ending is not None:
            network, prop = without_ending(network, ending, prop)
        queries = tuple(flow_query(flow, network, ball, prop) for ball in balls)
        return Question(flow, level_set, queries, queries[0], trimmed)
    spec = specification_on_logits(read_vnnlib(property_text), [ending])
    queries = tuple(query for ball in balls for query in restricted_queries(flow, ball, network, spec, direction))
    return Question(flow, level_set, queries, restricted_queries(flow, balls[0], network, spec)[0], trimmed)


def _other_network(property_text: str, file: str) -> Graph:
    """The network of a file that a property names: for its decisions up to the logits, else to its end."""
    if call_name(property_text) != "same_decision":
        return read_onnx(file)
    other = read_logits(file)
    return decision_graph(other.graph, other.ending)


def _check_inputs(inputs: Sequence[Port], features: Sequence[str]) -> None:
    """Refuse a network whose inputs are no row of the flow's features.

    Raises:
        QueryError: rows that cannot be told apart, columns with the names of the features in another order.
    """
    sizes = [port.size for port in inputs]
    for port in inputs:
        if sum(sizes) != len(features) and len(port.shape) > 1 and port.shape[0] > 1:
            raise QueryError(
                f"expected a network of {len(features)} inputs, as the flow gives; got {port.name!r} of shape "
                f"{list(port.shape)}, whose first axis is no batch of rows that are treated alike: export it with 1 there"
            )
    columns = [port.name for port in inputs]
    own, wanted = ([re.sub(r"\W", "_", name.casefold()) for name in names] for names in (columns, features))
    if own != wanted and sorted(own) == sorted(wanted):
        raise QueryError(
            f"expected inputs in the order of the flow's features, {', '.join(features)}; got {', '.join(columns)}"
        )


def trim_limit(text: str) -> float | None:
    """The limit that --trim states; None for ``auto``.

    Raises:
        RegionError: a text that is neither that nor a number.
    """
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise RegionError(f"expected --trim auto or a limit of latent coordinates; got {text!r}") from None


def trimmed_entry(trimmed: TrimmedLevelSet | None) -> Document:
    """A trimmed set, and the radius of the pure level set of its mass."""
    if trimmed is None:
        return None
    return {
        "radius": trimmed.ball.radius,
        "limit": trimmed.ball.limit,
        "mass": trimmed.mass,
        "mass_error": trimmed.mass_error,
        "level_set_radius": trimmed.level_set.radius,
    }


def ask_without_flow(networks: Sequence[str], property_text: str, output: str | None = None) -> tuple[Query, ...]:
    """The queries of a property file, one for each of its boxes.

    Args:
        networks: ``FILE``, where the property needs one file alone, or ``NAME=FILE`` with the property's names.
        property_text: the path of the property file.
        output: the output of each network that the file speaks of, where it has several.

    Raises:
        VeriflowError: whatever is wrong with the files.
    """
    if not is_property_file(property_text):
        raise PropertyError(f"expected a property file (NAME.vnnlib), as there is no --flow; got {property_text!r}")
    spec = read_vnnlib(property_text)
    return queries_on_files(network_files(networks, spec), spec, output)


def queries_on_files(files: Sequence[str], spec: Specification, output: str | None = None) -> tuple[Query, ...]:
    """The queries of a specification on network files, one for each network that it declares.

    Raises:
        VeriflowError: whatever is wrong with the files.
    """
    read = {file: read_logits(file, output, network.inputs) for file, network in zip(files, spec.networks, strict=True)}
    tested = [read[file] for file in files]
    spec = specification_on_logits(spec, [network.ending for network in tested])
    return specification_queries([network.graph for network in tested], spec)


def single_network(networks: Sequence[str]) -> Path:
    """The one network file of a question about a flow.

    Raises:
        QueryError: several.
    """
    if len(networks) != 1:
        raise QueryError(f"expected one --network beside --flow; got {len(networks)}")
    return Path(networks[0])


def network_files(given: Sequence[str], spec: Specification) -> list[str]:
    """The file of each network of the specification; networks that are equal share one.

    Raises:
        QueryError: files for other networks than those that the specification declares.
    """
    owners = [network for network in spec.networks if network.same_file_as is None]
    if len(owners) == 1 and len(given) == 1:
        files = {owners[0].name: given[0].removeprefix(f"{owners[0].name}=")}
    else:
        named = [entry.partition("=") for entry in given]
        files = {name: path for name, equals, path in named if equals}
        if len(files) != len(given) or set(files) != {owner.name for owner in owners}:
            wanted = " ".join(f"--network {owner.name or 'NAME'}=FILE" for owner in owners)
            raise QueryError(f"expected {wanted}, as the property declares; got {', '.join(given)}")
    found: list[str] = []
    for network in spec.networks:
        same = network.same_file_as
        found.append(files[network.name] if same is None else found[same])
    return found
