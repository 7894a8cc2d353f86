"""Files: read only where they are files and not too large, written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import StorageError

_log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

MOST_BYTES = 2**30
"""Of a file that is read, unless told otherwise."""

_OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def open_file(path: str | Path, most: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """A regular file, or a link to one, to read from; nothing of it is read yet, and nothing else is waited for.

    Raises:
        StorageError: no such file, a folder, pipe, socket or device, more than ``most`` bytes, no permission; or the
            operating system refuses while the block reads.
    """
    source = Path(path)
    try:
        _check_regular(source.stat(), source, most)
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            _check_regular(os.fstat(handle), source, most)  # another may stand there by now
            yield stream
    except FileNotFoundError:
        raise StorageError(f"expected a file at {str(path)!r}; got none") from None
    except OSError as error:
        raise StorageError(f"expected to be able to read {str(path)!r}; got {error.strerror or error}") from error


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file, as many as it has when it is opened.

    Raises:
        StorageError: as `open_file`.
    """
    with open_file(path, most) as stream:
        return stream.read(os.fstat(stream.fileno()).st_size)


def _check_regular(status: os.stat_result, path: Path, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for is_kind, kind in _OTHERS if is_kind(status.st_mode)), "something else")
        raise StorageError(f"expected a file at {str(path)!r}; got {kind}")
    if status.st_size > most:
        raise StorageError(f"expected at most {most} bytes in {str(path)!r}; got {status.st_size}")


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a file under a temporary name beside ``path`` and rename it; text is UTF-8. An older file is replaced.

    Raises:
        StorageError: the operating system refuses: no such folder, no permission, a full disk. Nothing is left behind.
    """
    target = Path(path)
    scratch = _beside(target)
    with _os_errors_named(target):
        try:
            with scratch.open("xb") as stream:
                stream.write(data.encode() if isinstance(data, str) else data)
                stream.flush()
                os.fsync(stream.fileno())
            scratch.replace(target)
            _log.info("wrote %s", target)
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)


@contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """A fresh folder beside ``path`` to write into; it takes the name ``path`` where the block ends without an error.

    An older folder of that name is replaced, with all that is in it, only where it is empty or holds a
    ``manifest.json`` whose ``format`` begins with "veriflow", as the folders that veriflow writes do.

    Raises:
        StorageError: something else stands at ``path``, or the operating system refuses. Nothing is left behind.
    """
    target = Path(path)
    scratch = _beside(target)
    with _os_errors_named(target):
        _check_replaceable(target)
        try:
            scratch.mkdir()
            yield scratch
            _swap(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")


@contextmanager
def _os_errors_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"expected to be able to write {str(target)!r}; got {error.strerror or error}") from error


def _check_replaceable(target: Path) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise StorageError(f"expected {str(target)!r} to be a folder or absent; got something else")
    if any(target.iterdir()) and not _is_written_by_veriflow(target):
        raise StorageError(
            f"expected {str(target)!r} to be empty or written by veriflow; got a folder with other files"
        )


def _is_written_by_veriflow(folder: Path) -> bool:
    try:
        manifest = json.loads(read_bytes(folder / MANIFEST))
    except (ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("format", "")).startswith("veriflow")


def _swap(scratch: Path, target: Path) -> None:
    """Give the finished folder its name; the older one keeps it where that fails."""
    _check_replaceable(target)
    if not target.exists():
        scratch.rename(target)
        return
    older = _beside(target)
    target.rename(older)
    try:
        scratch.rename(target)
    except OSError:
        older.rename(target)
        raise
    shutil.rmtree(older, ignore_errors=True)
