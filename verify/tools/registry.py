"""Outside tools by name: where their programs are looked for, and what the user calls them.

A program is the path that follows the colon in its name, such as ``marabou:/opt/bin/Marabou``; without one it is looked for in
the folders of the environment variable ``VERIFLOW_TOOLS``, then beside this Python, then on PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

from exporters import TOOLS
from veriflow.errors import SolverError
from veriflow.queries.query import Query
from veriflow.wording import perhaps

from .gurobi import Gurobi
from .marabou import Marabou
from .smtlib import SmtLibTool
from .tool import ExternalTool
from .vnnlib import VnnCompTool, VnnLib2Tool

FOLDERS_VARIABLE = "VERIFLOW_TOOLS"


class Vibecheck(VnnLib2Tool):
    """vibecheck (GPL-3.0, run as a program of its own) by the interface of VNN-LIB 2.0."""

    label = "vibecheck"
    install = "pip install vibecheck-nn, in an environment of its own"

    def refusal(self, query: Query, timeout: float, stop: threading.Event | None) -> str | None:
        """None: it takes every query that has a portable form."""
        return None


ADAPTERS: dict[str, type[ExternalTool]] = {
    "marabou": Marabou,
    "vibecheck": Vibecheck,
    "gurobi": Gurobi,
    "smt": SmtLibTool,
    "vnnlib2": VnnLib2Tool,
    "vnncomp": VnnCompTool,
}
"""How tools are run, by what stands before the colon of their names; `exporters.TOOLS` says which tools there are."""


def external_tool(name: str) -> ExternalTool:
    """The outside tool of that name, ``KIND`` or ``KIND:PATH``.

    Raises:
        SolverError: an unknown kind, a program that is not there or that cannot be run.
    """
    kind, _, path = name.partition(":")
    adapter = ADAPTERS.get(kind)
    if adapter is None:
        raise SolverError(
            f"expected an outside tool among {', '.join(ADAPTERS)}; got {name!r}{perhaps(kind, ADAPTERS)}"
        )
    if not path and is_by_path(kind):
        raise SolverError(f"expected a path after {kind!r}, such as {kind}:/path/to/it; got none")
    program = _given(name, path, adapter) if path else _found(kind)
    if program is None:
        raise SolverError(
            f"expected a program for {name!r} in {FOLDERS_VARIABLE}, beside Python or on PATH; it is not installed "
            f"({adapter.install})"
        )
    return adapter(name, program)


def is_by_path(kind: str) -> bool:
    """Whether tools of a kind are named with the path of their program."""
    return kind not in TOOLS or not TOOLS[kind].programs


def found_tools() -> list[tuple[str, type[ExternalTool], ExternalTool | None]]:
    """Every tool that has a name of its own, with its adapter, and with its program where that is found."""
    rows: list[tuple[str, type[ExternalTool], ExternalTool | None]] = []
    for name, adapter in ADAPTERS.items():
        if not is_by_path(name):
            program = _found(name)
            rows.append((name, adapter, None if program is None else adapter(name, program)))
    for name, tool in TOOLS.items():
        if tool.adapter and tool.adapter != name and (program := _found(name)) is not None:
            place = program if name == "cvc5" else name  # smt:cvc5 is an engine
            full = f"{tool.adapter}:{place}"
            rows.append((full, ADAPTERS[tool.adapter], ADAPTERS[tool.adapter](full, program)))
    return rows


def _given(name: str, path: str, adapter: type[ExternalTool]) -> Path:
    place = Path(path).expanduser()
    if adapter is VnnCompTool:
        for script in ("prepare_instance.sh", "run_instance.sh"):
            if not (place / script).is_file():
                raise SolverError(f"expected a folder with {script} for {name!r}; got none there")
        return place
    program = _on_folders(path)[0] if os.sep not in path and _on_folders(path) else place.absolute()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise SolverError(f"expected a program for {name!r}; got {path!r}, which cannot be run")
    return program


def _found(name: str) -> Path | None:
    """The first program of a tool of `exporters.TOOLS` that is the right one."""
    programs = [program for file in TOOLS[name].programs for program in _on_folders(file)]
    return next((program for program in dict.fromkeys(programs) if ADAPTERS[TOOLS[name].adapter].fits(program)), None)


def _on_folders(name: str) -> list[Path]:
    folders = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    folders += [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    places = [shutil.which(name, path=folder) for folder in folders if folder]
    return [Path(place).absolute() for place in dict.fromkeys(places) if place]
