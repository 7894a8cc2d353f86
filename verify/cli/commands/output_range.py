"""``veriflow output-range``: the least and the greatest output on a level set."""

from __future__ import annotations

from typing import Annotated

import typer

from veriflow.errors import RegionError
from veriflow.runtime.lazy_imports import LazyImports

from ..options import FlowOption, MassOption, NetworkOption, OutputOption, RadiusOption
from ..output import Document, ExitCode, JsonOption, facts, show

with LazyImports(__name__) as imports:
    from exporters import read_onnx
    from veriflow.flows.storage import load_flow
    from veriflow.queries.properties import formula_property
    from veriflow.queries.query import Query, flow_query
    from veriflow.queries.text.formulas import parse_score
    from veriflow.regions.ball import Ball

    from ... import RangeEnd
    from ... import output_range as search
    from ..findings import witness_entry, witness_table


@imports.on_call
def output_range(
    *,
    flow: FlowOption,
    network: NetworkOption,
    of: Annotated[
        str, typer.Option(metavar="TEXT", help="An output, or a sum of outputs such as `y[1] - 0.5*y[0]`.")
    ] = "y[0]",
    output: OutputOption = None,
    mass: MassOption = None,
    radius: RadiusOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds; what is proved by then counts.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Find the least and the greatest output on a level set: what is proved, and inputs that come up to it.

    Exit codes: 0 both ends are searched to the end, 3 the time was over before.

    Example: `veriflow output-range --flow houses.safetensors --network price.onnx --mass 0.9`
    """
    if (mass is None) == (radius is None):
        raise RegionError(f"expected exactly one of --mass and --radius; got {'none' if mass is None else 'both'}")
    model, graph, score = load_flow(flow), read_onnx(network, output), parse_score(of)
    level_set = model.level_set(mass, radius=radius)
    found = search(model, graph, level_set, score, timeout=timeout)
    query = flow_query(
        model, graph, Ball(model.base.p, found.high.witness.norm, model.dim), formula_property(score > 0)
    )
    document: dict[str, Document] = {
        "score": found.score,
        "mass": level_set.mass,
        "low": _entry(found.low, query),
        "high": _entry(found.high, query),
        "complete": found.complete,
        "reason": found.reason,
        "seconds": found.seconds,
    }
    answer = facts(
        {
            "score": found.score,
            "level set": f"mass {level_set.mass:.6g}",
            "proved": f"from {found.low.proved:.9g} to {found.high.proved:.9g}",
            "attained": f"from {found.low.attained:.9g} to {found.high.attained:.9g}",
            "reason": found.reason,
            "time": f"{found.seconds:.2f} s",
        }
    )
    low, high = (witness_table(end.witness, query) for end in (found.low, found.high))
    show(document, as_json, answer, "", "least:", low, "", "greatest:", high)
    raise typer.Exit(ExitCode.DONE if found.complete else ExitCode.UNKNOWN)


def _entry(end: RangeEnd, query: Query) -> Document:
    return {"proved": end.proved, "attained": end.attained, "witness": witness_entry(end.witness, query)}
