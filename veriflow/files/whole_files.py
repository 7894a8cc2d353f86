"""Files: read only where they are files and not too large, written whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import StorageError
from .scratch import exchange, scratch_file, scratch_folder

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

    The older file's mode and, where that is allowed, its owner are kept. A link stays, and what it leads to is replaced.
    What is no regular file, such as a device or a pipe, or is what standard output or error leads to, is written into.

    Raises:
        StorageError: the operating system refuses: no such folder, no permission, a full disk. Nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    _log.info("writing %s", path)
    with _os_errors_named(path):
        older = status_of(path)
        if older is not None and (opened := _opened_into(path, older)) is not None:
            with os.fdopen(opened, "wb") as stream:
                stream.write(content)
            return
        target = Path(os.path.realpath(path))
        if older is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with scratch_file(target) as (scratch, handle):
            with os.fdopen(os.dup(handle), "wb") as stream:
                stream.write(content)
            if older is not None:
                _keep_mode(scratch, older)
            os.fsync(handle)
            scratch.replace(target)


@contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """A fresh folder beside ``path`` to write into; it takes the name ``path`` where the block ends without an error.

    An older folder of that name is replaced, with all that is in it, only where it is empty or holds a
    ``manifest.json`` whose ``format`` begins with "veriflow", as the folders that veriflow writes do. Where the system can
    exchange names, one of both stands there at every moment. A link stays, and the folder that it leads to is replaced.

    Raises:
        StorageError: something else stands at ``path``, or the operating system refuses. Nothing is left behind.
    """
    with _os_errors_named(path):
        status_of(path)
        target = Path(os.path.realpath(path))
        _check_replaceable(target)
        with scratch_folder(target) as scratch:
            yield scratch
            _swap(scratch, target)


def status_of(path: str | Path) -> os.stat_result | None:
    """What stands at a path, links followed; None where nothing does.

    Raises:
        OSError: a path that leads nowhere, such as a link to itself.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - either kind of path
    except FileNotFoundError:
        return None


def _opened_into(path: str | Path, older: os.stat_result) -> int | None:
    """A descriptor to write into what is no regular file, or is a standard stream already; None for another file."""
    for standard in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.fstat(standard), older):
                return os.dup(standard)
    return None if stat.S_ISREG(older.st_mode) else os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def _keep_mode(path: Path, older: os.stat_result) -> None:
    for owner, group in ((-1, older.st_gid), (older.st_uid, -1)):
        with suppress(PermissionError):
            os.chown(path, owner, group)
    path.chmod(stat.S_IMODE(older.st_mode))


@contextmanager
def _os_errors_named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"expected to be able to write {str(path)!r}; got {error.strerror or error}") from error


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
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
    _keep_mode(scratch, target.stat())
    if exchange(scratch, target):
        return
    older = target.with_name(f"{scratch.name.removesuffix('.part')}.older")
    target.rename(older)
    try:
        scratch.rename(target)
    except OSError:
        older.rename(target)
        raise
    shutil.rmtree(older, ignore_errors=True)
