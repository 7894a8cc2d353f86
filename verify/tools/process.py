"""Outside programs in processes that can be killed, with limits on time, memory and output.

A program is started by a guard, see `guard`. When it ends, runs out of its limits or is no longer wanted, or this process
dies, everything that it started is asked to end and then killed, so that nothing is left running.
"""

from __future__ import annotations

import logging
import os
import selectors
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from veriflow.errors import SolverError

_log = logging.getLogger(__name__)

MEMORY_LIMIT = 8.0
"""Gigabytes (2³⁰ bytes) of data that a process may hold, unless told otherwise."""

OUTPUT_LIMIT = 2**24
"""Bytes of standard output, and of standard error, that a process may print."""

_GUARD = Path(__file__).with_name("guard.py")
_GRACE = 1.0  # seconds between asking to end and killing
_TICK = 0.05  # seconds between looks at the clock
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "out of memory", "Cannot allocate memory", "can't allocate memory")


@dataclass(frozen=True)
class ToolRun:
    """How a process ended and what it printed.

    Attributes:
        failure: why it did not come to its own end, to follow the tool's name: "reached the time limit of 60 s", "ran
            out of memory (limit 8 GB)", "was ended by signal 11", …; empty where it ended by itself.
        code: exit status; negative for a signal.
        output: standard output, as text.
        errors: standard error, as text.
    """

    failure: str
    code: int
    output: str
    errors: str

    @property
    def last_words(self) -> str:
        """The last line that it printed, on standard error if there is one there; at most 200 characters."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1].strip()[:200] if lines else ""


def run_tool(
    command: Sequence[str | Path],
    *,
    timeout: float,
    memory: float = MEMORY_LIMIT,
    folder: str | Path | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
) -> ToolRun:
    """Run a program to its end or to one of its limits; nothing that it started is left running.

    Args:
        command: the program and its arguments; nothing of it is read by a shell.
        timeout: seconds.
        memory: gigabytes for each of its processes, where the system can limit that.
        folder: its working folder.
        stop: ends the program early once it is set.
        environment: variables to add.

    Raises:
        SolverError: a program that cannot be started.
    """
    _log.info("running %s", shlex.join(map(str, command)))
    processor_seconds = int(timeout * (os.cpu_count() or 1)) + 60
    limits = [str(int(memory * 2**30)), str(processor_seconds), str(_GRACE)]
    try:
        process = subprocess.Popen(  # noqa: S603 - the program that the user named
            [sys.executable, "-I", "-S", str(_GUARD), *limits, *map(str, command)],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SolverError(f"expected a program that starts; got {error}") from None
    printed: dict[str, bytearray] = {"output": bytearray(), "errors": bytearray()}
    failure = ""
    try:
        failure = _watched(process, printed, timeout, stop)
    finally:
        _end(process)
        for pipe, name in _pipes(process):
            with suppress(OSError, ValueError):
                printed[name] += pipe.read() or b""  # not blocking: what is there
            pipe.close()
    output, errors = (bytes(printed[name][:OUTPUT_LIMIT]).decode(errors="replace") for name in ("output", "errors"))
    code = process.returncode
    if not failure and code != 0 and any(word in errors + output for word in _OUT_OF_MEMORY):
        failure = f"ran out of memory (limit {memory:g} GB)"
    elif not failure and (code < 0 or 128 < code <= 128 + 64):
        failure = f"was ended by signal {-code if code < 0 else code - 128}"
    return ToolRun(failure, code, output, errors)


def _pipes(process: subprocess.Popen[bytes]) -> list[tuple[IO[bytes], str]]:
    return [(pipe, name) for pipe, name in ((process.stdout, "output"), (process.stderr, "errors")) if pipe is not None]


def _watched(
    process: subprocess.Popen[bytes], printed: dict[str, bytearray], timeout: float, stop: threading.Event | None
) -> str:
    """Read what the process prints until it ends; the reason why it has to be ended, or nothing."""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe, name in _pipes(process):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, name)
        while process.poll() is None:
            if time.monotonic() >= deadline:
                return f"reached the time limit of {timeout:.3g} s"
            if stop is not None and stop.is_set():
                return "was stopped, as another answer came first"
            if not selector.get_map():  # it closed its output and runs on
                time.sleep(_TICK)
            for key, _ in selector.select(_TICK) if selector.get_map() else []:
                chunk = os.read(key.fd, 2**16)
                if not chunk:
                    selector.unregister(key.fileobj)
                printed[key.data] += chunk
                if len(printed[key.data]) > OUTPUT_LIMIT:
                    return f"printed more than {OUTPUT_LIMIT // 2**20} MB"
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell the guard to end all, unless it has ended."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(10 * _GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
