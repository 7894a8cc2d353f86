"""Arrays as numpy writes them, .npy and .npz: none is made before it is known to be there and not too large."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from .whole_files import MOST_BYTES

_MOST_ARRAYS = 100_000
_ENTRY = b"PK\x01\x02"  # how each entry of a zip file's directory begins
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, NotImplementedError, RuntimeError),
    *(OverflowError, MemoryError, SyntaxError, tokenize.TokenError),
)


def array_from_npy(data: bytes) -> NDArray[Any]:
    """The array of a ``.npy`` file; no object of Python is made.

    Raises:
        StorageError: bytes that are no such file, or whose header promises another size.
    """
    try:
        return _read(io.BytesIO(data), len(data))
    except _DAMAGE as error:
        raise _refusal(".npy", error) from None


class Archive(Mapping[str, NDArray[Any]]):
    """The arrays of a ``.npz`` file by name; each is unpacked when it is asked for, and no object of Python is made.

    Args:
        data: the file's bytes.
        most: bytes that the arrays asked for may take together.

    Raises:
        StorageError: bytes that are no such file; with `__getitem__`, an array that is damaged, packed in a way that numpy does
            not use or too large.
    """

    def __init__(self, data: bytes, most: int = MOST_BYTES) -> None:
        self._room = most
        if data.count(_ENTRY) > _MOST_ARRAYS:
            raise StorageError(f"expected an .npz file of at most {_MOST_ARRAYS} arrays; got more")
        try:
            self._file = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as error:
            raise _refusal(".npz", error) from None
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in self._file.infolist()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        if entry.compress_type not in _METHODS:
            raise StorageError(f"expected arrays that are stored or deflated; got {name!r} packed in another way")
        self._room -= entry.file_size
        if self._room < 0:
            raise StorageError(f"expected arrays of fewer bytes; got {entry.file_size} in {name!r}")
        try:
            with self._file.open(entry) as stream:
                return _read(stream, entry.file_size)
        except _DAMAGE as error:
            raise _refusal(f"array {name!r} of an .npz", error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _read(stream: BinaryIO | Any, size: int) -> NDArray[Any]:  # noqa: ANN401 - zipfile's streams are no BinaryIO to mypy
    """The array in a stream of so many bytes, whose header is looked at first."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = readers[version](stream)
    promised = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("objects of Python")
    if min(shape, default=0) < 0 or max(shape, default=0) > size or promised != size - stream.tell():
        raise ValueError(f"{size - stream.tell()} bytes for shape {shape} of {dtype}, which takes {promised}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _refusal(what: str, error: Exception) -> StorageError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return StorageError(f"expected a whole {what} file; got: {reason}")
