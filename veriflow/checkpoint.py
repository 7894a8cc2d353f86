"""Training runs on disk, so that an interrupted one can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import TrainingError
from .storage import load_tensors, save_tensors

_KIND = "training checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A training run after some step: the flow, the best flow so far, Adam's moments, the history."""

    flow: dict[str, Tensor]
    best: dict[str, Tensor]
    moments: dict[str, Tensor]
    history: dict[str, Any]


def fingerprint(config: Mapping[str, Any], options: Mapping[str, Any], rows: Tensor) -> str:
    """Tells runs apart: a hash over the flow's shape, the options and the data."""
    digest = hashlib.sha256(json.dumps([config, options, list(rows.shape)], sort_keys=True).encode())
    digest.update(rows.numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, run: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint of the run with this fingerprint, whole or not at all."""
    parts = {"flow": checkpoint.flow, "best": checkpoint.best, "moments": checkpoint.moments}
    tensors = {f"{part}/{name}": tensor for part, group in parts.items() for name, tensor in group.items()}
    save_tensors(path, _KIND, {"run": run, "history": checkpoint.history}, tensors)


def load_checkpoint(path: Path, run: str) -> Checkpoint:
    """The checkpoint at ``path``.

    Raises:
        StorageError: not a checkpoint, truncated or altered.
        TrainingError: a checkpoint of other data, options or another flow.
    """
    document, tensors = load_tensors(path, _KIND)
    if document.get("run") != run:
        raise TrainingError(
            f"expected the checkpoint {path} to come from the same data, options and flow; got one of another run"
        )
    groups: dict[str, dict[str, Tensor]] = {"flow": {}, "best": {}, "moments": {}}
    for name, tensor in tensors.items():
        part, rest = name.split("/", 1)
        groups[part][rest] = tensor
    history = document["history"]
    if not isinstance(history, dict):
        raise TrainingError(f"expected a training history in {path}; got {type(history).__name__}")
    return Checkpoint(**groups, history=history)
