"""What onnxruntime makes of a witness: on the networks' own files and on the exported form, judged beside exact rationals."""

import gc
import itertools
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cli_runs import document, run
from onnx_models import model, node, weights
from onnxruntime import InferenceSession
from small_queries import float32_array, random_network

from exporters import OnnxFile, graph_to_onnx, read_logits, read_network, read_onnx, run_onnx
from exporters.onnx import writer as onnx_model
from exporters.testing import inferred
from veriflow.density.radial import make_base
from veriflow.errors import GraphError
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import save_flow
from veriflow.piecewise.graph import Affine, Graph
from veriflow.queries.constraints import y
from veriflow.queries.logits import property_on_logits
from veriflow.queries.properties import classified_as, formula_property
from veriflow.queries.query import Query, flow_query, network_query
from veriflow.queries.relations import equivalent, robust
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify import certify, output_range, replay, verify, verify_with
from verify.witness.onnx_replay import with_runs
from verify.witness.replayer import replayer


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(inferred(proto).SerializeToString())
    return path


def affine_file(path: Path, weight: list[list[float]], bias: list[float], ending: str = "", **options: object) -> Path:
    """A Gemm, and perhaps a last operation."""
    nodes = [node("Gemm", ["x", "w", "b"], ["t" if ending else "y"], transB=1)]
    nodes += [node(ending, ["t"], **({"axis": -1} if ending != "Sigmoid" else {}))] if ending else []
    kinds = {"y": onnx.TensorProto.INT64} if ending == "ArgMax" else {}
    constants = {"w": np.array(weight), "b": np.array(bias)}
    return saved(model(nodes, {"x": ("batch", len(weight[0]))}, constants, kinds=kinds, **options), path)


def convolution(path: Path) -> Path:
    """Two convolutions and a linear layer on images of 6 × 6."""
    constants = {"w1": weights(3, 1, 3, 3), "w2": weights(2, 3, 3, 3), "w3": weights(8, 2)}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"]),
        node("Relu", ["c1"], ["h1"]),
        node("Conv", ["h1", "w2"], ["c2"]),
        node("Relu", ["c2"], ["h2"]),
        node("Flatten", ["h2"], ["f"]),
        node("MatMul", ["f", "w3"]),
    ]
    return saved(model(nodes, {"x": (1, 1, 6, 6)}, constants), path)


@pytest.fixture
def too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sparse weights in the exported form, as if they were those of large convolutions."""
    monkeypatch.setattr(onnx_model, "_MOST_PADDING", 0)


def around(graph: Graph, size: float = 1.0) -> Box:
    return Box(np.full(graph.input_size, -size), np.full(graph.input_size, size))


@pytest.mark.usefixtures("too_large")
def test_a_violation_of_a_network_too_large_to_export_is_reported(tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx")
    graph = read_onnx(path)
    with pytest.raises(GraphError, match="sparse weights"):
        graph_to_onnx(graph)
    for names in (["bab"], ["milp", "smt"]):  # in this process, and in processes of their own
        verdict = verify_with(network_query(graph, around(graph), classified_as(0)), names).verdict
        assert verdict.violated
        assert verdict.witness.exported is None
        assert "exported form: expected sparse weights" in " ".join(verdict.witness.not_run)
        own = verdict.witness.own
        assert own.violated
        assert own.outputs == (tuple(run_onnx(path, verdict.witness.data).tolist()),)
        assert own.deviation < 1e-5
        assert verdict.reason.endswith("replayed exactly")
    nowhere = verify(network_query(replace(graph, source=None), around(graph), classified_as(0)))
    assert nowhere.violated
    assert nowhere.witness.own is nowhere.witness.exported is None
    assert "; onnxruntime was not run on the exported form: expected sparse weights" in nowhere.reason

    lines = [f"(declare-const X_{i} Real) (assert (>= X_{i} -1)) (assert (<= X_{i} 1))" for i in range(36)]
    lines += ["(declare-const Y_0 Real) (declare-const Y_1 Real) (assert (>= Y_1 Y_0))"]
    (tmp_path / "q.vnnlib").write_text("\n".join(lines))
    shown = run("verify", "--network", path, "--property", tmp_path / "q.vnnlib")
    assert shown.exit_code == 1
    assert "on your file" in shown.stdout
    assert "not run" in shown.stdout
    sat = run("solver", "verify", tmp_path / "q.vnnlib", "--network", path).stdout
    assert sat.startswith("sat\n((X_0 ")
    assert f"(Y_0 {float(sat.split('(Y_0 ')[1].split(')')[0])!r})" in sat


def test_float64_files_are_run_in_float64(tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[0.1, 0.2]], [0.3], kind=onnx.TensorProto.DOUBLE)
    verdict = verify(network_query(read_onnx(path), Box(np.zeros(2), np.ones(2)), formula_property(y[0] <= 0.5)))
    assert verdict.violated
    own = verdict.witness.own
    assert (own.names, own.dtype, own.violated) == (("net.onnx",), "float64", True)
    assert own.deviation < 1e-15


def test_a_violation_that_float32_rounds_away_stays_one(tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[1.0, 1.0]], [0.0])
    region = Box(np.array([1.0, 2.0**-30]), np.array([1.0, 2.0**-30]))
    query = network_query(read_onnx(path), region, formula_property(y[0] <= 1))
    for name in ("bab", "milp", "smt"):
        verdict = verify(query, name)
        if verdict.unknown:  # within the tolerance of floats
            continue
        assert verdict.violated
        for run_ in (verdict.witness.own, verdict.witness.exported):
            assert (run_.outputs, run_.violated, run_.deviation) == (((1.0,),), False, 2.0**-30)
        assert verdict.reason.endswith("; no violation in the float32 of net.onnx")
    assert verdict.violated  # smt
    text = "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (assert (>= X_0 1)) (assert (<= X_0 1))"
    text += f"(assert (<= X_1 {2.0**-30:.40f})) (assert (>= X_1 {2.0**-30:.40f})) (assert (> Y_0 1))"
    (tmp_path / "q.vnnlib").write_text(text)
    asked = ("verify", "--network", path, "--property", tmp_path / "q.vnnlib", "--with", "smt")
    own = document(*asked, code=1)["witness"]["own"]
    assert own == {
        "files": ["net.onnx"],
        "outputs": [[1.0]],
        "dtype": "float32",
        "deviation": 2.0**-30,
        "violated": False,
    }
    assert "y = 1, violated: no (float32 rounding), deviation 9.31323e-10" in " ".join(run(*asked).stdout.split())


def test_inputs_that_float32_cannot_hold_are_no_error(tmp_path: Path) -> None:
    """At 1.7e9 float32 has steps of 128, and a product of such numbers is off by as much: the difference is told."""
    path = affine_file(tmp_path / "net.onnx", [[0.37]], [-0.37 * 1.7e9])
    (weight,), (bias,) = (
        [*map(Fraction, array)] for array in ([float(np.float32(0.37))], [float(np.float32(-0.37 * 1.7e9))])
    )
    low, high = Fraction(17 * 10**8 - 500), Fraction(17 * 10**8 + 500)
    limit = weight * high + bias - 1
    query = network_query(read_onnx(path), Box.between([low], [high]), formula_property(y[0] <= limit))
    verdict = verify_with(query).verdict
    assert verdict.violated
    assert query.violated_by([weight * verdict.witness.point[0] + bias])
    assert 1e-3 < verdict.witness.own.deviation < 500


ENDINGS = ["Sigmoid", "Softmax", "LogSoftmax", "ArgMax"]
FORMULAS = {
    "Sigmoid": [y[0] <= 0.9, (y[0] <= 0.25) | (y[1] >= y[2]), y[1] < 0.5],
    "Softmax": [(y[0] >= y[1]) & (y[0] >= y[2]), y[2] - y[1] < 0],
    "LogSoftmax": [y[0] - y[1] <= 0.5, y[2] - y[1] >= -1],
    "ArgMax": [y[0] <= 1, y[0] >= 1],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_property_moved_to_logits_is_judged_on_the_file_as_it_was_asked(ending: str, tmp_path: Path) -> None:
    """The file's outputs violate the moved property exactly where they violate the one that was asked."""
    rng = np.random.default_rng(ENDINGS.index(ending))
    path = affine_file(tmp_path / "net.onnx", float32_array(rng, 3, 3).tolist(), float32_array(rng, 3).tolist(), ending)
    logits, taken, *_ = read_logits(path)
    judged = set()
    for formula, point in itertools.product(FORMULAS[ending], float32_array(rng, 20, 3, scale=2).tolist()):
        asked = formula_property(formula)
        query = network_query(logits, around(logits, 100), property_on_logits(asked, *taken))
        whole = replace(query, violation=((),))  # met everywhere
        witness = replay(whole, point)
        seen = with_runs(query, witness).own
        outputs = run_onnx(path, point).tolist()
        assert seen.outputs == (tuple(outputs),)
        given = [Fraction(value) for value in outputs]
        rows = asked.violation(len(given))
        assert seen.violated is any(all(constraint.holds(given) for constraint in row) for row in rows)
        assert seen.deviation < 1e-5
        judged.add(seen.violated)
    assert judged == {True, False}


@pytest.mark.parametrize("ending", ["Sigmoid", "Softmax"])
def test_probabilities_of_0_and_1_are_judged_too(ending: str, tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[400.0], [-400.0]], [0.0, 0.0], ending)
    logits, taken, *_ = read_logits(path)
    for formula in (y[0] <= 0.5, y[0] <= y[1], y[1] >= 0.25):
        query = network_query(
            logits, Box(np.ones(1), np.ones(1)), property_on_logits(formula_property(formula), *taken)
        )
        verdict = verify(query)
        assert verdict.violated
        assert (verdict.witness.own.outputs, verdict.witness.own.violated) == (((1.0, 0.0),), True)


def test_relations_run_every_network_at_its_own_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    graphs = []
    for name in ("a", "b"):
        graph_to_onnx(random_network(rng, (2, 4, 2)), tmp_path / f"{name}.onnx")
        graphs.append(read_onnx(tmp_path / f"{name}.onnx"))
    first, second = graphs
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for names in (["bab"], ["milp", "smt"]):
        both = verify_with(network_query(first, around(first), equivalent(second, 0.05)), names).verdict
        assert both.violated
        assert both.witness.own.names == ("a.onnx", "b.onnx")
        assert both.witness.own.outputs == tuple(tuple(run_onnx(f, both.witness.data).tolist()) for f in files)
        assert both.witness.own.violated
    pair = verify(network_query(first, around(first), robust(1.0))).witness
    assert pair.own.names == ("a.onnx", "a.onnx")
    points = (pair.data, *pair.others.values())
    assert pair.own.outputs == tuple(tuple(run_onnx(files[0], point).tolist()) for point in points)
    # what was read from no file stays exact: the outputs of the other network alone are the file's
    mixed = verify(network_query(replace(first, source=None), around(first), equivalent(second, 0.05))).witness
    assert mixed.own.names == ("b.onnx",)
    assert mixed.own.violated


def wrongly_read(graph: Graph) -> Graph:
    """The graph with another bias than its file has."""
    last = graph.nodes[-1]
    assert isinstance(last, Affine)
    return replace(graph, nodes=(*graph.nodes[:-1], replace(last, bias=last.bias + 0.25)))


def test_outputs_that_no_rounding_explains_are_an_error(tmp_path: Path) -> None:
    graph_to_onnx(random_network(np.random.default_rng(1), (2, 8, 8, 2)), tmp_path / "net.onnx")
    graph = read_onnx(tmp_path / "net.onnx")
    assert verify(network_query(graph, around(graph), formula_property(y[0] <= -9))).violated
    query = network_query(wrongly_read(graph), around(graph), formula_property(y[0] <= -9))
    for ask in (verify, verify_with, lambda asked: verify_with(asked, ["milp", "smt"])):
        with pytest.raises(
            GraphError, match=r"expected net\.onnx to compute what was read from it; got .* no rounding"
        ):
            ask(query)


@pytest.mark.parametrize("ending", ENDINGS)
def test_wrong_logits_are_an_error_too(ending: str, tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[1.0], [2.0]], [0.0, 0.0], ending)
    logits, *_ = read_logits(path)
    last = logits.nodes[-1]
    other = replace(logits, nodes=(*logits.nodes[:-1], replace(last, bias=np.array([3.0, 0.0]))))
    witness = replay(replace(network_query(other, around(other), classified_as(0)), violation=((),)), [1.0])
    with pytest.raises(GraphError, match="no rounding explains"):
        with_runs(network_query(other, around(other), classified_as(0)), witness)


def test_a_file_that_is_gone_or_another_is_said_so(tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[1.0, 2.0]], [0.5])
    query = network_query(read_onnx(path), Box(-np.ones(2), np.ones(2)), formula_property(y[0] <= 1))
    affine_file(path, [[1.0, 3.0]], [0.5])
    for why in ("as it was read; got another file", "expected a file"):
        verdict = verify(query)
        assert verdict.violated
        assert verdict.witness.own is None
        assert verdict.witness.exported.violated
        assert why in verdict.witness.not_run[0]
        path.unlink(missing_ok=True)


def test_files_are_opened_once_for_a_graph_and_what_replays_share_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[OnnxFile] = []
    open_file = OnnxFile.open

    def counted(file: OnnxFile, *, optimised: bool = True) -> InferenceSession:
        opened.append(file)
        return open_file(file, optimised=optimised)

    monkeypatch.setattr(OnnxFile, "open", counted)
    graph = read_onnx(affine_file(tmp_path / "net.onnx", [[1.0, 2.0]], [0.5]))
    query = flow_query(USFlow(2, blocks=1), graph, Ball(1, 2.0, 2), formula_property(y[0] <= 1))
    first = verify(query, "bab").witness
    again = verify(query.at(Ball(1, 1.0, 2)), "bab").witness
    assert [file.name for file in opened] == ["net.onnx", "the exported form"]
    for witness in (first, again):  # as if nothing were shared
        apart = replace(query, graph=replace(query.graph))
        alone = with_runs(apart, replay(apart, witness.point))
        assert alone == witness
        latent = torch.tensor([float(v) for v in witness.latent], dtype=torch.float64)
        assert witness.log_density == float(query.flow.base.log_prob(latent).detach()) - query.flow.log_volume()
    shared = weakref.ref(replayer(apart))
    del apart
    gc.collect()
    assert shared() is None


def test_outputs_beyond_float64_are_refused(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["t"]), node("Gemm", ["t", "v", "b"])]
    constants = {"w": np.array([[1e150]]), "v": np.array([[1e300]]), "b": np.array([0.0])}
    path = saved(model(nodes, {"x": (1, 1)}, constants, kind=onnx.TensorProto.DOUBLE), tmp_path / "net.onnx")
    query = network_query(read_onnx(path), Box(np.array([-1.0]), np.array([1.0])), formula_property(y[0] >= 1))
    for engine in ("bab", "milp", "smt"):
        with pytest.raises(GraphError, match=r"in the range of float64|sizes up to 1e\+150"):
            verify(query, engine)


def test_files_of_several_inputs_and_outputs_are_run_whole(tmp_path: Path) -> None:
    nodes = [
        node("Gemm", ["a", "w", "c"], ["y"], transB=1),
        node("Add", ["y", "b"], ["s"]),
        node("Relu", ["s"], ["u"]),
    ]
    constants = {"w": weights(2, 3), "c": weights(2)}
    proto = model(nodes, {"a": (1, 3), "b": (1, 2)}, constants, outputs=("u", "y"))
    graph = read_network(saved(proto, tmp_path / "net.onnx")).graph
    witness = verify(network_query(graph, around(graph), formula_property(y[0] + y[3] <= 0.1))).witness
    assert witness.own.outputs == (pytest.approx(witness.outputs),)
    assert witness.own.violated


def test_a_fixed_batch_is_filled_with_the_point(tmp_path: Path) -> None:
    path = affine_file(tmp_path / "net.onnx", [[1.0, 2.0]], [0.5])
    graph = read_onnx(path)
    proto = onnx.load(path)
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 25
    file = replace(graph.source, model=proto.SerializeToString())
    (seen,) = file.run([[Fraction(1), Fraction(1, 3)]])
    assert seen.outputs == tuple(run_onnx(path, [1.0, 1 / 3]).tolist())
    assert seen.point == (1, Fraction(float(np.float32(1 / 3))))


def test_certificates_and_ranges_show_the_file_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = USFlow(2, blocks=0, base=make_base("exponential", 2), features=["width", "height"])
    path = affine_file(tmp_path / "net.onnx", [[1.0, 0.5]], [0.0])
    graph = read_onnx(path)
    query: Query = flow_query(flow, graph, Ball(1, 3.0, 2), formula_property(y[0] <= 0.5))
    certificate = certify(query, timeout=20)
    assert certificate.witness.own.names == ("net.onnx",)
    assert certificate.witness.own.deviation < 1e-6
    found = output_range(flow, graph, flow.level_set(0.5), y[0])
    for end in (found.low, found.high):
        assert end.witness.own.outputs[0][0] == pytest.approx(end.attained)
        assert end.witness.own.violated is None
    save_flow(flow, tmp_path / "flow.safetensors")
    asked = ("--flow", tmp_path / "flow.safetensors", "--network", path, "--mass", 0.9)
    for command in ("verify", "certify"):
        shown = run(command, *asked, "--property", "y[0] <= 0.5")
        assert shown.exit_code == 1
        assert "on your file" in shown.stdout
    assert "violated" not in run("output-range", *asked).stdout
