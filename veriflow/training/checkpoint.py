"""Training runs on disk, so that an interrupted one can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import StorageError, TrainingError
from ..files.documents import OBJECT, TEXT, check_record, list_of, number, whole
from ..files.sealed import Layout, load_tensors, save_tensors
from ..flows.schema import check_layout, check_numbers

_KIND = "training checkpoint"
_FIGURES = list_of(number())
_HISTORY = {"steps": list_of(whole(1)), "train_nll": _FIGURES, "validation_nll": _FIGURES, "penalty": _FIGURES}


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


def load_checkpoint(path: Path, run: str, flow: nn.Module) -> Checkpoint:
    """The checkpoint at ``path`` of a run that trains ``flow``.

    Raises:
        StorageError: not a checkpoint, truncated or altered; tensors that are not those of such a run, NaN or infinity.
        TrainingError: a checkpoint of other data, options or another flow.
    """
    what = f"expected a {_KIND} in {str(path)!r}; got"
    state = flow.state_dict()
    parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    vector = torch.empty(sum(parameter.numel() for parameter in parameters), dtype=parameters[0].dtype, device="meta")
    moments = {"exp_avg": vector, "exp_avg_sq": vector, "step": torch.empty((), device="meta")}
    parts = {"flow": state, "best": state, "moments": moments}
    wanted = {f"{part}/{name}": tensor for part, group in parts.items() for name, tensor in group.items()}

    def check(document: dict[str, Any], layout: Layout) -> None:
        check_record(document, {"run": TEXT, "history": OBJECT}, f"{what} one that makes no run")
        if document["run"] != run:
            raise TrainingError(
                f"expected the checkpoint {path} to come from the same data, options and flow; got one of another run"
            )
        check_record(document["history"], _HISTORY, f"{what} one whose history makes none")
        steps, *others = document["history"].values()
        if not steps or steps != sorted(set(steps)) or {len(figures) for figures in others} != {len(steps)}:
            raise StorageError(f"{what} one whose history has other steps than figures")
        check_layout(layout, wanted, what)

    document, tensors = load_tensors(path, _KIND, check)
    check_numbers(tensors, what)
    if (tensors["moments/exp_avg_sq"] < 0).any() or tensors["moments/step"] != document["history"]["steps"][-1]:
        raise StorageError(f"{what} one whose moments are those of no run")
    groups = {part: {name: tensors[f"{part}/{name}"] for name in group} for part, group in parts.items()}
    return Checkpoint(**groups, history=document["history"])
