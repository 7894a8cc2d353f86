"""The files of one query in a bundle, form by form, and what the manifest says of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from pathlib import Path

from veriflow.files.whole_files import read_bytes
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds
from veriflow.piecewise.graph import Graph
from veriflow.queries.query import Query

from ..forms.paired_chain import paired_chain
from ..forms.portable_form import PortableForm, portable_form
from ..forms.shifted_chain import shifted_chain
from ..marabou import to_marabou
from ..milp.files import milp_text
from ..milp.model import milp_model
from ..onnx.writer import Precision, graph_to_onnx
from ..smtlib import to_smtlib
from ..vnnlib.networks import linear_form, two_networks
from ..vnnlib.writer import to_vnnlib1, to_vnnlib2

Entry = dict[str, str]
"""``{"path": …, "sha256": …}``."""


class BundleFiles:
    """Writes the files of a bundle and knows their hashes; ONNX files of equal bytes are written once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.networks: dict[str, Entry] = {}

    def written(self, name: str, data: bytes) -> Entry:
        """Write a file and give its entry; the folder is made where there is none."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return {"path": name, "sha256": hashlib.sha256(data).hexdigest()}

    def network(self, name: str, graph: Graph, precision: Precision = "float") -> Entry:
        """Write a network as ``onnx/NAME.onnx``, or give the entry of one with equal bytes."""
        data = graph_to_onnx(graph, precision=precision)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.networks:
            self.networks[digest] = self.written(f"onnx/{name}.onnx", data)
        return self.networks[digest]

    def copied(self, path: Path) -> Entry:
        """Copy the user's network to ``network/``.

        Raises:
            StorageError: a file that cannot be read.
        """
        return self.written(f"network/{path.name}", read_bytes(path))


def query_files(
    files: BundleFiles, name: str, query: Query, forms: Collection[str], bounds: Bounds | None = None
) -> tuple[PortableForm, dict[str, Entry]]:
    """Write the forms of one query that it has: its portable form, and an entry for each file.

    Bounds are those over the region; `symbolic_bounds`, if None.

    Raises:
        QueryError: as `portable_form`.
        GraphError: constants beyond float32.
    """
    form = portable_form(query)
    bounds = symbolic_bounds(query.graph, query.region) if bounds is None else bounds
    found = _networks(files, name, form, forms)
    if "vnnlib" in forms:
        found["vnnlib"] = files.written(f"vnnlib/{name}.vnnlib", to_vnnlib1(form, query.text).encode())
    if "vnnlib2" in forms:
        found["vnnlib2"] = files.written(f"vnnlib/{name}.v2.vnnlib", to_vnnlib2(form, query.text).encode())
    if "smtlib" in forms:
        found["smtlib"] = files.written(f"smtlib/{name}.smt2", to_smtlib(query, bounds).encode())
    if "smtlib-plain" in forms:
        found["smtlib-plain"] = files.written(f"smtlib/{name}.plain.smt2", to_smtlib(query).encode())
    return form, {**found, **_theories(files, name, query, forms), **_disjuncts(files, name, query, bounds, forms)}


def _networks(files: BundleFiles, name: str, form: PortableForm, forms: Collection[str]) -> dict[str, Entry]:
    found = {}
    if "onnx" in forms:
        found["onnx"] = files.network(name, form.graph)
    if "double" in forms and form.precise is not None:
        found["double"] = files.network(f"{name}.double", form.precise, "double")
    if "chain" in forms:
        found["chain"] = files.network(f"{name}.chain", shifted_chain(form.graph, form.box))
    if "pair" in forms:
        found["pair"] = files.network(f"{name}.pair", paired_chain(form.graph))
    return found


def _theories(files: BundleFiles, name: str, query: Query, forms: Collection[str]) -> dict[str, Entry]:
    """VNN-LIB 2.0 beyond the portable form, where the query has it."""
    found = {}
    linear = linear_form(query) if "vnnlib2-linear" in forms else None
    if linear is not None:
        found["linear-onnx"] = files.network(f"{name}.linear", linear[0].graph)
        found["vnnlib2-linear"] = files.written(f"vnnlib/{name}.linear.vnnlib", linear[1].encode())
    both = two_networks(query) if "vnnlib2-networks" in forms else None
    if both is not None:
        found["flow-onnx"] = files.network(f"{name}.flow", both[0])
        found["network-onnx"] = files.network(f"{name}.network", both[1])
        found["vnnlib2-networks"] = files.written(f"vnnlib/{name}.networks.vnnlib", both[2].encode())
    return found


def _disjuncts(files: BundleFiles, name: str, query: Query, bounds: Bounds, forms: Collection[str]) -> dict[str, Entry]:
    """Forms that state one way to violate the property at a time."""
    found = {}
    for k, disjunct in enumerate(query.violation):
        if "marabou" in forms:
            text = to_marabou(query, disjunct, bounds)
            found[f"marabou.{k}"] = files.written(f"marabou/{name}.{k}.ipq", text.encode())
        if "mps" in forms or "lp" in forms:
            model = milp_model(query, bounds, disjunct, -math.inf)
            if "mps" in forms:
                found[f"mps.{k}"] = files.written(f"milp/{name}.{k}.mps", milp_text(model, "mps").encode())
            if "lp" in forms:
                found[f"lp.{k}"] = files.written(f"milp/{name}.{k}.lp", milp_text(model, "lp").encode())
    return found
