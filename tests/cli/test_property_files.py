"""The commands on property files: verify with and without a flow, export, certify and restrict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import PROPORTION, WITNESS, document, refused, run, write_network

from exporters import graph_to_onnx, parse_vnnlib, portable_form, read_onnx, to_vnnlib1, to_vnnlib2
from veriflow.piecewise.graph import Affine, Graph
from veriflow.queries.restriction import specification_queries

DECLARED = "".join(f"(declare-const {kind}_{i} Real)\n" for kind in "XY" for i in (0, 1))
TWO_NETWORKS = """(vnnlib-version <2.0>)
(declare-network N (declare-input X Real [2]) (declare-output Y Real [2]))
(declare-network M ({} N) (declare-input U Real [2]) (declare-output V Real [2]))
(assert (and (>= X[0] 0.0) (<= X[0] 1.0) (>= X[1] 0.0) (<= X[1] 1.0) (== U[0] X[0])))
(assert (and (>= U[0] 0.0) (<= U[0] 1.0) (>= U[1] 0.0) (<= U[1] 1.0) (>= (- U[1] X[1]) 0.0)))
(assert (> Y[0] V[0]))
"""


def box(low: float, high: float) -> str:
    return "".join(f"(assert (and (>= X_{i} {low}) (<= X_{i} {high})))\n" for i in (0, 1))


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "p.vnnlib", head: str = DECLARED) -> Path:
        (tmp_path / name).write_text(head + text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("text", "outcome", "engine", "regions"),
    [
        (box(0, 1) + "(assert (>= Y_0 1.75))", "violated", "bab", 1),
        (box(0, 1) + "(assert (>= Y_0 2.25))", "holds", "bab", 1),
        (
            box(0, 2) + "(assert (or (and (<= X_0 1) (>= Y_0 3.5)) (and (>= X_0 1.5) (>= Y_0 3.9))))",
            "violated",
            "bab",
            2,
        ),
        (box(0, 1) + "(assert (<= (+ X_0 X_1) 0.7)) (assert (>= (+ Y_0 X_0) 1.5))", "holds", "bab", 1),
        (box(0, 1) + "(assert (> Y_0 2))", "holds", "smt", 1),  # a tie, which only rational arithmetic can tell
        (box(0, 1) + "(assert (>= Y_0 2))", "violated", "bab", 1),
    ],
)
def test_verify_without_a_flow(
    folder: Path, spec: Callable[..., Path], text: str, outcome: str, engine: str, regions: int
) -> None:
    question = ["verify", "--network", folder / "net.onnx", "--property", spec(text)]
    found = document(*question, code=int(outcome == "violated"))
    assert (found["outcome"], found["engine"], found["mass"]) == (outcome, engine, None)
    assert found["property"].startswith("p.vnnlib")
    assert len(found["regions"]) == regions
    assert (found["regions"][0]["inner"], found["violation_probability"], found["violations_in_data"]) == (None,) * 3
    if outcome == "violated":
        witness = found["witness"]
        assert list(witness) == WITNESS.split()
        assert list(witness["data"]) == ["X_0", "X_1"]
        assert len(witness["outputs"]) == 2
        assert witness["log_density"] is None
    shown = run(*question)
    assert shown.exit_code == (outcome == "violated")
    assert outcome.upper() in shown.stdout
    assert "under the whole flow" not in shown.stdout


def test_strict_comparisons_are_decided_by_an_exact_solver(folder: Path, spec: Callable[..., Path]) -> None:
    question = ["verify", "--network", folder / "net.onnx", "--with", "smt", "--property"]
    assert document(*question, spec(box(0, 1) + "(assert (> Y_0 2))"))["outcome"] == "holds"
    assert document(*question, spec(box(0, 1) + "(assert (>= Y_0 2))"), code=1)["outcome"] == "violated"


@pytest.mark.parametrize(
    ("relation", "other", "files", "code"),
    [
        ("equal-to", 1.0, ["net.onnx"], 0),
        ("equal-to", 1.0, ["N=net.onnx"], 0),
        ("isomorphic-to", 1.0, ["N=net.onnx", "M=net.onnx"], 0),
        ("isomorphic-to", 0.5, ["N=net.onnx", "M=half.onnx"], 1),
    ],
)
def test_verify_two_networks(
    folder: Path, spec: Callable[..., Path], relation: str, other: float, files: list[str], code: int, tmp_path: Path
) -> None:
    """More of the second input gives no less of the first output, unless the second network is another one."""
    write_network(tmp_path / "net.onnx")
    half = Graph("x", 2, (Affine("a", (("x", np.array([[0.5, 0.5], [0, 0]])),), np.array([0, 1.5])),), "a")
    graph_to_onnx(half, tmp_path / "half.onnx")
    paths = [
        name.replace("net.onnx", str(tmp_path / "net.onnx")).replace("half", str(tmp_path / "half")) for name in files
    ]
    options = [part for path in paths for part in ("--network", path)]
    prop = spec(TWO_NETWORKS.format(relation), head="")
    found = document("verify", *options, "--property", prop, "--with", "smt", code=code)
    if code:
        data = found["witness"]["data"]
        assert data["X_0"] == data["X_2"]
        assert len(found["witness"]["outputs"]) == 4


@pytest.mark.parametrize("direction", ["latent-to-data", "data-to-latent"])
@pytest.mark.parametrize(("bound", "outcome"), [(2.0, "violated"), (30.0, "holds")])
def test_verify_on_a_level_set(
    folder: Path, spec: Callable[..., Path], direction: str, bound: float, outcome: str
) -> None:
    prop = spec(box(0, 4) + f"(assert (>= Y_0 {bound}))")
    question = ["verify", "--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--property", prop]
    question += ["--mass", 0.5, "--direction", direction, "--data", folder / "blob.csv"]
    found = document(*question, code=int(outcome == "violated"))
    assert found["outcome"] == outcome
    assert found["mass"] == pytest.approx(0.5)
    assert found["engine"] == "bab"
    assert list(found["violation_probability"]) == PROPORTION.split()
    assert (found["violations_in_data"]["count"] > 0) == (bound == 2)
    if outcome == "violated":
        witness = found["witness"]
        assert sum(witness["data"].values()) >= 2 - 1e-6
        assert witness["level_mass"] <= 0.5 + 1e-6
        assert witness["outputs"][0] == pytest.approx(sum(witness["data"].values()))
        assert witness["input_exact"] == witness["latent_exact"] or direction == "data-to-latent"


def test_the_mass_up_to_which_a_file_is_unsatisfiable(folder: Path, spec: Callable[..., Path]) -> None:
    prop = spec(box(0, 4) + "(assert (>= Y_0 3.25))")
    files = ["--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--property"]
    asked = document("certify", *files, prop, code=1)
    same = document("certify", *files, "y[0] < 3.25", code=1)
    assert asked["certified_mass"] == pytest.approx(same["certified_mass"], abs=0.01)


@pytest.mark.parametrize(("direction", "queries"), [("latent-to-data", 1), ("data-to-latent", 2)])
def test_restrict(folder: Path, spec: Callable[..., Path], tmp_path: Path, direction: str, queries: int) -> None:
    prop = spec(box(0, 4) + "(assert (or (and (<= X_0 1.1) (>= Y_0 2)) (and (>= X_0 2.1) (>= Y_0 4) (< Y_1 X_0))))")
    question = ["restrict", "--flow", folder / "flow.safetensors", "--mass", 0.9, "--network", folder / "net.onnx"]
    question += ["--property", prop, "--direction", direction, "-o", tmp_path / "out"]
    found = document(*question)
    assert (found["direction"], found["property"], len(found["queries"])) == (direction, str(prop), queries)
    assert all((tmp_path / "out" / name).is_file() for name in found["files"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for name in found["queries"]:
        entry = manifest["queries"][name]
        assert entry["direction"] == direction
        assert entry["level_set_mass"] == pytest.approx(0.9)
        text = (tmp_path / "out" / "vnnlib" / f"{name}.vnnlib").read_text()
        assert parse_vnnlib(text) == parse_vnnlib((tmp_path / "out" / "vnnlib" / f"{name}.v2.vnnlib").read_text())
    assert str(tmp_path / "out") in "".join(run(*question).stdout.split())


@pytest.mark.parametrize(("bound", "code"), [("1.75", 1), ("(/ 15 4)", 0)])
def test_what_was_written_again_gets_the_same_verdict(
    folder: Path, spec: Callable[..., Path], tmp_path: Path, bound: str, code: int
) -> None:
    text = box(0, 1) + f"(assert (<= (+ X_0 X_0 X_1) 2.75)) (assert (>= (+ Y_0 X_0) {bound}))"
    assert document("verify", "--network", folder / "net.onnx", "--property", spec(text), code=code)
    (query,) = specification_queries([read_onnx(folder / "net.onnx")], parse_vnnlib(DECLARED + text))
    form = portable_form(query)
    graph_to_onnx(form.graph, tmp_path / "again.onnx")
    for written in (to_vnnlib1(form), to_vnnlib2(form)):
        again = spec(written, "again.vnnlib", head="")
        assert document("verify", "--network", tmp_path / "again.onnx", "--property", again, code=code)


HALF = "(assert (>= Y_0 0.5))"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (box(0, 1) + "(assert (<= Y_0 1)", "expected ')' for the '(' at line 7, column 1; got the end of the text"),
        ("", "expected a VNN-LIB property; got a text without assertions"),
        (box(0, 1), "expected constraints on outputs in every alternative; got one on inputs alone"),
        ("(declare-const X_2 Real)" + box(0, 1) + "(assert (<= 0 X_2 1))" + HALF,
         "expected a network of 3 inputs and 2 outputs, as the property declares; got one of 2 inputs and 2 outputs"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(folder: Path, spec: Callable[..., Path], text: str, sentence: str) -> None:
    prop = spec(text)
    assert refused("verify", "--network", folder / "net.onnx", "--property", prop) == sentence
    flow = ["--flow", folder / "flow.safetensors", "--mass", 0.5]
    assert refused("verify", *flow, "--network", folder / "net.onnx", "--property", prop) == sentence


@pytest.mark.parametrize("solvers", ["auto", "smt", "bab,milp"])
def test_contradicting_bounds_are_unsatisfiable(folder: Path, spec: Callable[..., Path], solvers: str) -> None:
    asked = ["--network", folder / "net.onnx", "--property", spec(box(1, 0) + HALF)]
    assert document("verify", *asked, "--with", solvers)["outcome"] == "holds"
    assert document("verify", *asked, "--flow", folder / "flow.safetensors", "--mass", 0.5)["outcome"] == "holds"
    sentence = refused("export", *asked, "--flow", folder / "flow.safetensors", "--mass", 0.5, "-o", folder / "none")
    assert "contradicts itself" in sentence


def test_a_property_of_outputs_alone_is_asked_on_the_level_set(folder: Path, spec: Callable[..., Path]) -> None:
    asked = ["--network", folder / "net.onnx", "--property", spec("(assert (>= Y_0 1000))")]
    assert refused("verify", *asked) == "expected a lower bound on every input; got none on X_0"
    flow = ["--flow", folder / "flow.safetensors", "--mass", 0.5]
    assert document("verify", *asked, *flow)["outcome"] == "holds"
    asked[-1] = spec("(assert (<= 0 X_0)) (assert (>= Y_0 -1000))", "low.vnnlib")
    assert next(iter(document("verify", *asked, *flow, code=1)["witness"]["data"].values())) >= 0
    sentence = refused("verify", *asked, *flow, "--direction", "data-to-latent")
    assert sentence == "expected a lower bound on every input; got none on X_1"


def test_bad_questions_are_refused(folder: Path, spec: Callable[..., Path], tmp_path: Path) -> None:
    net, flow = ["--network", folder / "net.onnx"], ["--flow", folder / "flow.safetensors"]
    prop = spec(box(0, 1) + HALF)
    missing = refused("verify", *net, "--property", tmp_path / "none.vnnlib")
    assert missing.startswith("expected a file at")
    assert missing.endswith("got none")
    assert refused("verify", *net, "--property", "y[0] >= 1").startswith("expected a property file (NAME.vnnlib)")
    assert refused("verify", *net, "--property", prop, "--mass", 0.5).startswith("expected --flow beside --mass")
    assert refused("verify", *net, *net, "--property", prop).startswith("expected --network NAME=FILE, as the property")
    assert refused("verify", *net, *net, *flow, "--property", prop, "--mass", 0.5) == (
        "expected one --network beside --flow; got 2"
    )
    both = refused("verify", *net, "--property", spec(TWO_NETWORKS.format("isomorphic-to"), head=""))
    assert both.startswith("expected --network N=FILE --network M=FILE, as the property declares; got")
    assert refused("restrict", *net, *flow, "--property", "y[0] >= 1", "--mass", 0.5, "-o", tmp_path / "o").startswith(
        "expected a property file (NAME.vnnlib)"
    )
    sideways = ["--property", spec(box(0, 1) + HALF), "--mass", 0.5, "--direction", "sideways"]
    assert "latent-to-data or data-to-latent; got 'sideways'" in refused("verify", *net, *flow, *sideways)
    assert "with a property file alone" in refused(
        "verify", *net, *flow, "--property", "y[0] >= 1", "--mass", 0.5, "--direction", "data-to-latent"
    )
    assert not (tmp_path / "o").exists()


def test_a_last_softmax_is_moved_into_the_property(folder: Path, spec: Callable[..., Path]) -> None:
    """The same verdict and the same witness as on the logits, for a text and for a file; relations are refused."""
    model = onnx.load(folder / "net.onnx")
    logits = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Softmax", [logits], ["probabilities"], "soft", axis=-1))
    model.graph.output[0].name = "probabilities"
    onnx.save(model, folder / "soft.onnx")
    level = ["--flow", folder / "flow.safetensors", "--mass", 0.5]
    for prop in ("classified_as(1)", spec(box(-9, 9) + "(assert (>= Y_0 Y_1))")):
        found = [
            document("verify", *level, "--network", folder / name, "--property", prop, code=1)["witness"]
            for name in ("net.onnx", "soft.onnx")
        ]
        logits, probabilities = (one.pop("own") for one in found)
        assert found[0] == found[1]
        assert logits["violated"] is probabilities["violated"] is True
        assert sum(probabilities["outputs"][0]) == pytest.approx(1)
    sentence = refused("verify", *level, "--network", folder / "soft.onnx", "--property", "lipschitz(2.0, inf, 0.1)")
    assert "softmax" in sentence
