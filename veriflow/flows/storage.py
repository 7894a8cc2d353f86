"""Flows on disk."""

from __future__ import annotations

import logging
from pathlib import Path

from ..files.sealed import load_tensors, save_tensors
from .flow import USFlow
from .schema import check_dtypes, check_numbers, check_ranges, empty_flow, is_exact

_log = logging.getLogger(__name__)


def save_flow(flow: USFlow, path: str | Path) -> None:
    """Write a flow: its shape as JSON, its parameters and buffers as tensors.

    Raises:
        StorageError: a flow with NaN or infinite parameters or of mixed float dtypes, or a file that cannot be written.
    """
    tensors = flow.state_dict()
    what = "expected to save a flow of one float dtype and finite parameters; got"
    check_dtypes({name: tensor.dtype for name, tensor in tensors.items()}, what)
    check_numbers(tensors, what)
    save_tensors(path, "flow", flow.config(), tensors)


def load_flow(path: str | Path) -> USFlow:
    """The flow that `save_flow` wrote, with the same parameters bit for bit, on the CPU.

    It is laid out on torch's meta device, without memory and without random numbers, and then consists of the file's
    own tensors.

    Raises:
        StorageError: as `load_tensors`; a description and tensors that do not fit; NaN, infinity, mixed float dtypes;
            parameters out of their ranges.
    """
    what, made = f"expected a flow in {str(path)!r}; got", []
    _, tensors = load_tensors(path, "flow", lambda config, layout: made.append(empty_flow(config, layout, what)))
    check_numbers(tensors, what)
    flow: USFlow = made[0]
    exact = {name: tensor.double() for name, tensor in tensors.items() if is_exact(name)}
    flow.load_state_dict({**tensors, **exact}, assign=True)
    check_ranges(flow, what)
    _log.info("read %s: %r", path, flow)
    return flow
