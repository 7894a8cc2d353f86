"""Random ONNX networks full of divisions, means, normalisations and standardisations, and what they compute in rationals.

Nothing here knows how files are read: every layer states its ONNX nodes, and beside them what the ONNX operators are
defined to do, as a map of linear forms of the input. A root √(var + ε) of a batch normalisation is known between two
rationals that differ in the 60th digit; `Network.at` takes one end for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from veriflow.testing.enumeration import Form, Row, feasible_point

Layer = Callable[[list[Form], bool], list[Form]]
"""From forms to forms; the flag takes the greater end of roots."""

DIGITS = 10**60


@dataclass
class Network:
    """A file under construction, its tensor of shape ``[1, width]``, and the exact layers; a float is a leaky ReLU's slope."""

    rng: np.random.Generator
    kind: int
    width: int
    inputs: int = field(init=False)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    layers: list[Layer | Fraction] = field(default_factory=list)
    last: str = "x"
    has_roots: bool = False

    def __post_init__(self) -> None:
        self.inputs = self.width

    @property
    def dtype(self) -> type[np.floating]:
        """Of the file's numbers."""
        return np.float64 if self.kind == TensorProto.DOUBLE else np.float32

    def model(self) -> onnx.ModelProto:
        """The file."""
        ends = [
            helper.make_tensor_value_info(name, self.kind, [1, size])
            for name, size in (("x", self.inputs), (self.last, self.width))
        ]
        graph = helper.make_graph(self.nodes, "network", ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    def at(self, point: list[Fraction], *, greater: bool = False) -> list[Fraction]:
        """The outputs at a point."""
        forms: list[Form] = [(value,) for value in point]
        for layer in self.layers:
            if isinstance(layer, Fraction):
                forms = [form if form[0] >= 0 else (layer * form[0],) for form in forms]
            else:
                forms = layer(forms, greater)
        return [form[0] for form in forms]

    def reaches(self, rows: list[Row], level: Fraction, *, strict: bool, greater: bool = False) -> bool:
        """Whether the first output is ≥ the level (> where strict) at a point that meets the rows."""
        size = self.inputs
        forms = [tuple(Fraction(int(i == j)) for j in range(size + 1)) for i in range(size)]
        return self._reaches(forms, 0, rows, level, strict, greater)

    def _reaches(
        self, forms: list[Form], place: int, rows: list[Row], level: Fraction, strict: bool, greater: bool
    ) -> bool:
        for number, layer in enumerate(self.layers[place:], start=place):
            if isinstance(layer, Fraction):
                return any(
                    self._reaches(found, number + 1, within, level, strict, greater)
                    for found, within in self._phases(forms, layer, rows)
                )
            forms = layer(forms, greater)
        wanted = (*(-c for c in forms[0][:-1]), level - forms[0][-1])
        return feasible_point([*rows, (wanted, strict)], self.inputs) is not None

    def _phases(self, forms: list[Form], slope: Fraction, rows: list[Row]) -> list[tuple[list[Form], list[Row]]]:
        found: list[tuple[list[Form], list[Row]]] = [([], rows)]
        for form in forms:
            negated = tuple(-c for c in form)
            found = [
                ([*done, passed], [*within, (sign, False)])
                for done, within in found
                for passed, sign in ((form, negated), (tuple(slope * c for c in form), form))
                if feasible_point([*within, (sign, False)], self.inputs) is not None
            ]
        return found

    def node(self, operator: str, *inputs: str, **attributes: object) -> None:
        """Append a node that reads the last tensor where an input is ``""``."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [i or self.last for i in inputs], [name], name, **attributes))
        self.last = name

    def constant(self, values: NDArray[np.floating] | NDArray[np.int64]) -> str:
        """The name of a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def numbers(self, *shape: int, positive: bool = False) -> NDArray[np.floating]:
        """Whole, decimal or full numbers of several sizes, none of them zero."""
        rng = self.rng
        style = rng.integers(5)
        found = rng.standard_normal(shape) + np.where(rng.random(shape) < 0.5, -0.1, 0.1)
        if style == 0:
            found = rng.integers(1, 30, shape) * rng.choice([-1.0, 1.0], shape)
        elif style == 1:
            found = np.round(found, 1) + 0.7
        elif style == 2:
            found = found * 10.0 ** rng.integers(-6, 7)
        found = np.where(found == 0, 0.3, found).astype(self.dtype)
        return np.abs(found) if positive else found


def exact(values: NDArray[np.floating]) -> list[Fraction]:
    """The numbers of a flat array."""
    return [Fraction(float(v)) for v in values.reshape(-1)]


def total(forms: list[Form], factors: list[Fraction], bias: Fraction = Fraction(0)) -> Form:
    """Σ factor · form + bias."""
    summed = [
        sum((f * form[i] for f, form in zip(factors, forms, strict=True)), Fraction(0)) for i in range(len(forms[0]))
    ]
    summed[-1] += bias
    return tuple(summed)


def scaled(forms: list[Form], factors: list[Fraction], shifts: list[Fraction]) -> list[Form]:
    """Factor · form + shift, entry by entry."""
    return [total([form], [factor], shift) for form, factor, shift in zip(forms, factors, shifts, strict=True)]


def dense(net: Network) -> None:
    """Gemm with its scalars, or MatMul and Add."""
    size = int(net.rng.integers(1, 4))
    weight, bias = net.numbers(size, net.width) / net.dtype(2), net.numbers(size)
    alpha = beta = Fraction(1)
    if net.rng.random() < 0.5:
        alpha, beta = (Fraction(float(np.float32(v))) for v in net.rng.choice([0.1, 1.0, 3.0, 0.7], 2))
        transposed = bool(net.rng.integers(2))
        given = weight if transposed else np.ascontiguousarray(weight.T)
        names = net.constant(given), net.constant(bias)
        net.node("Gemm", "", *names, alpha=float(alpha), beta=float(beta), transB=int(transposed))
    else:
        net.node("MatMul", "", net.constant(np.ascontiguousarray(weight.T)))
        net.node("Add", "", net.constant(bias))
    rows, shifts = [exact(row) for row in weight], exact(bias)
    net.layers.append(
        lambda forms, _: [total(forms, [alpha * w for w in row], beta * b) for row, b in zip(rows, shifts, strict=True)]
    )
    net.width = size


def division(net: Network) -> None:
    """Div by a constant for each entry, or by one for all."""
    divisors = net.numbers(1, net.width) if net.rng.random() < 0.5 else net.numbers(1)
    net.node("Div", "", net.constant(divisors))
    factors = [1 / d for d in exact(np.broadcast_to(divisors, (1, net.width)))]
    net.layers.append(lambda forms, _: scaled(forms, factors, [Fraction(0)] * len(forms)))


def product(net: Network) -> None:
    """Mul by a constant and Sub from one."""
    factors, start = net.numbers(1, net.width), net.numbers(1, net.width)
    net.node("Mul", net.constant(factors), "")
    net.node("Sub", net.constant(start), "")
    f, s = exact(factors), exact(start)
    net.layers.append(lambda forms, _: scaled(forms, [-v for v in f], s))


def standardisation(net: Network) -> None:
    """(x − mean) / deviation."""
    mean, deviation = net.numbers(1, net.width), net.numbers(1, net.width, positive=True)
    net.node("Sub", "", net.constant(mean))
    net.node("Div", "", net.constant(deviation))
    m, d = exact(mean), exact(deviation)
    net.layers.append(lambda forms, _: scaled(forms, [1 / v for v in d], [-a / b for a, b in zip(m, d, strict=True)]))


def batch_normalisation(net: Network) -> None:
    """scale · (x − mean) / √(var + ε) + bias, often with a variance whose root is a whole number."""
    scale, bias, mean = net.numbers(net.width), net.numbers(net.width), net.numbers(net.width)
    epsilon = net.rng.choice([1e-3, 1e-5, 0.0])
    variance = net.numbers(net.width, positive=True)
    if net.rng.random() < 0.5:
        variance = (net.rng.integers(1, 6, net.width) ** 2 - epsilon).astype(net.dtype)
    names = [net.constant(v) for v in (scale, bias, mean, variance)]
    net.node("BatchNormalization", "", *names, epsilon=float(epsilon))
    roots = [root(v + Fraction(float(np.float32(epsilon)))) for v in exact(variance)]
    net.has_roots |= any(low != high for low, high in roots)
    s, b, m = exact(scale), exact(bias), exact(mean)

    def layer(forms: list[Form], greater: bool) -> list[Form]:
        factors = [v / ends[greater] for v, ends in zip(s, roots, strict=True)]
        return scaled(forms, factors, [v - f * w for v, f, w in zip(b, factors, m, strict=True)])

    net.layers.append(layer)


def root(value: Fraction) -> tuple[Fraction, Fraction]:
    """Rationals around the square root, equal where it is one."""
    low = Fraction(math.isqrt(value.numerator * value.denominator * DIGITS**2), value.denominator * DIGITS)
    return (low, low) if low * low == value else (low, low + Fraction(1, value.denominator * DIGITS))


def mean(net: Network) -> None:
    """ReduceMean of everything, kept as one entry."""
    net.node("ReduceMean", "", axes=[1], keepdims=1)
    size = net.width
    net.layers.append(lambda forms, _: [total(forms, [Fraction(1, size)] * size)])
    net.width = 1


def centring(net: Network) -> None:
    """x − mean of x."""
    before, size = net.last, net.width
    net.node("ReduceMean", "", axes=[1], keepdims=1)
    net.node("Sub", before, "")
    net.layers.append(
        lambda forms, _: [
            total(forms, [Fraction(int(i == j)) - Fraction(1, size) for j in range(size)]) for i in range(size)
        ]
    )


def pooling(net: Network) -> None:
    """AveragePool along the entries, with padding that counts or does not."""
    kernel, pad = min(int(net.rng.integers(2, 4)), net.width), int(net.rng.integers(0, 2))
    counted = bool(net.rng.integers(2))
    size = net.width
    net.node("Reshape", "", net.constant(np.array([1, 1, size])))
    net.node("AveragePool", "", kernel_shape=[kernel], pads=[pad, pad], count_include_pad=int(counted))
    windows = [
        [i for i in range(s - pad, s - pad + kernel) if 0 <= i < size] for s in range(size + 2 * pad - kernel + 1)
    ]
    net.width = len(windows)
    net.node("Reshape", "", net.constant(np.array([1, net.width])))

    def layer(forms: list[Form], _: bool) -> list[Form]:
        share = [Fraction(1, kernel if counted else len(window)) for window in windows]
        return [total([forms[i] for i in w], [f] * len(w)) for w, f in zip(windows, share, strict=True)]

    net.layers.append(layer)


def rectifier(net: Network) -> None:
    """Relu or LeakyRelu."""
    slope = Fraction(0)
    if net.rng.random() < 0.3:
        slope = Fraction(float(np.float32(0.1)))
        net.node("LeakyRelu", "", alpha=float(slope))
    else:
        net.node("Relu", "")
    net.layers.append(slope)


LINEAR = (dense, division, product, standardisation, batch_normalisation, mean, centring, pooling)


def random_network(seed: int) -> Network:
    """Two to five linear layers with one or two rectifiers among them, in double or float."""
    rng = np.random.default_rng(seed)
    net = Network(rng, TensorProto.DOUBLE if rng.random() < 0.7 else TensorProto.FLOAT, int(rng.integers(1, 4)))
    for stage in range(int(rng.integers(1, 4))):
        if stage:
            rectifier(net)
        for _ in range(int(rng.integers(1, 3))):
            chosen = LINEAR[rng.integers(len(LINEAR))]
            if chosen in (mean, pooling, centring) and net.width == 1:
                chosen = dense
            chosen(net)
    return net
