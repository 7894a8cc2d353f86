"""``veriflow solvers``: the engines there are."""

from __future__ import annotations

from verify import ENGINES

from .output import JsonOption, grid, show


def solvers(as_json: JsonOption = False) -> None:
    """List the engines for `verify --with`: which are installed, what they take, how to get them.

    Example: `veriflow solvers`
    """
    table = grid("engine", "version", "what it takes", "how to install")
    for engine in ENGINES.values():
        table.add_row(engine.name, engine.version or "not installed", engine.description, engine.install)
    entries = [
        {"name": e.name, "version": e.version, "description": e.description, "install": e.install}
        for e in ENGINES.values()
    ]
    show({"engines": entries}, as_json, table)
