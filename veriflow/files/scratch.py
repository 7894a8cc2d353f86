"""Scratch files and folders beside what is to be written: locked by who writes them, removed by the next one where that died.

A scratch has the name ``.NAME.MACHINE.TOKEN.part`` and is locked with `flock(2)` while its process lives, whatever becomes of
it. Another process removes one that it can lock. Some network file systems keep locks to each machine, so that only
scratches of the own machine are looked at.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_KEPT = 50  # characters of a name, as names have at most 255 bytes
_WORKING_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2); RENAME_SWAP of macOS is 2 too
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)


@contextmanager
def scratch_file(target: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside ``target``, and a descriptor to write it by; it is removed at the end if it has its name still."""
    with _locked(target, is_folder=False) as (path, handle):
        try:
            yield path, handle
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``; what has its name at the end is removed."""
    with _locked(target, is_folder=True) as (path, _):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change names at one moment; False where the system cannot."""
    function = getattr(
        ctypes.CDLL(None, use_errno=True), "renamex_np" if sys.platform == "darwin" else "renameat2", None
    )
    if function is None:
        return False
    names = [os.fsencode(one), os.fsencode(other)]
    places = names if sys.platform == "darwin" else [_WORKING_FOLDER, names[0], _WORKING_FOLDER, names[1]]
    if function(*places, _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number))


@contextmanager
def _locked(target: Path, *, is_folder: bool) -> Iterator[tuple[Path, int]]:
    """A new file or folder, and the descriptor that holds its lock."""
    _remove_dead(target.parent)
    while True:
        path = target.with_name(f".{target.name[:_KEPT]}.{_machine()}.{secrets.token_hex(6)}.part")
        if is_folder:
            path.mkdir()
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with suppress(OSError):  # a file system without locks, on which nobody removes what another left
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _has_name(handle, path):
                yield path, handle
                return
        finally:
            os.close(handle)


def _has_name(handle: int, path: Path) -> bool:
    """Whether nobody took it for dead before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@cache
def _machine() -> str:
    identity = Path("/etc/machine-id")
    with suppress(OSError):
        return _short(platform.node() + identity.read_text())
    return _short(platform.node())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _remove_dead(folder: Path) -> None:
    """Remove scratches of this machine's processes that ended in the middle."""
    name = re.compile(rf"\..*\.{_machine()}\.[0-9a-f]{{12}}\.part", re.DOTALL)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if name.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_dead(Path(entry.path))


def _remove_if_dead(path: Path) -> None:
    kind = path.lstat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return
    access = os.O_RDONLY if stat.S_ISDIR(kind) else os.O_RDWR  # some file systems lock only what may be written
    handle = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(kind):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)
