"""The command line: one file per command, imported when the command is called.

Every refusal is one sentence on stderr and exit code 2, whatever raised it; the codes are those of `ExitCode`.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import VeriflowError
from .output import ExitCode, fail, os_error_sentence

COMMANDS = {
    "fit": "Fit a flow to a table.",
    "compress": "Make a flow easier to prove things about.",
    "info": "Describe a flow.",
    "sample": "Draw rows from a flow.",
    "score": "Say how probable the rows of a table are.",
    "level-set": "Describe a density level set.",
    "export": "Write queries for other verifiers.",
    "restrict": "Restrict a property file to a level set.",
    "verify": "Decide a property on a level set, or a property file.",
    "certify": "Find how far out a property holds.",
    "output-range": "Find the least and the greatest output on a level set.",
    "solvers": "List the engines.",
    "solver": "Be a solver for other programs.",
    "demo": "Show everything on one data set.",
}
"""Name → summary of each command; the function of that name is in the module of that name, with _ for -."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[
    1
]  # typer has its own copy of click, in which this class has no public name


class _LazyCommand(TyperCommand):
    """A command of `COMMANDS` whose module is not imported yet."""

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - the types are private to typer
        name = str(self.name).replace("-", "_")
        command = getattr(importlib.import_module(f".{name}", __name__), name)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(add_completion=False, rich_markup_mode="markdown")
            command.command(self.name)(function)
        return typer.main.get_command(command).make_context(*args, **extra)


class _Commands(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return _LazyCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - handed on as they are
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
            sys.stdout.flush()
        except VeriflowError as error:
            status = fail(str(error))
        except _UsageError as error:
            status = fail(error.format_message())  # type: ignore[attr-defined]
        except OSError as error:
            status = fail(os_error_sentence(error))
        except typer.Abort:
            status = ExitCode.INTERRUPTED
        except Exception:  # noqa: BLE001 - a defect: Python would exit with 1, which says that a property is violated
            traceback.print_exc()
            status = ExitCode.BROKEN
        sys.exit(status)


app = typer.Typer(cls=_Commands, rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def _describe(context: typer.Context) -> None:
    """Formal verification of neural networks on the inputs that really occur.

    Exit codes: 0 holds or done, 1 violated, 2 bad input, 3 unknown or out of time, 70 a defect of veriflow,
    130 interrupted.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line with the arguments of the process."""
    app(prog_name="veriflow")
    raise AssertionError("the command line exits")
