"""Standard output and error that may be closed, full or unread, which changes no exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


class Stream(io.TextIOBase):
    """A stream that drops text from the first failure on; characters that its encoding lacks become question marks.

    Args:
        stream: where text goes; None where it is closed, as Python has it.

    Attributes:
        failure: why text was dropped; None where all was written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.failure: OSError | None = None
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """That of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """Text is taken whatever becomes of it."""
        return True

    def write(self, text: str) -> int:
        """Write, or drop; the number of characters."""
        if not isinstance(text, str):  # how others find out that this is no stream of bytes
            raise TypeError(f"expected text; got {type(text).__name__}")
        if self.failure is None:
            try:
                if self._stream is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Let what the stream still holds go nowhere, as Python would try to write it at its end."""
        self.failure = error
        if self._stream is not None:
            with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Standard output and error that take any text, while the block runs; it is given the former."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = output, errors = Stream(before[0]), Stream(before[1])
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def open_closed_descriptors() -> None:
    """Let closed standard descriptors lead nowhere: a file opened later would get their numbers, and what others print."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
