"""How commands answer: one JSON document or tables on stdout, sentences on stderr, an exit code."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, TypeAlias

import typer
from rich.console import Console, RenderableType
from rich.table import Table

Document: TypeAlias = "Mapping[str, Document] | Sequence[Document] | str | float | None"
"""A JSON value; infinite numbers are written as null."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

console = Console(markup=False, highlight=False, emoji=False)
"""Standard output; names from files may hold brackets, so nothing is markup."""


class ExitCode(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    VIOLATED = 1
    BAD_INPUT = 2
    UNKNOWN = 3
    BROKEN = 70
    INTERRUPTED = 130


def show(document: Document, as_json: bool, *tables: RenderableType) -> None:
    """Print the document as JSON, or else the tables."""
    if as_json:
        typer.echo(json.dumps(_finite(document), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        console.print(*tables, sep="\n")


def facts(rows: Mapping[str, object]) -> Table:
    """Two columns: what is meant and its value. Rows whose value is None are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, cell(value))
    return table


def grid(*columns: str) -> Table:
    """An empty table with these column heads."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def cell(value: object) -> str:
    """A value for a table: numbers to six digits, those of more digits before the point to twelve."""
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.12g}"
    return str(value)


def say(sentence: str) -> None:
    """Print a sentence on stderr."""
    typer.echo(sentence, err=True)


def fail(sentence: str) -> ExitCode:
    """Print why the input is refused, on one line."""
    say(f"error: {' '.join(sentence.split())}")
    return ExitCode.BAD_INPUT


PACKAGES = ("veriflow", "exporters", "verify")


class _StderrLines(logging.Handler):
    """Log records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.name}: {record.getMessage()}")


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write log records of the packages to stderr, while the block runs."""
    loggers, handler = [logging.getLogger(name) for name in PACKAGES], _StderrLines()
    if any(isinstance(one, _StderrLines) for one in loggers[0].handlers):  # -v was given twice
        yield
        return
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def os_error_sentence(error: OSError) -> str:
    """What the operating system refused."""
    what = "to read or write" if error.filename is None else f"to be able to use {str(error.filename)!r}"
    return f"expected {what}; got {error.strerror or error}"


def _finite(value: Document) -> Document:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
