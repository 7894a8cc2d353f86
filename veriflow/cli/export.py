"""``veriflow export``: queries for other verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from exporters import DEFAULT_FORMS, TOOLS, forms_for, write_bundle

from ..query import Query
from .inputs import split_list
from .output import Document, JsonOption, facts, show
from .question import (
    FlowOption,
    MassOption,
    NetworkOption,
    PropertyOption,
    RadiusOption,
    TrimOption,
    ask,
    trimmed_entry,
)


def export(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to; an older bundle goes.")],
    mass: MassOption = None,
    radius: RadiusOption = None,
    trim: TrimOption = None,
    tools: Annotated[
        str | None,
        typer.Option("--for", metavar="TOOLS", help=f"Write what these tools read, with commas: {', '.join(TOOLS)}."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each query, in commands and instances.csv.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Write a folder in VNN-COMP layout: ONNX, VNN-LIB 1.0 and 2.0, SMT-LIB, instances.csv, manifest.json.

    With --for, the files are those that the tools read. README.txt has their commands.

    A level set of several shells gives one query for each, from the centre outwards.

    Example: `veriflow export --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.9
    -o bundle`
    """
    forms = DEFAULT_FORMS if tools is None else forms_for(split_list(tools) or [])
    question = ask(flow, network, prop, mass, radius, trim=trim)
    queries = numbered(question.queries)
    folder = write_bundle(output, queries, network_path=network, timeout=timeout, forms=forms)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    document: Document = {
        "folder": str(folder),
        "property": question.queries[0].text,
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


def numbered(queries: Sequence[Query]) -> dict[str, Query]:
    """Queries by the names that they have in a bundle."""
    return {"query" if len(queries) == 1 else f"query_{i}": query for i, query in enumerate(queries)}
