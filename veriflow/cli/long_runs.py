"""Commands that take long: a live line on stderr, and what to do after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from .output import ExitCode, say


@contextmanager
def long_run(title: str, checkpoint: Path | None, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Run a block that may take long; it is given what changes a line with the time on stderr, where that is a terminal.

    An interrupt ends the command with advice, `ExitCode.INTERRUPTED`.

    Args:
        title: the line to begin with.
        checkpoint: the file that the block keeps, or None.
        quiet: no line.
    """
    say_resumed(checkpoint)
    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), text, TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    try:
        with Progress(*columns, console=console, transient=True, disable=hidden) as lines:
            line = lines.add_task(title, total=None)
            yield lambda now: lines.update(line, description=now)
    except KeyboardInterrupt:
        raise interrupted(checkpoint) from None


def say_resumed(checkpoint: Path | None) -> None:
    """Say that a run goes on, where it does."""
    if checkpoint is not None and checkpoint.exists():
        say(f"going on from the checkpoint {checkpoint}")


def interrupted(checkpoint: Path | None) -> typer.Exit:
    """Say how to go on after an interrupt; the exit that is to be raised."""
    if checkpoint is None:
        say("interrupted: nothing is written; with --checkpoint FILE a run can be resumed")
    elif not checkpoint.exists():
        say("interrupted before there was anything to save: nothing is written, the same command starts anew")
    else:
        say(f"interrupted: the same command goes on from the checkpoint {checkpoint}")
    return typer.Exit(ExitCode.INTERRUPTED)
