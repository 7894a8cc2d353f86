"""Models and checkpoints on disk: one safetensors file whose header carries a JSON document and a seal.

The header's metadata is one entry, ``veriflow``: a JSON object of the SHA-256 of the whole file (``sha256``, first,
taken with zeros in its own place), the ``version`` of this layout, the ``kind`` of content and the ``document``. So a
file that was cut short, altered or written by something else is refused before anything in it is used, nothing in it is
ever executed, and equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import ModelError, StorageError
from .files import open_file, write_atomically
from .flow import USFlow

_log = logging.getLogger(__name__)

VERSION = 1
"""Version of the layout; files of later versions are refused."""

_SEAL = re.compile(rb'\{"__metadata__":\{"veriflow":"\{\\"sha256\\": \\"([0-9a-f]{64})\\"')
_UNSEALED = "0" * 64


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


def load_tensors(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document and the tensors that `save_tensors` wrote under this kind.

    Raises:
        StorageError: no such file, or one that is foreign, cut short, altered, of another kind or of a later version.
    """
    data = _read_sealed(Path(path))
    size = 8 + int.from_bytes(data[:8], "little")
    try:
        tensors = safetensors.torch.load(data)
        content = json.loads(json.loads(data[8:size])["__metadata__"]["veriflow"])
        version, found, document = content["version"], content["kind"], content["document"]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        raise StorageError(f"expected a veriflow file in {str(path)!r}; got a malformed one") from None
    if version != VERSION:
        raise StorageError(f"expected a veriflow file of version {VERSION} in {str(path)!r}; got version {version}")
    if found != kind or not isinstance(document, dict):
        raise StorageError(f"expected a veriflow file of kind {kind!r} in {str(path)!r}; got kind {found!r}")
    return document, tensors


def save_flow(flow: USFlow, path: str | Path) -> None:
    """Write a flow: its shape as JSON, its parameters and buffers as tensors.

    Raises:
        StorageError: a flow with NaN or infinite parameters or of mixed float dtypes, or a file that cannot be written.
    """
    tensors = flow.state_dict()
    _check_numbers(tensors, "expected to save a flow of one float dtype and finite parameters; got")
    save_tensors(path, "flow", flow.config(), tensors)


def load_flow(path: str | Path) -> USFlow:
    """The flow that `save_flow` wrote, with the same parameters bit for bit, on the CPU.

    It is laid out on torch's meta device, without memory and without random numbers, and then consists of the file's
    own tensors.

    Raises:
        StorageError: as `load_tensors`; a description and tensors that do not fit; NaN, infinity, mixed float dtypes.
    """
    config, tensors = load_tensors(path, "flow")
    what = f"expected a flow in {str(path)!r}; got"
    _check_numbers(tensors, what)
    for name, most in {"dim": sum(map(Tensor.numel, tensors.values())), "blocks": len(tensors)}.items():
        if isinstance(config.get(name), int) and config[name] > most:
            raise StorageError(f"{what} one whose {name} is {config[name]}, which is more than the file holds")
    try:
        with torch.device("meta"):
            flow = USFlow.from_config(config)
    except (ModelError, RuntimeError) as error:
        raise StorageError(f"{what} a description that makes no flow: {error}") from None
    wanted = flow.state_dict()
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise StorageError(f"{what} one {'with an unknown' if odd[0] in tensors else 'without the'} tensor {odd[0]!r}")
    for name, tensor in tensors.items():
        shape, expected = list(tensor.shape), list(wanted[name].shape)
        if shape != expected or tensor.is_floating_point() != wanted[name].is_floating_point():
            raise StorageError(f"{what} a {tensor.dtype} tensor {name!r} of shape {shape} where {expected} belongs")
    flow.load_state_dict(tensors, assign=True)
    _log.info("read %s: %r", path, flow)
    return flow


def _check_numbers(tensors: Mapping[str, Tensor], what: str) -> None:
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if len(dtypes := {str(tensor.dtype) for tensor in floats.values()}) > 1:
        raise StorageError(f"{what} one of {' and '.join(sorted(dtypes))}")
    for name, tensor in floats.items():
        if not tensor.isfinite().all():
            raise StorageError(f"{what} one whose {name!r} holds NaN or infinity")


def _read_sealed(path: Path) -> bytes:
    """The bytes of a file whose seal is whole; a foreign file is refused before its body is read."""
    with open_file(path) as stream:
        start = stream.read(8)
        header = stream.read(min(int.from_bytes(start, "little"), os.fstat(stream.fileno()).st_size))
        seal = _SEAL.match(header)
        if seal is None:
            raise StorageError(f"expected a file written by veriflow at {str(path)!r}; got another one")
        data = start + header + stream.read()
    if hashlib.sha256(data.replace(seal[1], _UNSEALED.encode(), 1)).hexdigest().encode() != seal[1]:
        raise StorageError(f"expected the veriflow file {str(path)!r} as it was written; got it cut short or altered")
    return data
