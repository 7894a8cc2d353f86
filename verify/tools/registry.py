"""Outside tools by name: where their programs are looked for, and what the user calls them.

A program is the path that follows the colon in its name, such as ``marabou:/opt/bin/Marabou``; without one it is looked for in
the folders of the environment variable ``VERIFLOW_TOOLS``, then beside this Python, then on PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from veriflow.errors import SolverError
from veriflow.queries.query import Query
from veriflow.wording import perhaps

from .gurobi import Gurobi
from .marabou import Marabou
from .process import run_tool
from .smtlib import SmtLibTool
from .tool import ExternalTool
from .vnnlib import VnnCompTool, VnnLib2Tool

FOLDERS_VARIABLE = "VERIFLOW_TOOLS"

SMT_PROGRAMS = ("z3", "cvc5", "yices-smt2", "opensmt", "mathsat")
"""Programs that `found_tools` looks for; any other goes by its path."""


class Vibecheck(VnnLib2Tool):
    """vibecheck (GPL-3.0, run as a program of its own) by the interface of VNN-LIB 2.0."""

    label = "vibecheck"
    install = "pip install vibecheck-nn, in an environment of its own"

    def refusal(self, query: Query, timeout: float, stop: threading.Event | None) -> str | None:
        """None: every query that has a portable form."""
        return None


@dataclass(frozen=True)
class ToolKind:
    """What the part of a name before the colon stands for.

    Attributes:
        adapter: the adapter.
        programs: file names to look for where no path is given; none where a path is needed.
        fits: whether a program that was found is the right one.
    """

    adapter: type[ExternalTool]
    programs: tuple[str, ...] = ()
    fits: Callable[[Path], bool] = lambda _: True


def _has_gurobi(python: Path) -> bool:
    run = run_tool([python, "-I", "-c", "import gurobipy"], timeout=60)
    return not run.failure and run.code == 0


KINDS: dict[str, ToolKind] = {
    "marabou": ToolKind(Marabou, ("Marabou", "marabou")),
    "vibecheck": ToolKind(Vibecheck, ("vibecheck",)),
    "gurobi": ToolKind(Gurobi, ("python3", "python"), _has_gurobi),
    "smt": ToolKind(SmtLibTool),
    "vnnlib2": ToolKind(VnnLib2Tool),
    "vnncomp": ToolKind(VnnCompTool),
}


def external_tool(name: str) -> ExternalTool:
    """The outside tool of that name, ``KIND`` or ``KIND:PATH``.

    Raises:
        SolverError: an unknown kind, a program that is not there or that cannot be run.
    """
    kind_name, _, path = name.partition(":")
    kind = KINDS.get(kind_name)
    if kind is None:
        raise SolverError(f"expected an outside tool among {', '.join(KINDS)}; got {name!r}{perhaps(kind_name, KINDS)}")
    if not path and not kind.programs:
        raise SolverError(f"expected a path after {kind_name!r}, such as {kind_name}:/path/to/it; got none")
    program = _given(name, path, kind) if path else next(iter(_found(kind)), None)
    if program is None:
        raise SolverError(
            f"expected a program for {name!r} in {FOLDERS_VARIABLE}, beside Python or on PATH; it is not installed "
            f"({kind.adapter.install})"
        )
    return kind.adapter(name, program)


def found_tools() -> list[tuple[str, type[ExternalTool], ExternalTool | None]]:
    """Every tool that has a name of its own, with its adapter, and with its program where that is found."""
    rows: list[tuple[str, type[ExternalTool], ExternalTool | None]] = []
    for name, kind in KINDS.items():
        if kind.programs:
            program = next(iter(_found(kind)), None)
            rows.append((name, kind.adapter, None if program is None else kind.adapter(name, program)))
    for program_name in SMT_PROGRAMS:
        for program in _on_folders(program_name)[:1]:
            name = f"smt:{program}" if program_name == "cvc5" else f"smt:{program_name}"  # smt:cvc5 is an engine
            rows.append((name, SmtLibTool, SmtLibTool(name, program)))
    return rows


def _given(name: str, path: str, kind: ToolKind) -> Path:
    place = Path(path).expanduser()
    if kind.adapter is VnnCompTool:
        for script in ("prepare_instance.sh", "run_instance.sh"):
            if not (place / script).is_file():
                raise SolverError(f"expected a folder with {script} for {name!r}; got none there")
        return place
    program = _on_folders(path)[0] if os.sep not in path and _on_folders(path) else place.absolute()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise SolverError(f"expected a program for {name!r}; got {path!r}, which cannot be run")
    return program


def _found(kind: ToolKind) -> list[Path]:
    programs = [program for name in kind.programs for program in _on_folders(name)]
    return [program for program in dict.fromkeys(programs) if kind.fits(program)]


def _on_folders(name: str) -> list[Path]:
    folders = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    folders += [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    places = [shutil.which(name, path=folder) for folder in folders if folder]
    return [Path(place).absolute() for place in dict.fromkeys(places) if place]
