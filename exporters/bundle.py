"""Queries as a folder that other verifiers run: ``onnx/ vnnlib/ smtlib/ instances.csv manifest.json README.txt``.

The layout is that of VNN-COMP (https://github.com/VNN-COMP). Everything in it is text or ONNX; the folder is written
whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from veriflow.errors import QueryError, StorageError
from veriflow.files import MANIFEST, write_folder_atomically
from veriflow.piecewise import symbolic_bounds
from veriflow.query import Query
from veriflow.regions import Ball, Product, Region

from .numerals import decimal_ends, decimal_text
from .onnx_model import graph_to_onnx
from .portable_form import portable_form
from .shifted_chain import shifted_chain
from .smtlib_script import to_smtlib
from .vnnlib_spec import to_vnnlib1, to_vnnlib2

FORMAT, FORMAT_VERSION = "veriflow bundle", 1
JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

_PACKAGES = ("veriflow-toolkit", "torch", "onnx", "numpy", "scipy", "pysmt")
_README = """\
A bundle of verification queries, written by veriflow.

Each query asks: is there an input in the region at which the network violates the property? `sat` means violated,
`unsat` means that the property holds. manifest.json says, for every query, what the property and the region are, how
much probability the region has, and the SHA-256 of every file.

  onnx/NAME.onnx          the network as Gemm, Relu and Add
  onnx/NAME.chain.onnx    the same as a pure chain without skip connections, equal to it inside the input box only
  vnnlib/NAME.vnnlib      the query on either network, VNN-LIB 1.0
  vnnlib/NAME.v2.vnnlib   the same, VNN-LIB 2.0
  smtlib/NAME.smt2        the query itself, SMT-LIB 2 (QF_LRA), exact rationals
  instances.csv           network, property, seconds: one row a query, as VNN-COMP scripts read them

Equal networks are written once: manifest.json names the files of every query.
Extra outputs of a network (see the comments in its .vnnlib) are the norm of its input and linear forms of its outputs.
Strict comparisons are non-strict in VNN-LIB, as the manifest counts; a `sat` at a tie is then none. Replay every `sat`.

  z3 smtlib/NAME.smt2
  vibecheck --net onnx/NAME.onnx --spec vnnlib/NAME.vnnlib --timeout 60 --results-file result.txt
  Marabou onnx/NAME.chain.onnx vnnlib/NAME.vnnlib --timeout=60
  TOOL verify vnnlib/NAME.v2.vnnlib --network N=onnx/NAME.onnx --timeout 60
"""


def write_bundle(
    folder: str | Path,
    queries: Mapping[str, Query],
    *,
    network_path: str | Path | None = None,
    timeout: float = 300.0,
    extra: Mapping[str, Mapping[str, JSON]] | None = None,
) -> Path:
    """Write the queries and return the folder.

    Args:
        folder: where; an older bundle there is replaced.
        queries: by name, of letters, digits, _ and -; names that differ in case alone are refused.
        network_path: the file of the network under test, copied to ``onnx/`` as it is.
        timeout: seconds for each row of ``instances.csv``.
        extra: more for the manifest, by query name, such as ``{"verdict": "holds"}``.

    Raises:
        QueryError: names as above, ``extra`` for a query that is not there or that is no JSON, L2 balls, and what else
            `portable_form` refuses.
        GraphError: constants that are not float32 numbers.
        StorageError: something else stands at ``folder``, or a file cannot be read or written. Nothing is left behind.
    """
    extra = extra or {}
    _check_names(queries, extra)
    deviations: dict[tuple[int, bool], float | None] = {}
    with write_folder_atomically(folder) as scratch:
        files = _Files(scratch)
        copied = None if network_path is None else files.copied(Path(network_path))
        entries: dict[str, JSON] = {}
        rows = []
        for name, query in queries.items():
            entry, row = _written(files, name, query)
            key = (id(query.flow), query.latent is None)
            if key not in deviations:
                deviations[key] = _deviation(query)
            entries[name] = {**extra.get(name, {}), **entry, "flow_rounding_deviation": deviations[key]}
            rows.append(f"{row},{timeout:g}\n")
        manifest: dict[str, JSON] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "made_with": _versions(),
            "network": copied,
            "queries": entries,
        }
        files.written("instances.csv", "".join(rows).encode())
        files.written("README.txt", _README.encode())
        files.written(MANIFEST, _json_text(manifest).encode())
    return Path(folder)


class _Files:
    """Writes the files of a bundle and knows their hashes; ONNX files of equal bytes are written once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.networks: dict[str, dict[str, str]] = {}
        for part in ("onnx", "vnnlib", "smtlib"):
            (root / part).mkdir()

    def written(self, name: str, data: bytes) -> dict[str, str]:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return {"path": name, "sha256": hashlib.sha256(data).hexdigest()}

    def network(self, name: str, data: bytes) -> dict[str, str]:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.networks:
            self.networks[digest] = self.written(f"onnx/{name}.onnx", data)
        return self.networks[digest]

    def copied(self, path: Path) -> dict[str, str]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StorageError(f"expected a readable network file; got {error}") from None
        return self.written(f"network/{path.name}", data)


def _check_names(queries: Mapping[str, Query], extra: Mapping[str, Mapping[str, JSON]]) -> None:
    for name in queries:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise QueryError(f"expected query names of letters, digits, _ and -; got {name!r}")
    if len({name.lower() for name in queries}) < len(queries):
        raise QueryError(f"expected query names that differ in more than case; got {', '.join(queries)}")
    for name in extra:
        if name not in queries:
            raise QueryError(f"expected extra entries for the bundle's queries; got some for {name!r}")


def _written(files: _Files, name: str, query: Query) -> tuple[dict[str, JSON], str]:
    """Write the files of one query: what the manifest says of it, and the paths of its row in ``instances.csv``."""
    form = portable_form(query)
    smtlib = to_smtlib(query, symbolic_bounds(query.graph, query.region))
    plain = files.network(name, graph_to_onnx(form.graph))
    chain = files.network(f"{name}.chain", graph_to_onnx(shifted_chain(form.graph, form.box)))
    vnnlib = files.written(f"vnnlib/{name}.vnnlib", to_vnnlib1(form, query.text).encode())
    vnnlib2 = files.written(f"vnnlib/{name}.v2.vnnlib", to_vnnlib2(form, query.text).encode())
    script = files.written(f"smtlib/{name}.smt2", smtlib.encode())
    entry: dict[str, JSON] = {
        "property": query.text,
        "region": _region_entry(query.region),
        "mass": _mass(query),
        "strict_weakened": form.weakened,
        "extra_outputs": list(form.notes),
        "files": {"onnx": plain, "chain": chain, "vnnlib": vnnlib, "vnnlib2": vnnlib2, "smtlib": script},
    }
    return entry, f"{chain['path']},{vnnlib['path']}"


def _region_entry(region: Region) -> JSON:
    if isinstance(region, Ball):
        norm = "inf" if region.p == math.inf else f"{region.p:g}"
        radii = {"inner": region.inner, "radius": region.radius}
        exact = {f"{name}_exact": decimal_text(value) for name, value in radii.items()}
        return {"norm": norm, "dim": region.dim, **radii, **exact}
    if isinstance(region, Product):
        return {"product": [_region_entry(part) for part in region.parts]}
    lower, upper = decimal_ends(region)
    return {"lower": list(map(decimal_text, lower)), "upper": list(map(decimal_text, upper))}


def _mass(query: Query) -> float | None:
    """Probability of the latent region under the flow, where the query has one and it is a ball of its base's norm."""
    region = query.latent_region
    if query.flow is None or not isinstance(region, Ball) or region.p != query.flow.base.p:
        return None
    law = query.flow.base.law
    return float(law.cdf(region.radius) - law.cdf(region.inner))


def _deviation(query: Query) -> float | None:
    """How far the flow's part of the graph, in the direction in which it stands there, is from the flow."""
    if query.flow is None:
        return None
    return (
        query.flow.rounding_deviation() if query.latent is None else query.flow.rounding_deviation(direction="inverse")
    )


def _versions() -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _json_text(manifest: Mapping[str, JSON]) -> str:
    try:
        return json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise QueryError(f"expected extra entries that are JSON; got: {error}") from None
