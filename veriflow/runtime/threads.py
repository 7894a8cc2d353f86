"""How many CPU threads numerical work uses: one for small work, where more only wait for each other."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of linear algebra, scipy's own among them; looking for them takes some milliseconds."""
    importlib.import_module("scipy.linalg")
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch, numpy and scipy on one CPU thread for the time being."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
