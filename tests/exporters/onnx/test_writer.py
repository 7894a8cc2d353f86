"""Graph → ONNX → graph, every operator against onnxruntime, and files that are refused."""

import math
from fractions import Fraction

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_queries import PROPERTIES, REGIONS, exact, points_about, random_graph, random_network, small_query

from exporters import graph_to_onnx, portable_form, read_onnx, run_onnx, shifted_chain
from veriflow.errors import GraphError, StorageError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate, evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu, dense, identity
from veriflow.piecewise.simplify import drop_dead_units
from veriflow.regions.box import Box

ROUNDING = 2.0**-24


def outputs(graph, points):
    return evaluate(graph, torch.from_numpy(points))[graph.output].numpy()


def float32_error(graph, points):
    """A bound on what float32 evaluation loses: γ_n Σ|w||x| in every affine row, carried on by absolute weights."""
    size, error = {graph.input: np.abs(points)}, {graph.input: np.zeros_like(points)}
    for node in graph.nodes:
        if isinstance(node, Relu):
            size[node.output], error[node.output] = size[node.input], error[node.input]
            continue
        weights = [(name, abs(weight)) for name, weight in node.terms]
        total = np.abs(node.bias) + sum((w @ size[name].T).T for name, w in weights)
        count = 2 + sum(w.shape[1] + 1 for _, w in weights)
        size[node.output] = total
        error[node.output] = sum((w @ error[name].T).T for name, w in weights) + 1.01 * count * ROUNDING * total
    return error[graph.output]


def read_back(graph, tmp_path):
    graph_to_onnx(graph, tmp_path / "g.onnx")
    return read_onnx(tmp_path / "g.onnx")


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("prop", PROPERTIES)
def test_onnxruntime_computes_the_portable_graph_and_its_chain(region, prop):
    query = small_query(region, prop)
    form = portable_form(query)
    points = np.clip(points_about(form.box, np.random.default_rng(3), 50), form.box.lower, form.box.upper)
    want = outputs(form.graph, points)
    chain = shifted_chain(form.graph, form.box)
    for graph in (form.graph, chain):
        assert (np.abs(run_onnx(graph_to_onnx(graph), points) - want) <= float32_error(graph, points)).all()


@given(seed=st.integers(0, 10**6), blocks=st.integers(0, 3), dim=st.integers(1, 4), point=st.integers(0, 10**6))
def test_the_chain_equals_the_graph_exactly_in_the_box(seed, blocks, dim, point):
    graph = random_graph(seed, dim=dim, blocks=blocks)
    box = Box(-np.full(dim, 0.5), np.full(dim, 1.5))
    chain = shifted_chain(graph, box)
    last = graph.input
    for node in chain.nodes:
        assert node.inputs == (last,)
        last = node.output
    z = [Fraction(numerator % 2001, 1000) - Fraction(1, 2) for numerator in range(point, point + dim * 997, 997)]
    assert evaluate_exact(chain, z)[chain.output] == evaluate_exact(graph, z)[graph.output]


def test_the_chain_adds_no_unstable_unit():
    for region in REGIONS:
        form = portable_form(small_query(region, "largest"))
        chain = shifted_chain(form.graph, form.box)
        assert chain.relu_count > form.graph.relu_count
        unstable = [symbolic_bounds(graph, form.box).unstable(graph) for graph in (form.graph, chain)]
        assert unstable[0] == unstable[1]


def test_a_chain_comes_back_as_it_is():
    network = random_network(np.random.default_rng(0), (3, 5, 2))
    assert shifted_chain(network, Box(-np.ones(3), np.ones(3))).nodes == network.nodes


def test_a_chain_ends_in_an_affine_map_even_after_a_relu():
    one = identity(2)
    nodes = (
        Affine("a", (("z", one),), np.zeros(2)),
        Relu("h", "a"),
        Affine("b", (("h", one), ("z", one)), np.zeros(2)),
    )
    graph = Graph("z", 2, (*nodes, Relu("y", "b")), "y")
    chain = shifted_chain(graph, Box(-np.ones(2), np.ones(2)))
    assert isinstance(chain.nodes[-1], Affine)
    z = [Fraction(-1, 3), Fraction(3, 4)]
    assert evaluate_exact(chain, z)[chain.output] == [0, Fraction(3, 2)]


def test_a_file_has_the_form_that_all_verifiers_read():
    model = onnx.load_model_from_string(graph_to_onnx(random_graph(1)))
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} == {"Gemm", "Relu", "Add"}
    assert (model.ir_version, model.opset_import[0].version) == (8, 13)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    ends = [
        (v.name, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in (*model.graph.input, *model.graph.output)
    ]
    assert ends == [("X", [1, 3]), ("Y", [1, 3])]
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert all(len(node.input) == 3 and node.attribute[0].name == "transB" for node in gemms)


def test_a_chain_file_is_gemm_and_relu_alone():
    form = portable_form(small_query("L1 shell", "mixed"))
    model = onnx.load_model_from_string(graph_to_onnx(shifted_chain(form.graph, form.box)))
    assert {node.op_type for node in model.graph.node} == {"Gemm", "Relu"}


@given(seed=st.integers(0, 10**6), blocks=st.integers(0, 2), numerator=st.integers(-99, 99))
def test_a_round_trip_changes_nothing(tmp_path_factory, seed, blocks, numerator):
    graph = random_graph(seed, blocks=blocks)
    back = read_back(graph, tmp_path_factory.mktemp("trip"))
    z = [Fraction(numerator, 7), Fraction(1, 3), Fraction(-2)]
    assert evaluate_exact(back, z)[back.output] == evaluate_exact(graph, z)[graph.output]
    assert (back.input, back.output) == ("X", "Y")


def odd_graphs():
    one, zero = identity(2), np.zeros(2)
    two = np.array([1.0, -2.0])
    yield "no node", Graph("z", 2, (), "z")
    yield "a constant", Graph("z", 2, (Affine("c", (), two),), "c")
    yield "an identity", Graph("z", 2, (Affine("c", (("z", one),), zero),), "c")
    yield "a shift", Graph("z", 2, (Affine("c", (("z", one),), two),), "c")
    yield "a double", Graph("z", 2, (Affine("c", (("z", one), ("z", one)), zero),), "c")
    yield "a shifted double", Graph("z", 2, (Affine("c", (("z", one), ("z", one)), two),), "c")
    yield "a relu", Graph("z", 2, (Relu("c", "z"),), "c")
    taken = (Affine("Y", (("Y.0", one),), two), Relu("X", "Y"), Affine("Y.1", (("X", one), ("Y.0", 2 * one)), two))
    yield "taken names", Graph("Y.0", 2, taken, "Y.1")
    yield "dead units", drop_dead_units(random_graph(5, dim=2).ending_at("x"))
    wide = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    yield (
        "three terms",
        Graph(
            "z",
            2,
            (
                Affine("a", (("z", wide),), np.ones(3)),
                Relu("h", "a"),
                Affine("y", (("a", 2 * identity(3)), ("h", identity(3)), ("z", wide)), np.ones(3)),
            ),
            "y",
        ),
    )


@pytest.mark.parametrize("graph", [pytest.param(graph, id=name) for name, graph in odd_graphs()])
def test_odd_graphs_pass_both_ways(graph, tmp_path):
    points = points_about(Box(-np.ones(2), np.ones(2)), np.random.default_rng(0), 20)
    want = np.broadcast_to(outputs(graph, points), (20, graph.output_size))
    np.testing.assert_allclose(run_onnx(graph_to_onnx(graph), points), want, atol=1e-6)
    back = read_back(graph, tmp_path)
    for point in map(exact, points[:3]):
        assert evaluate_exact(back, point)[back.output] == evaluate_exact(graph, point)[graph.output]
    if len({name for node in graph.nodes for name in node.inputs}) == sum(len(node.inputs) for node in graph.nodes):
        chain = shifted_chain(graph, Box(-np.ones(2), np.ones(2)))
        for point in map(exact, np.clip(points[:3], -1, 1)):
            assert evaluate_exact(chain, point)[chain.output] == evaluate_exact(graph, point)[graph.output]


@pytest.mark.parametrize("value", [0.1, 1e300, 1 + 2.0**-30, 0.5], ids=str)
def test_constants_are_never_rounded_unless_asked(value, tmp_path):
    graph = Graph("z", 1, (Affine("y", (("z", np.array([[value]])),), np.array([value])),), "y")
    graph_to_onnx(graph, tmp_path / "g.onnx")
    model = onnx.load(tmp_path / "g.onnx")
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {TensorProto.FLOAT if value == 0.5 else TensorProto.DOUBLE}
    (node,) = read_onnx(tmp_path / "g.onnx").nodes
    assert dense(node.terms[0][1]) == value and node.bias == value
    if value < 1e38:
        rounded = run_onnx(graph_to_onnx(graph, precision="float"), [2.0])
        assert rounded == np.float32(value) * np.float32(2) + np.float32(value)


def test_constants_beyond_float32_are_refused_in_float(tmp_path):
    graph = Graph("z", 1, (Affine("y", (("z", np.array([[1e300]])),), np.zeros(1)),), "y")
    with pytest.raises(GraphError, match=r"range of float32 in 'Y\.weight'; got 1e\+300"):
        graph_to_onnx(graph, tmp_path / "g.onnx", "float")
    assert not list(tmp_path.iterdir())


# --- reading ---------------------------------------------------------------------------------------------------------

C = {
    "matrix": np.arange(12.0).reshape(4, 3) / 8 - 0.7,
    "square": np.arange(9.0).reshape(3, 3) / 8 - 0.4,
    "vector": np.array([0.1, -0.3, 0.7]),
    "scalar": np.array(-1.75),
    "powers": np.array([0.5, -4.0, 1.0]),
    "column": np.array([[0.5], [0.25]]),
    "shape": np.array([3, 1], dtype=np.int64),
    "open_shape": np.array([0, -1, 1], dtype=np.int64),
    "flat": np.array([-1], dtype=np.int64),
}


def model_of(nodes, shape=(1, 3), kind=TensorProto.FLOAT, *, opset=13, constants=C, **changes):
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    tensors = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(dtype), name)
        for name, value in constants.items()
        if any(name in node.input for node in nodes)
    ]
    ends = [helper.make_tensor_value_info("x", kind, list(shape))], [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph(nodes, "test", changes.get("inputs", ends[0]), changes.get("outputs", ends[1]), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if "outputs" not in changes and not any(node.domain for node in nodes):
        inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type
        model.graph.output[0].type.tensor_type.shape.CopyFrom(inferred.shape)
    return model


def node(operator, *inputs, output="y", **attributes):
    name = f"the {operator}" if output == "y" else f"{operator} to {output}"
    return helper.make_node(operator, list(inputs), [output], name=name, **attributes)


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.float32(value)))


COLUMN = node("Reshape", "x", "shape", output="r")
OPERATORS = {
    "gemm": ([node("Gemm", "x", "matrix", "column1", transB=1)], (1, 3)),
    "gemm without bias": ([node("Gemm", "x", "square")], (1, 3)),
    "gemm scalar bias": ([node("Gemm", "x", "square", "scalar", transB=1)], (1, 3)),
    "gemm alpha beta": ([node("Gemm", "x", "square", "vector", alpha=0.3, beta=1.7)], (1, 3)),
    "gemm constant first": ([COLUMN, node("Gemm", "square", "r", transA=1)], (1, 3)),
    "gemm transposed vector": ([COLUMN, node("Gemm", "r", "square", transA=1)], (1, 3)),
    "gemm transposed second": ([node("Gemm", "square", "x", transB=1)], (1, 3)),
    "gemm rows": ([node("Reshape", "x", "rows", output="r"), node("Gemm", "r", "square", "vector")], (1, 6)),
    "matmul": ([node("MatMul", "x", "square")], (1, 3)),
    "matmul vector": ([node("MatMul", "x", "square")], (3,)),
    "matmul constant first": ([node("MatMul", "matrix", "x")], (3,)),
    "matmul constant first, matrix": ([node("MatMul", "matrix", "x")], (1, 3, 2)),
    "matmul rows": ([node("MatMul", "x", "square")], (1, 2, 3)),
    "add": ([node("Add", "x", "vector")], (1, 3)),
    "add scalar": ([node("Add", "scalar", "x")], (1, 3)),
    "add widens": ([node("Add", "x", "column")], (1, 3)),
    "sub": ([node("Sub", "x", "vector")], (1, 3)),
    "sub from": ([node("Sub", "vector", "x")], (1, 3)),
    "mul": ([node("Mul", "x", "vector")], (1, 3)),
    "mul first": ([node("Mul", "scalar", "x")], (1, 3)),
    "mul widens": ([node("Mul", "x", "column")], (1, 3)),
    "div": ([node("Div", "x", "powers")], (1, 3)),
    "div by others": ([node("Div", "x", "vector")], (1, 3)),
    "residual": ([node("Relu", "x", output="h"), node("Add", "x", "h")], (1, 3)),
    "residual difference": ([node("Relu", "x", output="h"), node("Sub", "h", "x")], (1, 3)),
    "double": ([node("Add", "x", "x")], (1, 3)),
    "relu": ([node("Relu", "x")], (1, 3)),
    "identity": ([node("Identity", "x", output="i"), node("Relu", "i", output="h"), node("Identity", "h")], (1, 3)),
    "flatten": ([node("Flatten", "x", output="f"), node("Add", "f", "vector")], (1, 3, 1, 1)),
    "flatten last": ([node("Flatten", "x", output="f", axis=-1), node("Gemm", "f", "square")], (1, 2, 3)),
    "reshape": ([node("Reshape", "x", "shape", output="r"), node("MatMul", "matrix", "r")], (1, 3)),
    "reshape open": ([node("Reshape", "x", "open_shape")], (1, 3)),
    "transpose": ([node("Transpose", "x", output="t", perm=[2, 0, 1]), node("Flatten", "t", axis=0)], (1, 3, 2)),
    "transpose default": ([node("Transpose", "x", output="t"), node("Flatten", "t", axis=0)], (1, 3, 2)),
    "constant node": ([constant("c", [1.5, 0.1, -2]), node("Add", "x", "c")], (1, 3)),
    "constant floats": (
        [helper.make_node("Constant", [], ["c"], value_floats=[1.5, 0.1, -2.0]), node("Mul", "x", "c")],
        (1, 3),
    ),
    "moved constants": (
        [
            node("Transpose", "square", output="t"),
            node("Reshape", "column1", "flat", output="r"),
            node("Identity", "t", output="i"),
            node("MatMul", "x", "i", output="m"),
            node("Add", "m", "vector"),
        ],
        (1, 3),
    ),
}
MORE = {"column1": np.array([[0.1, 0.2, -0.3, 0.4]]), "rows": np.array([2, 3], dtype=np.int64)}


HOLD_FLOAT32 = {"constant node", "constant floats", "div by others"}
CASES = [(case, TensorProto.FLOAT) for case in OPERATORS] + [
    (case, TensorProto.DOUBLE) for case in OPERATORS.keys() - HOLD_FLOAT32
]


@pytest.mark.parametrize(("case", "kind"), sorted(CASES))
def test_every_operator_agrees_with_onnxruntime(case, kind, tmp_path):
    nodes, shape = OPERATORS[case]
    model = model_of(nodes, shape, kind, constants={**C, **MORE})
    onnx.save(model, tmp_path / "m.onnx")
    graph = read_onnx(tmp_path / "m.onnx")
    points = points_about(Box(-np.ones(math.prod(shape)), np.ones(math.prod(shape))), np.random.default_rng(0), 8)
    tolerance = 1e-6 if kind == TensorProto.FLOAT else 1e-14
    np.testing.assert_allclose(outputs(graph, points), run_onnx(tmp_path / "m.onnx", points), atol=tolerance)


def test_constants_and_names_are_those_of_the_file(tmp_path):
    nodes = [node("Gemm", "x", "square", "vector", output="first", transB=1), node("Relu", "first")]
    onnx.save(model_of(nodes), tmp_path / "m.onnx")
    graph = read_onnx(tmp_path / "m.onnx")
    assert (graph.input, graph.output, [n.output for n in graph.nodes]) == ("x", "y", ["first", "y"])
    ((_, weight),) = graph.nodes[0].terms
    assert (weight == C["square"].astype(np.float32)).all()
    assert (graph.nodes[0].bias == C["vector"].astype(np.float32)).all()


def test_scalings_are_exact(tmp_path):
    onnx.save(model_of([node("Gemm", "x", "square", "vector", alpha=0.3, beta=1.7)]), tmp_path / "m.onnx")
    graph = read_onnx(tmp_path / "m.onnx")
    point = [Fraction(1, 3), Fraction(2), Fraction(-5, 7)]
    alpha, beta = (Fraction(float(np.float32(v))) for v in (0.3, 1.7))
    square, vector = ([exact(row) for row in np.atleast_2d(C[n].astype(np.float32))] for n in ("square", "vector"))
    want = [alpha * sum(point[i] * square[i][j] for i in range(3)) + beta * vector[0][j] for j in range(3)]
    assert evaluate_exact(graph, point)["y"] == want


@pytest.mark.parametrize("batch", ["batch_size", None, 1])
def test_a_symbolic_batch_is_one(batch, tmp_path):
    onnx.save(model_of([node("Add", "x", "vector")], (batch, 1, 3)), tmp_path / "m.onnx")
    assert read_onnx(tmp_path / "m.onnx").input_size == 3


def test_external_data_is_read_from_beside_the_file(tmp_path):
    model = model_of([node("Gemm", "x", "square")])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert read_onnx(tmp_path / "m.onnx").output_size == 3
    (tmp_path / "m.data").unlink()
    with pytest.raises((StorageError, GraphError), match="expected"):
        read_onnx(tmp_path / "m.onnx")


def end(name, kind=TensorProto.FLOAT, shape=(1, 3)):
    return helper.make_tensor_value_info(name, kind, shape)


REFUSED = {
    "operator": (model_of([node("Tanh", "x")]), "got Tanh in node 'the Tanh'"),
    "division by zero": (model_of([node("Div", "x", "z")], constants={"z": np.zeros(1)}), "divisors other than zero"),
    "reciprocal": (model_of([node("Div", "powers", "x")]), "a constant in Div node"),
    "product": (model_of([node("Mul", "x", "x")]), "a constant in Mul node 'the Mul'"),
    "matrix product": (model_of([node("MatMul", "x", "x")], (3,)), "a constant in MatMul"),
    "sizes": (model_of([node("MatMul", "x", "matrix")]), "inner sizes agree"),
    "broadcast": (model_of([node("Add", "x", "column1")], constants=MORE), "shapes that broadcast"),
    "reshape": (model_of([node("Reshape", "x", "rows")], constants=MORE), "a shape of 3 entries"),
    "constant output": (model_of([node("Identity", "vector")]), "depends on the input"),
    "constants alone": (model_of([node("Add", "vector", "scalar")]), "depends on the input"),
    "nan": (model_of([node("Add", "x", "n")], constants={"n": np.array([math.nan])}), "finite constants.*'n'"),
    "infinity": (model_of([node("Mul", "x", "n")], constants={"n": np.array([math.inf])}), "finite constants.*'n'"),
    "open shape": (model_of([node("Relu", "x")], (1, "width")), "known sizes after the batch axis"),
    "no shape": (model_of([node("Relu", "x")], inputs=[end("x", shape=None)]), "shape"),
    "integers": (model_of([node("Relu", "x")], kind=TensorProto.INT64), "FLOAT or DOUBLE"),
    "huge input": (model_of([node("Relu", "x")], (1, 10**6, 10**6)), "known sizes"),
    "huge broadcast": (
        model_of([node("Add", "x", "tall")], (1, 50_000), constants={"tall": np.zeros((50_000, 1))}),
        "tensors of at most [0-9]+ entries in Add node",
    ),
    "old opset": (model_of([node("Relu", "x")], opset=6), "opset 7 to [0-9]+; got 6"),
    "cycle": (
        model_of([node("Add", "x", "b", output="a"), node("Relu", "a", output="b"), node("Identity", "b")]),
        "valid ONNX model",
    ),
    "undefined": (model_of([node("Add", "x", "nowhere")]), "valid ONNX model"),
    "foreign domain": (
        model_of([helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft")]),
        "valid ONNX model|standard operators",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_sentences(case, tmp_path):
    model, message = REFUSED[case]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match=message) as caught:
        read_onnx(tmp_path / "m.onnx")
    assert str(caught.value).startswith("expected ")
    assert "\n" not in str(caught.value)


def test_a_tensor_that_claims_more_than_it_holds(tmp_path):
    for dims in ([2**40], [10**5, 10**4], [4], [-1], [0]):
        model = model_of([node("Add", "x", "vector")])
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(GraphError, match="expected"):
            read_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"PK\x03\x04 a zip", b"{}"], ids=["empty", "noise", "zip", "json"])
def test_other_files_are_storage_errors(data, tmp_path):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(StorageError, match="expected"):
        read_onnx(tmp_path / "m.onnx")


def test_a_truncated_file_is_refused(tmp_path):
    data = graph_to_onnx(random_graph(0))
    for length in range(1, len(data), len(data) // 23):
        (tmp_path / "m.onnx").write_bytes(data[:length])
        with pytest.raises((StorageError, GraphError), match="expected"):
            read_onnx(tmp_path / "m.onnx")


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(StorageError, match=r"expected a file at .*; got (none|a folder)"):
            read_onnx(path)


def test_onnxruntime_refusals(tmp_path):
    with pytest.raises(StorageError, match="onnxruntime loads"):
        run_onnx(b"nonsense", [0.0])
    with pytest.raises(StorageError, match="onnxruntime loads"):
        run_onnx(tmp_path / "none.onnx", [0.0])
    with pytest.raises(GraphError, match=r"expected inputs of shape \[1, 3\]; got \(2,\)"):
        run_onnx(graph_to_onnx(random_graph(0)), [0.0, 1.0])


def test_onnxruntime_takes_one_point_or_many():
    model = graph_to_onnx(random_graph(0))
    many = run_onnx(model, np.ones((2, 3)))
    assert (many.shape, run_onnx(model, np.ones(3)).shape) == ((2, 3), (3,))
    assert (many[1] == run_onnx(model, np.ones(3))).all()
