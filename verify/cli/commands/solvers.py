"""``veriflow solvers``: the engines and outside tools there are."""

from __future__ import annotations

from veriflow.runtime.lazy_imports import LazyImports

from ..output import Document, JsonOption, grid, show

with LazyImports(__name__) as imports:
    from ... import ENGINES, ExternalTool, found_tools
    from ...tools.registry import ADAPTERS, is_by_path


@imports.on_call
def solvers(as_json: JsonOption = False) -> None:
    """List what `verify --with` takes: which solvers are installed, where, what they take, how to get them.

    Programs are looked for in the folders of the environment variable VERIFLOW_TOOLS, beside Python, and on PATH. Any
    other goes by its path: `smt:PATH`, `vnnlib2:PATH`, `vnncomp:FOLDER`.

    Balls are those of the norms 1 and ∞.

    Example: `veriflow solvers`
    """
    entries: list[dict[str, Document]] = [
        _entry(e.name, "engine", e.version, None, e.description, e.install) for e in ENGINES.values()
    ]
    entries += [_tool_entry(name, adapter, tool) for name, adapter, tool in found_tools()]
    for kind, adapter in ADAPTERS.items():
        if is_by_path(kind):
            entries.append(_entry(f"{kind}:…", "by path", None, None, adapter.description, adapter.install))
    table = grid("solver", "version", "what it takes", "where it is, or how to get it")
    for entry in entries:
        version = entry["version"] or ("not installed" if entry["kind"] != "by path" else "")
        place = entry["path"] or (entry["install"] if entry["version"] is None else "")
        table.add_row(str(entry["name"]), str(version), str(entry["description"]), str(place))
    show({"engines": entries}, as_json, table)


def _entry(
    name: str, kind: str, version: str | None, path: str | None, description: str, install: str
) -> dict[str, Document]:
    return {
        "name": name,
        "kind": kind,
        "version": version,
        "path": path,
        "description": description,
        "install": install,
        "supports": [],
    }


def _tool_entry(name: str, adapter: type[ExternalTool], tool: ExternalTool | None) -> dict[str, Document]:
    if tool is None:
        return _entry(name, "outside tool", None, None, adapter.description, adapter.install)
    entry = _entry(name, "outside tool", tool.version(), str(tool.program), adapter.description, adapter.install)
    return {**entry, "supports": list(tool.capabilities)}
