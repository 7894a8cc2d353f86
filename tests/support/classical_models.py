"""Models in the operators that skl2onnx writes."""

import math

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_models import weights

from veriflow.piecewise.evaluate import evaluate

ML = "ai.onnx.ml"
TABLES = ("probabilities", "scores", "y", "z")
OFFSET, SCALE = [14.1, 19.3, 91.9], [0.284, 0.2327, 0.0411]
NAMES = ["benign", "malignant"]


def ml(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, domain=ML, **attributes)


def std(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, **attributes)


def classical(nodes, outputs, constants=(), *, kind=TensorProto.FLOAT, inputs=(("X", 3),), opset=17, classical_opset=1):
    """A model with an open batch; outputs by name with their element types, None for a list of maps."""
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    tensors = []
    for name, value in dict(constants).items():
        array = np.asarray(value)
        tensors.append(numpy_helper.from_array(array.astype(dtype) if array.dtype.kind == "f" else array, name))
    ends = []
    for name, element in outputs.items():
        if element is None:
            value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            key = TensorProto.STRING if any(n.op_type == "ZipMap" and n.attribute[0].strings for n in nodes) else 7
            kinds = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
            ends.append(helper.make_value_info(name, kinds))
        else:
            ends.append(helper.make_tensor_value_info(name, element, [None, None][: 1 + (name in TABLES)]))
    given = [helper.make_tensor_value_info(name, kind, [None, size]) for name, size in inputs]
    graph = helper.make_graph(nodes, "classical", given, ends, tensors)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(ML, classical_opset)], ir_version=8
    )


HIDDEN = [
    std("Cast", ["scaled"], ["cast"], to=1),
    std("MatMul", ["cast", "w1"], ["m1"]),
    std("Add", ["m1", "b1"], ["a1"]),
    std("Relu", ["a1"], ["h"]),
    std("MatMul", ["h", "w2"], ["m2"]),
    std("Add", ["m2", "b2"], ["l"]),
]
BINARY = [
    *HIDDEN,
    std("Sigmoid", ["l"], ["p"]),
    std("Sub", ["unity", "p"], ["q"]),
    std("Concat", ["q", "p"], ["probabilities"], axis=1),
]
SEVERAL = [*HIDDEN, std("Softmax", ["l"], ["probabilities"])]
CLASSES = np.array(NAMES, dtype=object)


def layers(outputs):
    return {
        "w1": weights(3, 4),
        "b1": weights(1, 4),
        "w2": weights(4, outputs),
        "b2": weights(1, outputs),
        "unity": np.array(1.0),
    }


def labelled(classes, *, text):
    last = std("Identity" if text else "Cast", ["flat"], ["label"], **({} if text else {"to": 7}))
    return [
        std("ArgMax", ["probabilities"], ["best"], axis=1),
        ml("ArrayFeatureExtractor", ["classes", "best"], ["chosen"]),
        std("Reshape", ["chosen", "shape"], ["flat"]),
        last,
    ], {"classes": classes, "shape": np.array([-1])}


SCALER = ml("Scaler", ["X"], ["scaled"], offset=OFFSET, scale=SCALE)
PICK, PICKED = labelled(CLASSES, text=True)
PICK3, PICKED3 = labelled(np.array([-1, 4, 7], dtype=np.int32), text=False)
ZIP = ml("ZipMap", ["probabilities"], ["maps"], classlabels_strings=NAMES)
COEFFICIENTS = [0.5, -1.5, 2.0]
BOTH = [-v for v in COEFFICIENTS] + COEFFICIENTS
ROWS = [0.5, -1.5, 2.0, 0.25, 1.5, -1.0, -0.75, 0.125, 1.0]


def linear_classifier(transform, coefficients, intercepts, labels, **more):
    kinds = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
    attributes = {kinds: labels, "coefficients": coefficients, "intercepts": intercepts, "post_transform": transform}
    return ml("LinearClassifier", ["X"], ["label", "scores"], **attributes, **more)


TEXT, WHOLE, FLOAT = TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT
READ = {
    "scaler, binary, maps": (
        classical([SCALER, *BINARY, *PICK, ZIP], {"label": TEXT, "maps": None}, layers(1) | PICKED),
        "softmax",
        tuple(NAMES),
    ),
    "labels alone give the names": (
        classical([SCALER, *BINARY, *PICK], {"label": TEXT, "probabilities": FLOAT}, layers(1) | PICKED),
        "softmax",
        tuple(NAMES),
    ),
    "three whole labels": (
        classical([SCALER, *SEVERAL, *PICK3], {"label": WHOLE, "probabilities": FLOAT}, layers(3) | PICKED3),
        "softmax",
        ("-1", "4", "7"),
    ),
    "double": (
        classical(
            [
                std("Sub", ["X", "mean"], ["centred"]),
                std("Div", ["centred", "deviation"], ["scaled"]),
                *(std("Cast", ["scaled"], ["cast"], to=11), *BINARY[1:]),
                *PICK,
            ],
            {"label": TEXT, "probabilities": TensorProto.DOUBLE},
            layers(1) | PICKED | {"mean": np.array(OFFSET), "deviation": 1 / np.array(SCALE)},
            kind=TensorProto.DOUBLE,
        ),
        "softmax",
        tuple(NAMES),
    ),
    "logistic, two classes": (
        classical([linear_classifier("LOGISTIC", BOTH, [-0.5, 0.5], NAMES)], {"label": TEXT, "scores": FLOAT}),
        "softmax",
        tuple(NAMES),
    ),
    "names by a table in another order": (
        classical(
            [
                linear_classifier("SOFTMAX", ROWS, [0.5, -0.25, 0.0], [10, 20, 30]),
                ml("LabelEncoder", ["label"], ["name"], keys_int64s=[30, 10, 20], values_strings=["z", "x", "y"]),
            ],
            {"name": TEXT, "scores": FLOAT},
            classical_opset=2,
        ),
        "softmax",
        ("x", "y", "z"),
    ),
    "multinomial, normalised, maps": (
        classical(
            [
                linear_classifier("SOFTMAX", ROWS, [0.5, -0.25, 0.0], [0, 1, 2]),
                ml("Normalizer", ["scores"], ["probabilities"], norm="L1"),
                ml("ZipMap", ["probabilities"], ["maps"], classlabels_int64s=[0, 1, 2]),
            ],
            {"label": WHOLE, "maps": None},
        ),
        "softmax",
        ("0", "1", "2"),
    ),
    "scores": (
        classical(
            [linear_classifier("NONE", ROWS, [0.5, -0.25, 0.0], ["a", "b", "c"])], {"label": TEXT, "scores": FLOAT}
        ),
        None,
        ("a", "b", "c"),
    ),
    "logistic by hand": (
        classical(
            [
                std("MatMul", ["X", "coef"], ["product"]),
                std("Add", ["product", "intercept"], ["raw"]),
                std("Sigmoid", ["raw"], ["each"]),
                std("Abs", ["each"], ["size"]),
                std("ReduceSum", ["size", "axis"], ["norm"], keepdims=1),
                std("Div", ["each", "norm"], ["probabilities"]),
            ],
            {"probabilities": TensorProto.DOUBLE},
            {
                "coef": np.array(BOTH).reshape(2, 3).T,
                "intercept": np.array([[0.1, -0.1]]),
                "axis": np.array([1]),
            },
            kind=TensorProto.DOUBLE,
        ),
        "softmax",
        (),
    ),
    "a column for each class": (
        classical(
            [
                SCALER,
                *BINARY,
                std("Slice", ["probabilities", "zero", "one", "one"], ["first"]),
                std("Slice", ["probabilities", "one", "two", "one"], ["second"]),
                std("Reshape", ["first", "shape"], ["a"]),
                std("Reshape", ["second", "shape"], ["b"]),
                *PICK,
            ],
            {"label": TEXT, "a": FLOAT, "b": FLOAT},
            layers(1) | PICKED | {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])},
        ),
        "softmax",
        tuple(NAMES),
    ),
    "a threshold": (
        classical(
            [SCALER, *HIDDEN, std("Sigmoid", ["l"], ["p"]), ml("Binarizer", ["p"], ["y"], threshold=0.5)],
            {"y": FLOAT},
            layers(1),
        ),
        "argmax",
        (),
    ),
    "one against the rest": (
        classical(
            [
                linear_classifier("LOGISTIC", BOTH, [-0.5, 0.5], [0, 1]),
                std("Identity", ["scores"], ["first"]),
                std("Sigmoid", ["X"], ["others"]),
                std("Gather", ["first", "one"], ["second"], axis=1),
                std("Concat", ["second", "others"], ["each"], axis=1),
                std("ArgMax", ["each"], ["best"], axis=1, keepdims=0),
                std("Gather", ["classes", "best"], ["choice"]),
            ],
            {"choice": WHOLE},
            {"one": np.array([1]), "classes": np.array([3, 5, 7, 9])},
        ),
        "argmax",
        ("3", "5", "7", "9"),
    ),
    "named columns, some extracted": (
        classical(
            [
                ml("FeatureVectorizer", ["a", "b", "c"], ["X"], inputdimensions=[1, 1, 1]),
                ml("Imputer", ["X"], ["present"], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=math.nan),
                ml("ArrayFeatureExtractor", ["present", "places"], ["two"]),
                ml("ArrayFeatureExtractor", ["present", "last"], ["third"]),
                ml("Scaler", ["two"], ["part"], offset=OFFSET[:2], scale=SCALE[:2]),
                std("Concat", ["part", "third"], ["all"], axis=1),
                ml("LinearRegressor", ["all"], ["y"], coefficients=ROWS[:6], intercepts=[1.5, -2.5], targets=2),
            ],
            {"y": FLOAT},
            {"places": np.array([2, 0]), "last": np.array([1])},
            inputs=[("a", 1), ("b", 1), ("c", 1)],
        ),
        None,
        (),
    ),
}


def by_onnxruntime(model, names, inputs, points):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dtype = np.float32 if "float" in session.get_inputs()[0].type else np.float64
    rows = []
    for point in points:
        feeds = {port.name: point[port.slice].reshape(port.shape).astype(dtype) for port in inputs}
        row = []
        for result in session.run(names, feeds):
            maps = isinstance(result, list)
            row += [v for d in result for v in d.values()] if maps else np.asarray(result).reshape(-1).tolist()
        rows.append(row)
    return rows


def by_graph(network, ending, points):
    values = evaluate(network, torch.from_numpy(points))[network.output].numpy()
    if ending is None:
        return values.tolist()
    if ending.kind == "argmax":
        return [[(ending.labels or range(ending.logits))[best]] for best in values.argmax(axis=1)]
    with np.errstate(over="ignore"):
        return (
            torch.softmax(torch.from_numpy(values), 1).tolist()
            if ending.kind == "softmax"
            else (1 / (1 + np.exp(-values))).tolist()
        )
