"""Checkpoints: the frontiers of the searches of some queries in one sealed file, to go on from.

A checkpoint is trusted: what is not in a frontier counts as proved. The seal, a hash, shows that a file was cut short or
altered by mistake, not that somebody forged it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from exporters import query_to_bytes
from veriflow.errors import QueryError, StorageError
from veriflow.files.documents import FRACTION, OBJECT, TEXT, check_record, list_of
from veriflow.files.sealed import Layout, load_tensors, save_tensors
from veriflow.queries.query import Query

from ..witness.replay import replay
from ..witness.verdict import Witness
from .frontier import Frontier, Search, misfit

KIND = "search checkpoint 2"
"""The number goes up where the arrays of a frontier get another meaning."""

_DTYPES = (torch.float64, torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

INTERVAL, SHARE = 1.0, 0.05
"""Seconds between two writes at least, and the share of a search's time that they may take."""


class SearchFile:
    """The frontier and the violation of one query's search, in a file that may hold those of other queries too.

    Args:
        path: where it is; it is written at once where there is none.
        query: whose search it is.
        task: what is searched for; checkpoints of one task do not serve another.
        queries: all queries of the file, where there are more; where it is left out, a file of several will do.

    Attributes:
        frontier: what was open; None where the search has not begun.
        witness: the violation, replayed; None where there is none yet.
        failure: why the last write failed, in a sentence, or nothing: a search does not end for a full disk.

    Raises:
        StorageError: a file that is no such checkpoint, or that cannot be read or, where there is none, written.
        QueryError: a checkpoint of other queries, or of another task.
    """

    def __init__(self, path: Path, query: Query, *, task: str = "verify", queries: Sequence[Query] = ()) -> None:
        self.path, self.task, self.name = path, task, fingerprint(query)
        names = [fingerprint(one) for one in queries]
        self.frontier: Frontier | None = None
        self.witness: Witness | None = None
        self.failure = ""
        self._search: Search | None = None
        self._due = time.monotonic() + INTERVAL
        if not path.exists():
            self._entries: dict[str, dict[str, Any]] = {name: {} for name in names or [self.name]}
            self._tensors: dict[str, torch.Tensor] = {}
            self._save()
            return
        document, self._tensors = load_tensors(path, KIND, self._check)
        self._entries = document["searches"]
        if document["task"] != task or self.name not in self._entries or (names and list(self._entries) != names):
            raise QueryError(f"expected a checkpoint of the same question in {str(path)!r}; got one of another")
        entry = self._entries[self.name]
        if "way" in entry:
            prefix = f"{self.name}/"
            arrays = {n.removeprefix(prefix): t.numpy() for n, t in self._tensors.items() if n.startswith(prefix)}
            self.frontier = Frontier(entry["way"], arrays)
        if "point" in entry:
            if len(entry["point"]) != query.region.dim:
                raise StorageError(f"expected a point of {query.region.dim} numbers in {str(path)!r}; got another")
            self.witness = replay(query, [Fraction(value) for value in entry["point"]])
            if self.witness is None:
                raise StorageError(f"expected a checkpoint whose violation replays in {str(path)!r}; got another one")

    def _check(self, document: dict[str, Any], layout: Layout) -> None:
        """Refuse what `_save` does not write."""
        what = f"expected a {KIND} in {str(self.path)!r}; got one with another document"
        check_record(document, {"task": TEXT, "searches": OBJECT}, what)
        for entry in document["searches"].values():
            check_record(entry, {}, what, optional={"way": TEXT, "point": list_of(FRACTION)})
        for name, (dtype, _) in layout.items():
            if name.partition("/")[0] not in document["searches"] or dtype not in _DTYPES:
                raise misfit(f"a {dtype} tensor {name[:80]!r}")

    def keep(self, search: Search) -> None:
        """Remember the state of a search, and write it if that is due."""
        self._search = search
        self._note()
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the state that was kept last."""
        if self._search is None:
            return
        start = time.monotonic()
        self._note()
        frontier = self.frontier if self._search.frontier is None else self._search.frontier()
        self._entries[self.name] = {} if frontier is None else {"way": frontier.kind}
        if self.witness is not None:
            self._entries[self.name]["point"] = [str(value) for value in self.witness.point]
        prefix = f"{self.name}/"
        self._tensors = {name: tensor for name, tensor in self._tensors.items() if not name.startswith(prefix)}
        if frontier is not None:
            self._tensors |= {prefix + name: torch.from_numpy(array) for name, array in frontier.arrays.items()}
        try:
            self._save()
            self.failure = ""
        except StorageError as error:
            self.failure = f"the checkpoint is not up to date: {error}"
        now = time.monotonic()
        self._due = now + max(INTERVAL, (now - start) / SHARE)

    def _note(self) -> None:
        """Take over a violation of smaller norm."""
        found = None if self._search is None else self._search.witness
        if found is not None and (self.witness is None or found.norm < self.witness.norm):
            self.witness = found

    def _save(self) -> None:
        save_tensors(self.path, KIND, {"task": self.task, "searches": self._entries}, self._tensors)


def fingerprint(query: Query) -> str:
    """Tells queries apart: a hash over all but the flow, which is in the graph."""
    return hashlib.sha256(query_to_bytes(query)).hexdigest()
