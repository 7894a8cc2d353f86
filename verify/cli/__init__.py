"""The command line: one file per command, imported when the command is called.

Every refusal is one sentence on stderr and exit code 2, whatever raised it; the codes are those of `ExitCode`.
"""

from __future__ import annotations

import errno
import importlib
import re
import signal
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from veriflow import __version__
from veriflow.errors import VeriflowError
from veriflow.wording import perhaps, shortened

from .kernels import choose_common_kernels
from .output import ExitCode, fail, log_to_stderr, os_error_sentence, say
from .standard_streams import lasting_streams, open_closed_descriptors

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


_USAGE = {
    r"Invalid value for (.+?): Input should be ([^,]+)(,.*)?": r"expected \1 to be \2; got",
    r"Missing (.+?)\.?": r"expected \1; got",
    r"Option (.+) requires an argument\.": r"expected a value for \1; got",
    r"Option (.+) does not take a value\.": r"expected no value for \1; got one",
    r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)": r"expected fewer arguments; got \1 beside the others",
}
"""What typer and pydantic say of arguments, and the beginning of our sentence for it."""


class _LazyCommand(TyperCommand):
    """A command of `COMMANDS` whose module is not imported yet."""

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - the types are private to typer
        name = str(self.name).replace("-", "_")
        if name == "demo":
            choose_common_kernels()
        command = getattr(importlib.import_module(f".commands.{name}", __name__), name)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(add_completion=False, rich_markup_mode="markdown")
            command.command(self.name)(function)
        made = typer.main.get_command(command)
        verbose = [option for option in extra["parent"].command.params if option.name == "verbose"]
        for one in (made, *getattr(made, "commands", {}).values()):
            one.params += verbose
        return made.make_context(*args, **extra)


class _Commands(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return _LazyCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        if args[0] not in COMMANDS and not ctx.resilient_parsing:  # completion asks too
            meant = perhaps(args[0], COMMANDS)
            raise VeriflowError(f"expected a command among {', '.join(COMMANDS)}; got {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - handed on as they are
        with lasting_streams() as output:
            status = self._status(*args, **extra)
            output.flush()
            if output.failure is not None and output.failure.errno != errno.EPIPE:
                say(f"error: expected to be able to write to standard output; got {output.failure.strerror}")
                status = ExitCode.BAD_INPUT if status is None else status
        sys.exit(status)

    def _status(self, *args: Any, **extra: Any) -> int | None:  # noqa: ANN401 - handed on as they are
        """The exit code of a command that gives one, or of a refusal."""
        try:
            status: int | None = super().main(*args, **{**extra, "standalone_mode": False})
        except VeriflowError as error:
            status = fail(str(error))
        except _UsageError as error:
            status = fail(_usage_sentence(error))
        except OSError as error:
            status = fail(os_error_sentence(error))
        except typer.Abort:
            status = ExitCode.INTERRUPTED
        except Exception:  # noqa: BLE001 - a defect: Python would exit with 1, which says that a property is violated
            traceback.print_exc()
            status = ExitCode.BROKEN
        return status


def _usage_sentence(error: Any) -> str:  # noqa: ANN401 - as above
    if not hasattr(error, "possibilities"):
        return _worded(error.format_message(), error.__cause__)
    known = [name for option in error.ctx.command.params for name in option.opts]
    meant = perhaps(error.option_name, known)
    return f"expected an option of `{error.ctx.command_path}`; got {error.option_name!r}{meant}"


def _worded(message: str, cause: Any) -> str:  # noqa: ANN401 - pydantic's error, or none
    """What typer says of arguments, in our words; a value that came is named by the error that was its cause."""
    for theirs, ours in _USAGE.items():
        if found := re.fullmatch(theirs, message):
            sentence = found.expand(ours)
            if not sentence.endswith("got"):
                return sentence
            return f"{sentence} {shortened(repr(cause.errors()[0]['input'])) if cause else 'none'}"
    return message


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"veriflow {__version__}")
        raise typer.Exit


def _tell(context: typer.Context, value: bool) -> None:
    if value:
        context.with_resource(log_to_stderr())


app = typer.Typer(cls=_Commands, rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def _describe(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            callback=_tell,
            is_eager=True,
            expose_value=False,
            help="Say on stderr what is being done.",
        ),
    ] = False,
) -> None:
    """Formal verification of neural networks on the inputs that really occur.

    Exit codes: 0 holds or done, 1 violated, 2 bad input, 3 unknown or out of time, 70 a defect of veriflow,
    130 interrupted.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line with the arguments of the process."""
    open_closed_descriptors()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup lets SIGHUP be ignored
            signal.signal(number, signal.default_int_handler)
    try:
        app(prog_name="veriflow")
    except KeyboardInterrupt:  # one more, while the first was answered
        sys.exit(ExitCode.INTERRUPTED)
    raise AssertionError("the command line exits")
