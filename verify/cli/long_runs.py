"""Commands that take long: a live line on stderr, and what to do after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from .output import say


@contextmanager
def long_run(title: str, checkpoint: Path | None, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Run a block that may take long; it is given what changes a line with the time on stderr, where that is a terminal.

    The first such change says that the block goes on from a checkpoint, where it does: by then the file is not refused any
    more. An interrupt comes out of the block with advice on stderr.

    Args:
        title: the line to begin with.
        checkpoint: the file that the block keeps, or None.
        quiet: no line.
    """
    is_resumed = checkpoint is not None and checkpoint.exists()
    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), text, TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as lines, advice(checkpoint):
        line = lines.add_task(title, total=None)

        def change(now: str) -> None:
            nonlocal is_resumed
            if is_resumed:
                say(f"going on from the checkpoint {checkpoint}")
            is_resumed = False
            lines.update(line, description=now)

        yield change


@contextmanager
def advice(checkpoint: Path | None) -> Iterator[None]:
    """Say how to go on after an interrupt of the block."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint is None:
            say("interrupted: with --checkpoint FILE a run can be resumed")
        elif not checkpoint.exists():
            say("interrupted before there was anything to save: the same command starts anew")
        else:
            say(f"interrupted: the same command goes on from the checkpoint {checkpoint}")
        raise
