"""``veriflow export``: queries for other verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from exporters import DEFAULT_FORMS, bundle_tools, forms_for
from veriflow.runtime.lazy_imports import LazyImports

from ..options import (
    FlowOption,
    MassOption,
    NetworkOption,
    NetworkOutputOption,
    PropertyOption,
    RadiusOption,
    TrimOption,
)
from ..output import Document, JsonOption, facts, show

with LazyImports(__name__) as imports:
    from exporters import write_bundle
    from veriflow.queries.query import Query

    from ... import reduce_query
    from ..inputs import split_list
    from ..question import ask, trimmed_entry


@imports.on_call
def export(
    *,
    flow: FlowOption,
    network: NetworkOption,
    prop: PropertyOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to; an older bundle goes.")],
    network_output: NetworkOutputOption = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    trim: TrimOption = None,
    tools: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TOOLS", help=f"Write what these tools read, with commas: {', '.join(bundle_tools())}."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each query, in commands and instances.csv.")] = 300.0,
    reduce: Annotated[
        bool, typer.Option("--reduce", help="Fold away the ReLUs that keep to one phase all over the region.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a folder in VNN-COMP layout: ONNX, VNN-LIB 1.0 and 2.0, SMT-LIB, instances.csv, manifest.json.

    With --for, the files are those that the tools read. README.txt has their commands.

    With --reduce, outside verifiers get smaller networks, equal to the query's own inside its region only.

    A level set of several shells gives one query for each, from the centre outwards.

    Example: `veriflow export --flow setosa.safetensors --network net.onnx --property "classified_as(0)" --mass 0.9
    -o bundle`
    """
    forms = DEFAULT_FORMS if tools is None else forms_for(split_list(tools) or [])
    question = ask(flow, network, prop, mass, radius, trim=trim, output=network_output)
    queries = numbered(question.queries)
    found = {name: reduce_query(query) for name, query in queries.items()} if reduce else {}
    counts = {name: reduction.counts for name, reduction in found.items()}
    folder = write_bundle(
        output,
        {**queries, **{name: reduction.query for name, reduction in found.items()}},
        network_path=network,
        timeout=timeout,
        extra={name: {"reduced_relus": count} for name, count in counts.items()},
        forms=forms,
        bounds={name: reduction.bounds for name, reduction in found.items()},
    )
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    document: Document = {
        "folder": str(folder),
        "property": question.queries[0].text,
        "mass": question.level_set.mass,
        "trimmed": trimmed_entry(question.trimmed),
        "queries": list(queries),
        "reduced_relus": counts or None,
        "files": files,
    }
    relus = ", ".join(f"{count['before']} before, {count['after']} after" for count in counts.values())
    rows = {"folder": folder, "mass": question.level_set.mass, "region": question.trimmed, "ReLUs": relus or None}
    show(document, as_json, facts(rows), "", *files)


def numbered(queries: Sequence[Query]) -> dict[str, Query]:
    """Queries by the names that they have in a bundle."""
    return {"query" if len(queries) == 1 else f"query_{i}": query for i, query in enumerate(queries)}
