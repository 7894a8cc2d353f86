"""Several operators one after the other, against onnxruntime: tensors of four axes, with drawn operators and shapes."""

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import assert_agree, drawn_numbers, model, node

STEPS = {
    "Transpose": lambda draw, k: ({"perm": draw(st.permutations(range(4)))}, {}),
    "Pad": lambda draw, k: (
        {"mode": draw(st.sampled_from(["edge", "constant"]))},
        {f"p{k}": np.array([draw(st.integers(0, 1)) for _ in range(8)], dtype=np.int64)},
    ),
    "Gather": lambda draw, k: (
        {"axis": draw(st.integers(0, 3))},
        {f"i{k}": np.array(draw(st.lists(st.integers(-1, 0), min_size=1, max_size=3)), dtype=np.int64)},
    ),
    "Slice": lambda draw, k: (
        {},
        {f"{n}{k}": np.array([v], dtype=np.int64) for n, v in (("s", -1), ("e", -100), ("a", 3), ("t", -1))},
    ),
    "Concat": lambda draw, k: ({"axis": draw(st.integers(1, 3))}, ("twice",)),
    "Relu": lambda draw, k: ({}, {}),
    "LeakyRelu": lambda draw, k: ({"alpha": 0.1}, {}),
    "Add": lambda draw, k: ({}, draw(st.sampled_from([{f"c{k}": drawn_numbers(draw, 1)}, ("twice",)]))),
    "Max": lambda draw, k: ({}, {f"c{k}": drawn_numbers(draw, 1)}),
    "MaxPool": lambda draw, k: ({"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}, {}),
    "AveragePool": lambda draw, k: ({"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}, {}),
    "ReduceMax": lambda draw, k: ({"axes": [draw(st.integers(0, 3))], "keepdims": 1}, {}),
    "ReduceMean": lambda draw, k: ({"axes": [draw(st.integers(0, 3))], "keepdims": 1}, {}),
    "PRelu": lambda draw, k: ({}, {f"c{k}": drawn_numbers(draw, 1)}),
    "Reshape": lambda draw, k: ({}, {f"r{k}": np.array([0, 1, -1, 2], dtype=np.int64)}),
    "Expand": lambda draw, k: ({}, {f"r{k}": np.array([2, 1, 1, 1], dtype=np.int64)}),
}
"""Operators on tensors of four axes."""


@st.composite
def chains(draw):
    """A few operators one after the other, with a Conv and a MatMul for whatever shape has come about at the end."""
    nodes, constants, last, shape = [], {}, "x", (2, 2, 3, 2)
    for k in range(draw(st.integers(2, 6))):
        name = draw(st.sampled_from(sorted(STEPS)))
        attributes, more = STEPS[name](draw, k)
        reads = [last, *((last,) if more == ("twice",) else more)]
        step = [*nodes, node(name, reads, [f"h{k}"], **attributes)]
        found = _shape(step, constants | ({} if more == ("twice",) else more), f"h{k}")
        if found is None or len(found) != 4 or min(found) < 1 or np.prod(found) > 600:
            continue
        nodes, last, shape = step, f"h{k}", found
        constants |= {} if more == ("twice",) else more
    constants |= {"kernel": drawn_numbers(draw, 2, shape[1], 2, 1), "matrix": drawn_numbers(draw, shape[3], 2)}
    nodes += [
        node("Conv", [last, "kernel"], ["h"], pads=[1, 0, 0, 0]),
        node("MatMul", ["h", "matrix"], ["m"]),
        node("Relu", ["m"]),
    ]
    return model(nodes, {"x": (2, 2, 3, 2)}, constants, opset=13)


def _shape(nodes, constants, name):
    """The shape of a tensor by onnx's shape inference, None where that finds an error."""
    try:
        proto = onnx.shape_inference.infer_shapes(
            model(nodes, {"x": (2, 2, 3, 2)}, constants, outputs=[name]), strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError:
        return None
    return tuple(size.dim_value for size in proto.graph.output[0].type.tensor_type.shape.dim)


@given(proto=chains())
def test_operators_after_operators(proto, tmp_path):
    assert_agree(proto, tmp_path)
