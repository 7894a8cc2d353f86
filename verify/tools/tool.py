"""The template of every outside tool: supports → encode → run → parse → replay.

What a tool says is a claim. A ``sat`` counts once its witness was replayed here; an ``unsat`` becomes HOLDS under the tool's
name, with a reason that says whose claim it is. A crash, a hang, rubbish or a witness that does not replay is UNKNOWN
with the reason, so that other tools go on.
"""

from __future__ import annotations

import math
import re
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal

from exporters import TOOLS
from veriflow.queries.query import Query

from ..witness.verdict import Outcome, Verdict
from .nearby import replay_claim
from .process import MEMORY_LIMIT, ToolRun, run_tool

Words = list[str | Path]


@dataclass(frozen=True)
class Claim:
    """What a tool said.

    Attributes:
        answer: its verdict.
        point: the input that it gives for ``sat``, exact.
        reason: for ``unknown``, what it said, to follow its name.
    """

    answer: Literal["sat", "unsat", "unknown"]
    point: Sequence[Fraction] | None = None
    reason: str = "gave up"


class ExternalTool(ABC):
    """An outside program. A subclass says how a query is written for it and how its answer is read.

    Attributes:
        label: what the tool is called in sentences.
        description: what it takes, for the table of solvers.
        install: how to get it.
        name: what the user calls it, such as ``marabou`` or ``smt:/usr/bin/z3``.
        program: its file.
    """

    label: ClassVar[str]
    description: ClassVar[str]
    install: ClassVar[str]

    def __init__(self, name: str, program: Path) -> None:
        self.name = name
        self.program = program

    @property
    def title(self) -> str:
        """What the tool is called in sentences."""
        return self.label

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it says that it supports, in its own words, where it can be asked."""
        return ()

    def version(self) -> str:
        """The first thing that looks like a version in what it says to ``--version``, or "unknown"."""
        run = run_tool([self.program, "--version"], timeout=60)
        found = re.search(r"\d+(\.\w+)+", run.output + run.errors)
        return found.group() if found and not run.failure and not run.code else "unknown"

    def refusal(self, query: Query, timeout: float, stop: threading.Event | None) -> str | None:
        """Why it cannot take the query, to follow its name; None where it can, or does not say so within the time."""
        return None

    @classmethod
    def fits(cls, program: Path) -> bool:
        """Whether a program of the right name is the right one."""
        return True

    def documented_commands(self, tool: str, files: Mapping[str, Path], timeout: float) -> list[Words]:
        """The commands that run its program on files by form, those of `exporters.TOOLS` under that name."""
        paths = {form: str(path) for form, path in files.items()}
        return [[*words] for words in TOOLS[tool].commands(str(self.program), paths, max(1, math.floor(timeout)))]

    @abstractmethod
    def encode(self, query: Query, folder: Path, timeout: float) -> list[Words]:
        """Write the query into the folder, and give the commands to run there: the query is ``sat`` if any of them is.

        Raises:
            QueryError: a query that has no such form.
        """

    @abstractmethod
    def parse(self, run: ToolRun, query: Query, folder: Path) -> Claim:
        """What one command said; ``unknown`` with a reason for anything that cannot be read."""

    def run(
        self, query: Query, *, timeout: float, memory: float = MEMORY_LIMIT, stop: threading.Event | None = None
    ) -> Verdict:
        """Decide a query.

        Raises:
            QueryError: a query that cannot be written for the tool.
        """
        start = time.monotonic()
        refusal = self.refusal(query, timeout, stop)
        if refusal is not None:
            return Verdict(Outcome.UNKNOWN, f"{self.title} {refusal}")
        if time.monotonic() - start >= timeout:
            return Verdict(
                Outcome.UNKNOWN, f"{self.title} reached the time limit of {timeout:.3g} s before it was asked"
            )
        doubts: list[str] = []
        with tempfile.TemporaryDirectory(prefix="veriflow-") as name:
            folder = Path(name)
            commands = self.encode(query, folder, max(timeout - (time.monotonic() - start), 0.01))
            for k, command in enumerate(commands):
                left = (timeout - (time.monotonic() - start)) / (len(commands) - k)
                claim = self._claim(command, query, folder, max(left, 0.01), memory, stop)
                if claim.answer == "sat":
                    witness = None if claim.point is None else replay_claim(query, claim.point)
                    if witness is not None:
                        return Verdict(Outcome.VIOLATED, f"{self.title} found a violation, replayed exactly", witness)
                    fault = "gives no witness" if claim.point is None else "its witness does not replay"
                    doubts.append(f"claims a violation but {fault}")
                elif claim.answer == "unknown":
                    doubts.append(claim.reason)
        if doubts:
            return Verdict(Outcome.UNKNOWN, f"{self.title} {'; '.join(dict.fromkeys(doubts))}")
        return Verdict(Outcome.HOLDS, f"{self.title} claims that there is no violation; its proof was not checked")

    def _claim(
        self,
        command: Words,
        query: Query,
        folder: Path,
        timeout: float,
        memory: float,
        stop: threading.Event | None,
    ) -> Claim:
        run = run_tool(command, timeout=timeout, memory=memory, folder=folder, stop=stop)
        if run.failure:
            return Claim("unknown", reason=run.failure)
        return self.parse(run, query, folder)


def no_violation(run: ToolRun) -> Claim:
    """The claim of a tool that said ``unsat``, which counts where it came to its end without a failure."""
    return unreadable(run) if run.code else Claim("unsat")


def unreadable(run: ToolRun) -> Claim:
    """The claim of a tool whose answer cannot be read."""
    last = run.last_words
    said = f": {last}" if last else ""
    if run.code:
        return Claim("unknown", reason=f"failed with exit code {run.code}{said}")
    return Claim("unknown", reason=f"gave no answer that could be read{said}")


def exact_number(text: str) -> Fraction | None:
    """A decimal, with or without an exponent, or a quotient of whole numbers, exactly; None for anything else."""
    try:
        return Fraction(text.strip()) if len(text) < 10_000 and _small_exponent(text) else None
    except (ValueError, ZeroDivisionError):
        return None


def _small_exponent(text: str) -> bool:
    exponent = text.lower().rpartition("e")[2].strip()
    return "e" not in text.lower() or (exponent.lstrip("+-").isdigit() and abs(int(exponent)) < 1000)


def complete(found: dict[int, Fraction | None], size: int) -> list[Fraction] | None:
    """The point whose coordinates were found, or None if any is missing or no number."""
    point = [found.get(i) for i in range(size)]
    return None if any(value is None for value in point) else [value for value in point if value is not None]
