"""What a search for the most probable counterexample has found out, in a file, so that a stopped one can go on."""

from __future__ import annotations

import hashlib
import json
import math
import time
from fractions import Fraction
from pathlib import Path

from exporters import query_to_bytes
from veriflow.errors import QueryError, StorageError
from veriflow.files import write_atomically
from veriflow.query import Query

from .box_splitting import RadialSearch
from .replay import replay
from .verdict import Witness

KIND = "veriflow search 1"

INTERVAL = 1.0
"""Seconds between two writes at least."""


class SearchFile:
    """The radius that is proved and the best violation, kept in a JSON file.

    Attributes:
        proved: no violation has a smaller norm than this.
        witness: the violation of least norm, replayed; None where there is none yet.

    Raises:
        StorageError: a file that is no such checkpoint, or that cannot be read.
        QueryError: a checkpoint of another query.
    """

    def __init__(self, path: Path, query: Query) -> None:
        self.path = path
        self.query = hashlib.sha256(query_to_bytes(query)).hexdigest()
        self.proved, self.witness = 0.0, None
        self._written = -math.inf
        if path.exists():
            self.proved, self.witness = self._read(query)

    def _read(self, query: Query) -> tuple[float, Witness | None]:
        wrong = f"expected a checkpoint of a search in {str(self.path)!r}; got "
        try:
            found = json.loads(self.path.read_text())
            kind, name, proved, point = (found[key] for key in ("kind", "query", "proved", "point"))
            point = None if point is None else [Fraction(value) for value in point]
        except OSError as error:
            raise StorageError(f"{wrong}{error.strerror}") from None
        except (ValueError, TypeError, KeyError, ZeroDivisionError):
            raise StorageError(f"{wrong}something else") from None
        if kind != KIND or not isinstance(proved, float) or not 0 <= proved < math.inf:
            raise StorageError(f"{wrong}something else")
        if name != self.query:
            raise QueryError(f"expected a checkpoint of the same query in {str(self.path)!r}; got one of another")
        witness = None if point is None or len(point) != query.region.dim else replay(query, point)
        if point is not None and witness is None:
            raise StorageError(f"{wrong}one whose violation does not replay")
        return proved, witness

    def keep(self, state: RadialSearch, *, now: bool = False) -> None:
        """Write what is new, at most once a second unless it is to be ``now``."""
        is_new = state.proved > self.proved or (state.witness is not None and state.witness != self.witness)
        if state.witness is not None and (self.witness is None or state.witness.norm < self.witness.norm):
            self.witness = state.witness
        self.proved = max(self.proved, state.proved)
        if now or (is_new and time.monotonic() - self._written >= INTERVAL):
            point = None if self.witness is None else [str(value) for value in self.witness.point]
            entry = {"kind": KIND, "query": self.query, "proved": self.proved, "point": point}
            write_atomically(self.path, json.dumps(entry, indent=1) + "\n")
            self._written = time.monotonic()
