"""Queries as a folder that other verifiers run: ``onnx/ vnnlib/ smtlib/ … instances.csv manifest.json README.txt``.

The layout is that of VNN-COMP (https://github.com/VNN-COMP). Everything in it is text or ONNX; the folder is written
whole or not at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from veriflow.density.ball_mass import Mass, ball_mass
from veriflow.errors import QueryError
from veriflow.files.whole_files import MANIFEST, write_folder_atomically
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.queries.query import Query
from veriflow.regions.product import Product
from veriflow.regions.region import Region

from ..forms.numerals import decimal_ends, decimal_text
from ..forms.portable_form import PortableForm
from .files import BundleFiles, query_files
from .tools import DEFAULT_FORMS, FORMS, readme

FORMAT, FORMAT_VERSION = "veriflow bundle", 1
JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

_PACKAGES = ("veriflow-toolkit", "torch", "onnx", "numpy", "scipy", "pysmt")

MOST_SECONDS = 1e9
"""The longest time limit: thirty years."""


def write_bundle(
    folder: str | Path,
    queries: Mapping[str, Query],
    *,
    network_path: str | Path | None = None,
    timeout: float = 300.0,
    extra: Mapping[str, Mapping[str, JSON]] | None = None,
    forms: Sequence[str] = DEFAULT_FORMS,
    bounds: Mapping[str, Bounds] | None = None,
) -> Path:
    """Write the queries and return the folder.

    Args:
        folder: where; an older bundle there is replaced.
        queries: by name, of letters, digits, _ and -; names that differ in case alone are refused.
        network_path: the file of the network under test, copied to ``onnx/`` as it is.
        timeout: seconds for each row of ``instances.csv``, and in the commands of ``README.txt``.
        extra: more for the manifest, by query name, such as ``{"verdict": "holds"}``.
        bounds: by query name, bounds over its region where better ones are known than `symbolic_bounds`.
        forms: what to write, of `FORMS`; `forms_for` has those that a tool reads. What a query has no form of is left out.

    Raises:
        QueryError: names as above, ``extra`` for a query that is not there or that is no JSON, L2 balls, and what else
            `portable_form` refuses; forms that there are not.
        GraphError: constants beyond float32.
        StorageError: something else stands at ``folder``, or a file cannot be read or written. Nothing is left behind.
    """
    extra = extra or {}
    _check_names(queries, extra)
    if not forms or not set(forms) <= set(FORMS):
        raise QueryError(f"expected forms among {', '.join(FORMS)}; got {', '.join(forms) or 'none'}")
    if not 0 < timeout <= MOST_SECONDS:
        raise QueryError(f"expected a time limit above 0 and up to {MOST_SECONDS:g} seconds; got {timeout}")
    deviations: dict[tuple[int, bool], float | None] = {}
    with write_folder_atomically(folder) as scratch:
        files = BundleFiles(scratch)
        copied = None if network_path is None else files.copied(Path(network_path))
        entries: dict[str, JSON] = {}
        paths: dict[str, dict[str, str]] = {}
        for name, query in queries.items():
            form, found = query_files(files, name, query, forms, (bounds or {}).get(name))
            key = (id(query.flow), query.latent is None)
            if key not in deviations:
                deviations[key] = _deviation(query)
            entry = _query_entry(query, form, found)
            entries[name] = {**extra.get(name, {}), **entry, "flow_rounding_deviation": deviations[key]}
            paths[name] = {kind: file["path"] for kind, file in found.items()}
        manifest: dict[str, JSON] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "made_with": _versions(),
            "network": copied,
            "queries": entries,
        }
        network = next((kind for kind in ("chain", "onnx", "pair") if kind in forms), None)
        if "vnnlib" in forms and network is not None:
            rows = [f"{each[network]},{each['vnnlib']},{timeout:g}\n" for each in paths.values()]
            files.written("instances.csv", "".join(rows).encode())
        files.written("README.txt", readme(forms, paths, max(1, math.ceil(timeout))).encode())
        files.written(MANIFEST, _json_text(manifest).encode())
    return Path(folder)


def _check_names(queries: Mapping[str, Query], extra: Mapping[str, Mapping[str, JSON]]) -> None:
    for name in queries:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise QueryError(f"expected query names of letters, digits, _ and -; got {name!r}")
    if len({name.lower() for name in queries}) < len(queries):
        raise QueryError(f"expected query names that differ in more than case; got {', '.join(queries)}")
    for name in extra:
        if name not in queries:
            raise QueryError(f"expected extra entries for the bundle's queries; got some for {name!r}")


def _query_entry(query: Query, form: PortableForm, files: Mapping[str, JSON]) -> dict[str, JSON]:
    """What the manifest says of one query."""
    mass = _mass(query)
    return {
        "property": query.text,
        "region": _region_entry(query.region),
        "mass": None if mass is None else mass.value,
        "mass_error": None if mass is None else mass.error,
        "strict_weakened": form.weakened,
        "extra_outputs": list(form.notes),
        "float32_deviation": form.deviation,
        "files": files,
    }


def _region_entry(region: Region) -> JSON:
    if (ball := region.ball) is not None:
        norm = "inf" if ball.p == math.inf else f"{ball.p:g}"
        radii = {"inner": ball.inner, "radius": ball.radius}
        radii |= {"limit": ball.limit} if ball.is_trimmed else {}
        exact = {f"{name}_exact": decimal_text(value) for name, value in radii.items()}
        return {"norm": norm, "dim": ball.dim, **radii, **exact}
    if isinstance(region, Product):
        return {"product": [_region_entry(part) for part in region.parts]}
    lower, upper = decimal_ends(region.bounding_box())
    return {"lower": list(map(decimal_text, lower)), "upper": list(map(decimal_text, upper))}


def _mass(query: Query) -> Mass | None:
    """Probability of the latent region under the flow, where the query has one and it is a ball of its base's norm."""
    ball = query.latent_region.ball
    if query.flow is None or ball is None or ball.p != query.flow.base.p:
        return None
    return ball_mass(query.flow.base, ball)


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
