"""A bundle is complete, its manifest is true, and a failure leaves nothing."""

import csv
import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import vnnlib
import z3
from small_queries import PROPERTIES, random_network, small_query

import exporters
from exporters import FORMS, bundle_tools, forms_for, graph_to_onnx, read_onnx, write_bundle
from veriflow.errors import QueryError, StorageError
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.float32 import float32_above


def some_queries():
    first = small_query("L1 ball", "largest")
    return {"first": first, "wider": first.at(Ball(1, 0.8, 3)), "flat": small_query("Linf shell", "mixed", 1)}


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    (root / "net.onnx").write_bytes(graph_to_onnx(random_network(np.random.default_rng(0), (3, 2))))
    extra = {"first": {"verdict": "holds", "seconds": 0.5}}
    return write_bundle(root / "out", some_queries(), network_path=root / "net.onnx", timeout=60, extra=extra)


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_layout(bundle):
    files = files_of(bundle)
    assert [name for name in files if "/" not in name] == ["README.txt", "instances.csv", "manifest.json"]
    assert "network/net.onnx" in files
    for name in some_queries():
        assert {f"vnnlib/{name}.vnnlib", f"vnnlib/{name}.v2.vnnlib", f"smtlib/{name}.smt2"} <= set(files)


def test_networks_of_equal_bytes_are_written_once(bundle):
    entries = manifest_of(bundle)["queries"]
    assert entries["wider"]["files"]["onnx"] == entries["first"]["files"]["onnx"]
    assert not (bundle / "onnx" / "wider.onnx").exists()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "onnx").iterdir()]
    assert len(set(hashes)) == len(hashes)


def check_hashes(bundle):
    manifest = manifest_of(bundle)
    said = [file for entry in manifest["queries"].values() for file in entry["files"].values()]
    said += [manifest["network"]] if manifest["network"] else []
    for file in said:
        assert hashlib.sha256((bundle / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    unsaid = set(files_of(bundle)) - {file["path"] for file in said}
    assert unsaid == {"README.txt", "instances.csv", "manifest.json"}


def test_the_manifest_says_what_the_queries_are(bundle):
    manifest = manifest_of(bundle)
    assert (manifest["format"], manifest["format_version"]) == ("veriflow bundle", 1)
    assert manifest["made_with"]["onnx"] == onnx.__version__
    first, flat = manifest["queries"]["first"], manifest["queries"]["flat"]
    assert (first["property"], first["verdict"], first["seconds"]) == (PROPERTIES["largest"].text, "holds", 0.5)
    assert first["region"] == {
        "norm": "1", "dim": 3, "inner": 0.0, "inner_exact": "0.0", "radius": float32_above(0.7),
        "radius_exact": "0.7000000476837158203125",
    }  # fmt: skip
    assert flat["region"]["norm"] == "inf"
    assert (first["strict_weakened"], flat["strict_weakened"]) == (0, 2)
    assert len(flat["extra_outputs"]) == 3
    assert first["mass"] is None


def test_every_instance_is_there_and_fits(bundle):
    rows = list(csv.reader((bundle / "instances.csv").read_text().splitlines()))
    assert [row[2] for row in rows] == ["60"] * 3
    for network, spec, _ in rows:
        text = (bundle / spec).read_text()
        graph = read_onnx(bundle / network)
        assert text.count("declare-const X_") == graph.input_size
        assert text.count("declare-const Y_") == graph.output_size


def test_every_file_is_read_by_its_parser(bundle):
    for path in (bundle / "onnx").iterdir():
        onnx.checker.check_model(str(path), full_check=True)
    for path in (path for part in ("v2", "linear") for path in (bundle / "vnnlib").glob(f"*.{part}.vnnlib")):
        assert vnnlib.parse_query_file(str(path)).networks[0].name == "N"
    for path in (bundle / "vnnlib").glob("*.networks.vnnlib"):
        assert [network.name for network in vnnlib.parse_query_file(str(path)).networks] == ["F", "N"]
    for path in (bundle / "smtlib").iterdir():
        assert z3.parse_smt2_file(str(path))


def test_a_network_alone_in_a_box(tmp_path):
    network = random_network(np.random.default_rng(0), (3, 4, 3))
    query = network_query(network, Box(-np.ones(3), np.ones(3)), PROPERTIES["largest"])
    folder = write_bundle(tmp_path / "out", {"net": query})
    entry = manifest_of(folder)["queries"]["net"]
    assert entry["files"]["chain"] == entry["files"]["onnx"]
    assert entry["region"] == {"lower": ["-1.0"] * 3, "upper": ["1.0"] * 3}
    assert (entry["mass"], entry["flow_rounding_deviation"], manifest_of(folder)["network"]) == (None, None, None)


def flow_like(p):
    law = SimpleNamespace(mass_between=lambda inner, outer: (np.asarray(outer) - inner) / 2)
    return SimpleNamespace(base=SimpleNamespace(p=p, law=law, dim=3), rounding_deviation=lambda: 1e-7)


@pytest.mark.parametrize(("p", "mass"), [(1, 0.3), (math.inf, None)])
def test_the_mass_is_that_of_the_shell_in_the_norm_of_the_base(p, mass, tmp_path):
    query = small_query("L1 shell", "largest")
    query = Query(query.graph, query.region, query.violation, query.text, "x", flow_like(p))
    entry = manifest_of(write_bundle(tmp_path / "out", {"q": query}))["queries"]["q"]
    assert entry["mass"] == (pytest.approx(mass) if mass else None)
    assert entry["flow_rounding_deviation"] == 1e-7


def test_two_bundles_of_the_same_are_the_same(bundle, tmp_path):
    again = write_bundle(tmp_path / "out", some_queries(), timeout=60)
    for name in files_of(again):
        if name != "manifest.json":
            assert (again / name).read_bytes() == (bundle / name).read_bytes()


def test_a_bundle_replaces_a_bundle_and_nothing_else(tmp_path):
    query = {"q": small_query("box", "largest")}
    write_bundle(tmp_path / "out", {"old": query["q"]})
    write_bundle(tmp_path / "out", query)
    assert not (tmp_path / "out" / "vnnlib" / "old.vnnlib").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="empty or written by veriflow"):
        write_bundle(tmp_path / "thesis", query)
    assert files_of(tmp_path / "thesis") == ["thesis.txt"]


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    queries = some_queries() | {"round": small_query("box", "largest").at(Ball(2, 1.0, 3))}
    with pytest.raises(QueryError, match="linear constraints"):
        write_bundle(tmp_path / "out", queries)
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        write_bundle(tmp_path / "out", some_queries())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "extra", "message"),
    [
        (["a/b"], {}, "query names of letters"),
        ([""], {}, "query names of letters"),
        (["a.v2"], {}, "query names of letters"),
        (["a", "A"], {}, "more than case"),
        (["a"], {"b": {}}, "extra entries for the bundle's queries; got some for 'b'"),
        (["a"], {"a": {"verdict": object()}}, "that are JSON"),
        (["a"], {"a": {"seconds": math.nan}}, "that are JSON"),
    ],
)
def test_bad_names_and_extras_are_refused(names, extra, message, tmp_path):
    query = small_query("box", "largest")
    with pytest.raises(QueryError, match=message):
        write_bundle(tmp_path / "out", dict.fromkeys(names, query), extra=extra)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_network_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"expected a file at .*; got none"):
        write_bundle(tmp_path / "out", {"a": small_query("box", "largest")}, network_path=tmp_path / "none.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def full_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("full") / "out", some_queries(), timeout=60, forms=tuple(FORMS))


def test_a_bundle_of_every_form_is_whole(full_bundle):
    check_hashes(full_bundle)
    test_every_file_is_read_by_its_parser(full_bundle)
    entries = manifest_of(full_bundle)["queries"]
    for entry in entries.values():
        disjuncts = {key.rpartition(".")[2] for key in entry["files"] if "." in key}
        assert {f"{form}.{k}" for form in ("mps", "lp", "marabou") for k in disjuncts} <= set(entry["files"])
        assert {"onnx", "chain", "pair", "vnnlib2-networks", "flow-onnx", "network-onnx", "smtlib-plain"} <= set(
            entry["files"]
        )
    assert "vnnlib2-linear" in entries["first"]["files"]
    assert "vnnlib2-linear" not in entries["flat"]["files"]


def test_every_file_has_its_hash(bundle):
    check_hashes(bundle)


@pytest.mark.parametrize("tool", bundle_tools())
def test_every_command_names_files_that_are_there(tool, tmp_path):
    folder = write_bundle(tmp_path / "out", some_queries(), timeout=60, forms=forms_for([tool]))
    readme = (folder / "README.txt").read_text()
    section = readme.split(f"\n\n{tool}")[1].split("\n\n")[0].splitlines()[1:]
    assert len(section) >= len(some_queries())
    for line in section:
        words = [word.removeprefix("N=") for word in line.split() if "/" in word]
        assert words
        assert all((folder / word).is_file() for word in words), line
    said = {file["path"] for entry in manifest_of(folder)["queries"].values() for file in entry["files"].values()}
    used = {word.removeprefix("N=") for line in section for word in line.split() if "/" in word}
    assert said == used


def test_the_readme_names_every_file_kind(full_bundle):
    readme = (full_bundle / "README.txt").read_text()
    for path, _ in FORMS.values():
        assert path in readme
    assert all(f"\n\n{tool}" in readme for tool in bundle_tools())


def test_forms_of_tools_are_asked_for_by_name(tmp_path):
    assert forms_for(["z3", "marabou"]) == ("smtlib", "marabou")
    for names in (["abacus"], []):
        with pytest.raises(QueryError, match="expected tools among"):
            forms_for(names)
    for forms in (("abacus",), ()):
        with pytest.raises(QueryError, match="expected forms among"):
            write_bundle(tmp_path / "out", some_queries(), forms=forms)


def test_the_public_face_is_sorted_and_there():
    assert exporters.__all__ == sorted(exporters.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(exporters, name) for name in exporters.__all__)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 1e10])
def test_time_limits_that_are_none_are_refused(timeout, tmp_path):
    with pytest.raises(QueryError, match="expected a time limit above 0 and up to 1e\\+09 seconds; got "):
        write_bundle(tmp_path / "out", some_queries(), timeout=timeout)
    assert not (tmp_path / "out").exists()
