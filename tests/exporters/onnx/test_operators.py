"""Every operator that is read, against onnxruntime, with drawn shapes and attributes, over the opsets that changed it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_models import assert_agree, drawn_numbers, model, node

OPSETS = (8, 9, 11, 13, 18, 21)
CASES = {}


def case(*names, opsets=OPSETS):
    """Register a drawer of models, called with a draw function, the operator and an opset."""

    def register(function):
        for name in names:
            CASES[name] = function, opsets
        return function

    return register


def sizes(draw, least=1, most=4, longest=4):
    return tuple(draw(st.lists(st.integers(1, longest), min_size=least, max_size=most)))


def narrower(draw, shape):
    """A shape that broadcasts to the given one."""
    cut = tuple(draw(st.sampled_from([1, size])) for size in shape)
    return cut[draw(st.integers(0, len(cut))) :]


def an_axis(draw, rank):
    return draw(st.integers(-rank, rank - 1))


def some_axes(draw, rank, least=1):
    axes = draw(st.lists(st.integers(0, rank - 1), min_size=least, max_size=rank, unique=True))
    return [axis - rank if draw(st.booleans()) else axis for axis in axes]


@case("Relu", "Abs", "Neg", "Identity")
def _(draw, name, opset):
    return model([node(name, ["x"])], {"x": sizes(draw)}, opset=opset)


@case("LeakyRelu")
def _(draw, name, opset):
    alpha = draw(st.floats(-2, 2, width=32))
    return model([node(name, ["x"], alpha=alpha)], {"x": sizes(draw)}, opset=opset)


@case("PRelu", opsets=(9, 11, 16, 21))
def _(draw, name, opset):
    shape = sizes(draw)
    return model(
        [node(name, ["x", "a"])], {"x": shape}, {"a": drawn_numbers(draw, *narrower(draw, shape))}, opset=opset
    )


@case("Add", "Sub", "Mul")
def _(draw, name, opset):
    shape, other = sizes(draw), sizes(draw, 0)
    other = other if draw(st.booleans()) and _fit(shape, other) else narrower(draw, shape)
    order = draw(st.permutations(["x", "c"]))
    return model([node(name, order)], {"x": shape}, {"c": drawn_numbers(draw, *other)}, opset=opset)


def _fit(*shapes):
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


@case("Div")
def _(draw, name, opset):
    shape = sizes(draw)
    divisor = drawn_numbers(draw, *narrower(draw, shape))
    divisor = np.where(np.abs(divisor) < 0.1, 3.0, divisor)
    return model([node(name, ["x", "c"])], {"x": shape}, {"c": divisor}, opset=opset)


@case("Sum", "Max", "Min")
def _(draw, name, opset):
    shape = sizes(draw)
    parts = [narrower(draw, shape) for _ in range(draw(st.integers(0, 2)))]
    constants = {f"c{k}": drawn_numbers(draw, *narrower(draw, shape)) for k in range(draw(st.integers(0, 2)))}
    nodes = [node("Relu", ["x"], ["h"])]
    reads = ["x", *("h" for _ in range(draw(st.integers(0, 1)))), *(f"x{k}" for k in range(len(parts))), *constants]
    shapes = {"x": shape} | {f"x{k}": part for k, part in enumerate(parts)}
    return model([*nodes, node(name, draw(st.permutations(reads)))], shapes, constants, opset=opset)


@case("Clip")
def _(draw, name, opset):
    low, high = sorted((draw(st.floats(-3, 3, width=32)), draw(st.floats(-3, 3, width=32))))
    which = draw(st.sampled_from(["both", "min", "max", "none", "relu6"]))
    low, high = (0.0, 6.0) if which == "relu6" else (low, high)
    shape = {"x": sizes(draw)}
    has_low, has_high = which not in ("max", "none"), which not in ("min", "none")
    if opset < 11:
        limits = {"min": low} if has_low else {}
        return model([node(name, ["x"], **limits, **({"max": high} if has_high else {}))], shape, opset=opset)
    reads = ["x", "l" if has_low else "", "u" if has_high else ""]
    constants = {"l": np.array(low), "u": np.array(high)}
    return model([node(name, reads)], shape, {n: c for n, c in constants.items() if n in reads}, opset=opset)


@case("BatchNormalization")
def _(draw, name, opset):
    shape = sizes(draw, 2)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    constants = {n: drawn_numbers(draw, shape[1]) for n in ("scale", "shift", "mean")}
    constants["variance"] = rng.uniform(0.1, 4, shape[1])
    epsilon = draw(st.sampled_from([1e-5, 1e-3, 0.5]))
    return model([node(name, ["x", *constants], epsilon=epsilon)], {"x": shape}, constants, opset=opset)


@case("MatMul")
def _(draw, name, opset):
    n, k, m = (draw(st.integers(1, 4)) for _ in range(3))
    batch = sizes(draw, 0, 2, 3)
    left, right = (*narrower(draw, batch), n, k), (*narrower(draw, batch), k, m)
    left = (k,) if draw(st.integers(0, 4)) == 0 else left
    right = (k,) if draw(st.integers(0, 4)) == 0 and len(left) > 1 else right
    if draw(st.booleans()):
        return model([node(name, ["x", "w"])], {"x": left}, {"w": drawn_numbers(draw, *right)}, opset=opset)
    return model([node(name, ["w", "x"])], {"x": right}, {"w": drawn_numbers(draw, *left)}, opset=opset)


@case("Gemm", opsets=(8, 9, 11, 13))
def _(draw, name, opset):
    n, k, m = (draw(st.integers(1, 4)) for _ in range(3))
    turns = [draw(st.integers(0, 1)) for _ in range(2)]
    left, right = (k, n) if turns[0] else (n, k), (m, k) if turns[1] else (k, m)
    factors = draw(st.sampled_from([(1.0, 1.0), (0.3, 1.0), (1.0, -1.7), (0.3, 1.7)]))
    bias = draw(st.sampled_from(["none", "constant", "input"] if opset >= 11 else ["constant", "input"]))
    shapes, constants = {"x": left}, {"w": drawn_numbers(draw, *right)}
    reads = ["x", "w"]
    if draw(st.booleans()):
        shapes, constants, reads = {"x": right}, {"w": drawn_numbers(draw, *left)}, ["w", "x"]
    if bias == "constant":
        constants["b"] = drawn_numbers(draw, *narrower(draw, (n, m)))
    if bias == "input":
        shapes["b"] = narrower(draw, (n, m))
    reads += ["b"] * (bias != "none")
    attributes = {"transA": turns[0], "transB": turns[1], "alpha": factors[0], "beta": factors[1]}
    return model([node(name, reads, **attributes)], shapes, constants, opset=opset)


def windows(draw, name, opset, *, dilated=True, ceil=False):
    """A spatial shape and attributes with which every window holds something."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(rank)]}
    dilations = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(rank)]
    mode = draw(st.sampled_from(["NOTSET", "pads", "pads", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode.startswith("SAME"):
        dilations = [1] * rank
        kernel = [max(k, s - 1) for k, s in zip(kernel, attributes["strides"], strict=True)]
        attributes["kernel_shape"] = kernel
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = [extent + draw(st.integers(0, 3 if rank < 3 else 1)) for extent in extents]
    if dilated and max(dilations) > 1:
        attributes["dilations"] = dilations
    if mode == "pads":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    elif mode != "NOTSET":
        attributes["auto_pad"] = mode
    if ceil and mode in ("NOTSET", "pads") and draw(st.booleans()):
        attributes["ceil_mode"] = 1
    return spatial, attributes


@case("Conv", opsets=(8, 11, 21))
def _(draw, name, opset):
    spatial, attributes = windows(draw, name, opset)
    groups, inputs, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    constants = {"w": drawn_numbers(draw, groups * outputs, inputs, *attributes["kernel_shape"])}
    if draw(st.booleans()):
        constants["b"] = drawn_numbers(draw, groups * outputs)
    if draw(st.booleans()):
        del attributes["kernel_shape"]
    shape = (draw(st.integers(1, 2)), groups * inputs, *spatial)
    return model([node(name, ["x", *constants], group=groups, **attributes)], {"x": shape}, constants, opset=opset)


@case("ConvTranspose", opsets=(8, 11, 21))
def _(draw, name, opset):
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    spatial = [draw(st.integers(1, 3)) for _ in range(rank)]
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = {"kernel_shape": kernel, "strides": strides}
    mode = draw(st.sampled_from(["NOTSET", "pads", "VALID", "SAME_UPPER", "SAME_LOWER", "output_shape"]))
    if mode in ("NOTSET", "pads"):
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(rank)]
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    if mode == "pads":
        attributes["pads"] = [draw(st.integers(0, k // 2)) for k in kernel] * 2
        spatial = [size + 1 for size in spatial]
    elif mode == "output_shape":
        full = [(n - 1) * s + k for n, s, k in zip(spatial, strides, kernel, strict=True)]
        attributes["output_shape"] = [max(1, n - draw(st.integers(0, 1))) for n in full]
    elif mode != "NOTSET":
        attributes["auto_pad"] = mode
        if mode != "VALID":  # padding is never negative
            kernel = attributes["kernel_shape"] = [max(k, s) for k, s in zip(kernel, strides, strict=True)]
    groups, inputs, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    constants = {"w": drawn_numbers(draw, groups * inputs, outputs, *kernel)}
    if draw(st.booleans()):
        constants["b"] = drawn_numbers(draw, groups * outputs)
    shape = (draw(st.integers(1, 2)), groups * inputs, *spatial)
    return model([node(name, ["x", *constants], group=groups, **attributes)], {"x": shape}, constants, opset=opset)


@case("MaxPool", opsets=(8, 10, 12, 21))
def _(draw, name, opset):
    spatial, attributes = windows(draw, name, opset, dilated=opset >= 10, ceil=opset >= 10)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *spatial)
    return model([node(name, ["x"], **attributes)], {"x": shape}, opset=opset)


@case("AveragePool", opsets=(8, 10, 19, 21))
def _(draw, name, opset):
    spatial, attributes = windows(draw, name, opset, dilated=opset >= 19, ceil=opset >= 10)
    if opset >= 19 or "ceil_mode" not in attributes:
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *spatial)
    return model([node(name, ["x"], **attributes)], {"x": shape}, opset=opset)


@case("GlobalAveragePool", "GlobalMaxPool", opsets=(8, 21))
def _(draw, name, opset):
    return model([node(name, ["x"])], {"x": sizes(draw, 3, 5)}, opset=opset)


@case("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", opsets=(8, 11, 13, 18, 20))
def _(draw, name, opset):
    shape = sizes(draw)
    axes = some_axes(draw, len(shape)) if draw(st.booleans()) else None
    if opset < 11 and axes is not None:
        axes = [axis % len(shape) for axis in axes]
    attributes, constants = {"keepdims": draw(st.integers(0, 1))}, {}
    as_input = opset >= (13 if name == "ReduceSum" else 18)
    if axes is not None and as_input:
        constants["axes"] = np.array(axes, dtype=np.int64)
    elif axes is not None:
        attributes["axes"] = axes
    elif as_input:
        attributes["noop_with_empty_axes"] = draw(st.integers(0, 1))
    return model([node(name, ["x", *constants], **attributes)], {"x": shape}, constants, opset=opset)


@case("Pad")
def _(draw, name, opset):
    shape = sizes(draw, 1, 4)
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    axes = list(range(len(shape)))
    if opset >= 18 and draw(st.booleans()):
        axes = some_axes(draw, len(shape))
    most = {"constant": 2, "edge": 2}
    pads = [draw(st.integers(0, min(2, most.get(mode, shape[axis] - 1)))) for axis in axes * 2]
    if mode == "constant" and draw(st.booleans()):
        pads = [-1 if shape[axis] > 2 and pad == 0 else pad for axis, pad in zip(axes * 2, pads, strict=True)]
    filler = draw(st.floats(-2, 2, width=32))
    if opset < 11:
        extra = {"value": filler} if mode == "constant" else {}
        return model([node(name, ["x"], mode=mode, pads=pads, **extra)], {"x": shape}, opset=opset)
    constants = {"pads": np.array(pads, dtype=np.int64)}
    reads = ["x", "pads"]
    if mode == "constant" and draw(st.booleans()):
        constants["value"] = np.array(filler)
        reads.append("value")
    if axes != list(range(len(shape))):
        constants["axes"] = np.array(axes, dtype=np.int64)
        reads += [""] * (3 - len(reads)) + ["axes"]
    return model([node(name, reads, mode=mode)], {"x": shape}, constants, opset=opset)


@case("Flatten")
def _(draw, name, opset):
    shape = sizes(draw)
    axis = draw(st.integers(0 if opset < 11 else -len(shape), len(shape)))
    return model([node(name, ["x"], axis=axis)], {"x": shape}, opset=opset)


@case("Reshape")
def _(draw, name, opset):
    shape = sizes(draw)
    wanted = list(draw(st.permutations(shape))) + [1] * draw(st.integers(0, 1))
    if draw(st.booleans()):
        wanted[draw(st.integers(0, len(wanted) - 1))] = -1
    if wanted[0] == shape[0] and draw(st.booleans()):
        wanted[0] = 0
    constants = {"shape": np.array(wanted, dtype=np.int64)}
    return model([node(name, ["x", "shape"])], {"x": shape}, constants, opset=opset)


@case("Squeeze", "Unsqueeze")
def _(draw, name, opset):
    shape = sizes(draw)
    if name == "Squeeze":
        shape = (1, *shape)
        axes = [0, *(i for i, size in enumerate(shape) if i and size == 1 and draw(st.booleans()))]
    else:
        axes = draw(st.lists(st.integers(0, len(shape)), min_size=1, max_size=2, unique=True))
    rank = len(shape) + (len(axes) if name == "Unsqueeze" else 0)
    if opset >= 11:
        axes = [axis - rank if draw(st.booleans()) else axis for axis in axes]
    if name == "Squeeze" and draw(st.booleans()):
        return model([node(name, ["x"])], {"x": shape}, opset=opset)
    if opset < 13:
        return model([node(name, ["x"], axes=axes)], {"x": shape}, opset=opset)
    return model([node(name, ["x", "axes"])], {"x": shape}, {"axes": np.array(axes, dtype=np.int64)}, opset=opset)


@case("Transpose")
def _(draw, name, opset):
    shape = sizes(draw)
    order = {"perm": draw(st.permutations(range(len(shape))))} if draw(st.booleans()) else {}
    return model([node(name, ["x"], **order)], {"x": shape}, opset=opset)


@case("Slice")
def _(draw, name, opset):
    shape = sizes(draw, 1, 3, 5)
    axes = some_axes(draw, len(shape)) if draw(st.booleans()) else list(range(len(shape)))
    axes = [axis % len(shape) for axis in axes] if opset < 10 else axes
    parts = []
    for axis in axes:
        size = shape[axis]
        first, last = sorted((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))))
        step = draw(st.integers(1, 2))
        part = (first, draw(st.sampled_from([last + 1, 2**31 - 1])), step)
        if opset >= 10 and draw(st.booleans()):
            part = (last, first - 1 if first else -(2**31), -step)
        elif draw(st.booleans()):
            part = (first - size, *part[1:])
        parts.append(part if opset >= 10 else (*part[:2], 1))
    starts, ends, steps = (list(column) for column in zip(*parts, strict=True))
    if opset < 10:
        return model([node(name, ["x"], starts=starts, ends=ends, axes=axes)], {"x": shape}, opset=opset)
    constants = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    constants = {n: np.array(value, dtype=np.int64) for n, value in constants.items()}
    return model([node(name, ["x", *constants])], {"x": shape}, constants, opset=opset)


@case("Split")
def _(draw, name, opset):
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    equal = draw(st.booleans())
    lengths = [lengths[0]] * len(lengths) if equal else lengths
    shape = list(sizes(draw, 1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = sum(lengths)
    axis = axis - len(shape) if opset >= 11 and draw(st.booleans()) else axis
    outputs = [f"y{k}" for k in range(len(lengths))]
    attributes, constants = {"axis": axis}, {}
    if opset >= 18 and equal:
        attributes["num_outputs"] = len(lengths)
    elif not equal and opset < 13:
        attributes["split"] = lengths
    elif not equal:
        constants["split"] = np.array(lengths, dtype=np.int64)
    nodes = [node(name, ["x", *constants], outputs, **attributes)]
    return model(nodes, {"x": shape}, constants, opset=opset, outputs=outputs)


@case("Gather")
def _(draw, name, opset):
    shape = sizes(draw)
    axis = an_axis(draw, len(shape))
    size = shape[axis]
    low = 0 if opset < 11 else -size
    count = draw(st.integers(0, 3))
    indices = [draw(st.integers(low, size - 1)) for _ in range(max(1, count))]
    constants = {"i": np.array(indices if count else indices[0], dtype=draw(st.sampled_from([np.int32, np.int64])))}
    return model([node(name, ["x", "i"], axis=axis)], {"x": shape}, constants, opset=opset)


@case("Concat")
def _(draw, name, opset):
    shape = list(sizes(draw))
    axis = an_axis(draw, len(shape)) if opset >= 11 else draw(st.integers(0, len(shape) - 1))
    shapes, constants, reads = {"x": shape}, {}, ["x"]
    for part in draw(st.lists(st.sampled_from(["h", "x", "input", "constant"]), max_size=3)):
        other = list(shape)
        other[axis] = draw(st.integers(1, 3))
        label = f"p{len(reads)}"
        if part == "input":
            shapes[label] = other
        elif part == "constant":
            constants[label] = drawn_numbers(draw, *other)
        reads.append(part if part in ("h", "x") else label)
    nodes = [node("Relu", ["x"], ["h"]), node(name, draw(st.permutations(reads)), axis=axis)]
    return model(nodes, shapes, constants, opset=opset)


@case("Expand")
def _(draw, name, opset):
    shape = sizes(draw)
    wanted = [draw(st.integers(1, 3)) if size == 1 else size for size in shape]
    wanted = [draw(st.integers(1, 2)), *wanted] if draw(st.booleans()) else wanted
    constants = {"shape": np.array(wanted, dtype=np.int64)}
    return model([node(name, ["x", "shape"])], {"x": shape}, constants, opset=opset)


@case("Dropout", opsets=(8, 10, 12, 13, 21))
def _(draw, name, opset):
    return model([node(name, ["x"])], {"x": sizes(draw)}, opset=opset)


@case("Cast")
def _(draw, name, opset):
    target = draw(st.sampled_from([TensorProto.FLOAT, TensorProto.DOUBLE]))
    return model([node(name, ["x"], to=target)], {"x": sizes(draw)}, opset=opset, kinds={"y": target})


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_the_graph_computes_what_onnxruntime_computes(name, data, tmp_path):
    draw_model, opsets = CASES[name]
    assert_agree(draw_model(data.draw, name, data.draw(st.sampled_from(opsets))), tmp_path)
