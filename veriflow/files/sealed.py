"""Sealed tensors: one safetensors file whose header carries a JSON document and the SHA-256 of everything."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import StorageError
from .whole_files import open_file, write_atomically

Layout: TypeAlias = "Mapping[str, tuple[torch.dtype, tuple[int, ...]]]"
"""Names of tensors, with their types and shapes."""


VERSION = 2
"""Version of the layout; files of later versions are refused. In version 1 a flow's standardisation had its dtype."""

_SEAL = re.compile(rb'\{"__metadata__":\{"veriflow":"\{\\"sha256\\": \\"([0-9a-f]{64})\\"')

_UNSEALED = "0" * 64

_PART = 2**20

MOST_TENSORS = 2**16

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
"""Types of tensors by their names in safetensors files."""


def save_tensors(path: str | Path, kind: str, document: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    """Write a JSON document and named tensors as one file, whole or not at all; an older file is replaced.

    Args:
        path: where to; ``.safetensors`` by custom.
        kind: what the file holds, such as "flow"; `load_tensors` asks for the same.
        document: JSON values; tuples come back as lists.
        tensors: any shapes and dtypes; they come back bit for bit, on the CPU.

    Raises:
        StorageError: a document that JSON cannot hold (NaN, say), or a file that cannot be written.
    """
    content = {"sha256": _UNSEALED, "version": VERSION, "kind": kind, "document": document}
    try:
        entry = json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(f"expected a document of JSON values; got one with {error}") from None
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(copies, {"veriflow": entry})
    digest = hashlib.sha256(data).hexdigest()
    write_atomically(path, data.replace(_UNSEALED.encode(), digest.encode(), 1))


def load_tensors(
    path: str | Path, kind: str, check: Callable[[dict[str, Any], Layout], None] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document and the tensors that `save_tensors` wrote under this kind.

    ``check`` may refuse the document and the names, types and shapes of the tensors before these are read.

    Raises:
        StorageError: no such file, or one that is foreign, cut short, altered, of another kind or of a later version.
    """
    data = _read_sealed(Path(path))
    size = 8 + int.from_bytes(data[:8], "little")
    malformed = StorageError(f"expected a veriflow file in {str(path)!r}; got a malformed one")
    try:
        header = json.loads(data[8:size])
        content = json.loads(header.pop("__metadata__")["veriflow"])
        version, found, document = content["version"], content["kind"], content["document"]
        layout = {name: (_DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise malformed from None
    if version not in range(1, VERSION + 1):
        shown = version if isinstance(version, int) and version < 10**6 else "another"
        raise StorageError(
            f"expected a veriflow file of version {VERSION} at most in {str(path)!r}; got version {shown}"
        )
    if found != kind or not isinstance(document, dict):
        shown = repr(found[:80]) if isinstance(found, str) else "none"
        raise StorageError(f"expected a veriflow file of kind {kind!r} in {str(path)!r}; got kind {shown}")
    if len(layout) > MOST_TENSORS:
        raise StorageError(f"expected at most {MOST_TENSORS} tensors in {str(path)!r}; got {len(layout)}")
    if check is not None:
        check(document, layout)
    try:
        return document, safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        raise malformed from None


def _read_sealed(path: Path) -> bytes:
    """The bytes of a file whose seal is whole; a foreign file is refused before its body is read."""
    with open_file(path) as stream:
        start = stream.read(8)
        header = stream.read(min(int.from_bytes(start, "little"), os.fstat(stream.fileno()).st_size))
        seal = _SEAL.match(header)
        if seal is None:
            raise StorageError(f"expected a file written by veriflow at {str(path)!r}; got another one")
        digest = hashlib.sha256(start + header[: seal.start(1)] + _UNSEALED.encode() + header[seal.end(1) :])
        while part := stream.read(_PART):
            digest.update(part)
        if digest.hexdigest().encode() != seal[1]:
            raise StorageError(
                f"expected the veriflow file {str(path)!r} as it was written; got it cut short or altered"
            )
        stream.seek(0)
        return stream.read()
