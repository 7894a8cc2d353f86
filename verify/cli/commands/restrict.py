"""``veriflow restrict``: a property file on a level set, for other verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veriflow.errors import PropertyError
from veriflow.runtime.lazy_imports import LazyImports

from ..options import (
    LATENT_TO_DATA,
    DirectionOption,
    FlowOption,
    MassOption,
    NetworkOption,
    NetworkOutputOption,
    PropertyOption,
    RadiusOption,
    TrimOption,
    is_property_file,
)
from ..output import Document, JsonOption, facts, show

with LazyImports(__name__) as imports:
    from exporters import write_bundle

    from ..question import ask, trimmed_entry
    from .export import numbered


@imports.on_call
def restrict(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to; an older bundle goes.")],
    network_output: NetworkOutputOption = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    trim: TrimOption = None,
    direction: DirectionOption = LATENT_TO_DATA,
    timeout: Annotated[float, typer.Option(help="Seconds for each row of instances.csv.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Write the queries of a VNN-LIB file about a level set alone, as a folder in VNN-COMP layout.

    A query is violated by an input that the file asks for and that the flow holds for probable.

    Example: `veriflow restrict --flow setosa.safetensors --mass 0.9 --network net.onnx --property narrow.vnnlib -o bundle`
    """
    if not is_property_file(prop):
        raise PropertyError(f"expected a property file (NAME.vnnlib); got {prop!r}")
    question = ask(flow, network, prop, mass, radius, direction, trim, network_output)
    queries = numbered(question.queries)
    about: dict[str, str | float] = {"direction": direction, "level_set_mass": question.level_set.mass}
    folder = write_bundle(output, queries, network_path=network, timeout=timeout, extra=dict.fromkeys(queries, about))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    document: Document = {
        "folder": str(folder),
        "property": prop,
        "direction": direction,
        "mass": question.level_set.mass,
        "trimmed": trimmed_entry(question.trimmed),
        "queries": list(queries),
        "files": files,
    }
    show(
        document,
        as_json,
        facts({"folder": folder, "mass": question.level_set.mass, "region": question.trimmed}),
        "",
        *files,
    )
