"""Networks that divide: by numbers of the file, by counts, by roots. Everything against exact rationals."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from differential import exact_answer, float_answers, splits_are_right, z3_answer
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_models import model, node
from pysmt.fnode import FNode
from pysmt.shortcuts import And, Equals, Real, Solver
from small_queries import exact, inside_points, small_query, threshold_query, with_divisors

from exporters import graph_to_onnx, input_symbols, paired_chain, query_formula, read_onnx, run_onnx, shifted_chain
from exporters.forms.fused_affine import fuse_affine
from exporters.testing import inferred
from veriflow.errors import GraphError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.bounds.interval import interval_bounds
from veriflow.piecewise.evaluate import enclose_exact, evaluate
from veriflow.piecewise.graph import Affine, Divisor, Graph, Relu, with_rounded_quotients
from veriflow.piecewise.simplify import drop_dead_units, fold_stable_units, join_shifts
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.box import Box
from verify import Outcome, verify

F = Fraction


def ends(graph: Graph, point: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    low, high = enclose_exact(graph, point)
    return low[graph.output], high[graph.output]


# --- what files mean -------------------------------------------------------------------------------------------------


def chosen(rng: np.random.Generator, kind: int, *shape: int) -> np.ndarray:
    """Numbers with all the digits of the type."""
    values = rng.uniform(0.1, 3, shape) * rng.choice([-1, 1], shape)
    return values.astype(np.float32 if kind == TensorProto.FLOAT else np.float64)


def rationals(values: np.ndarray) -> np.ndarray:
    return np.array([F(v) for v in values.reshape(-1).tolist()], dtype=object).reshape(values.shape)


def mean(cells: list[Fraction]) -> Fraction:
    return sum(cells, F(0)) / len(cells)


def file_of(kind: int, folder: Path, nodes: list, shape: tuple, constants: dict, opset: int = 13) -> Graph:
    onnx.save(inferred(model(nodes, {"x": shape}, constants, kind=kind, opset=opset)), folder / "m.onnx")
    return read_onnx(folder / "m.onnx")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE], ids=["float", "double"])
@pytest.mark.parametrize("seed", range(4))
def test_quotients_and_means_are_exact(kind: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    x = rationals(chosen(rng, kind, 1, 2, 3, 5))
    point = x.reshape(-1).tolist()
    c = chosen(rng, kind, 2, 1, 5)
    graph = file_of(kind, tmp_path, [node("Div", ["x", "c"])], x.shape, {"c": c})
    assert ends(graph, point) == ((x / rationals(c)).reshape(-1).tolist(),) * 2

    graph = file_of(kind, tmp_path, [node("ReduceMean", ["x"], axes=[1, 3], keepdims=0)], x.shape, {})
    assert ends(graph, point)[0] == [mean([x[0, i, r, j] for i in range(2) for j in range(5)]) for r in range(3)]

    graph = file_of(kind, tmp_path, [node("GlobalAveragePool", ["x"])], x.shape, {})
    assert ends(graph, point)[0] == [mean(x[0, i].reshape(-1).tolist()) for i in range(2)]

    for padded in (0, 1):
        pool = node("AveragePool", ["x"], kernel_shape=[2, 3], pads=[1, 1, 0, 1], count_include_pad=padded)
        graph = file_of(kind, tmp_path, [pool], x.shape, {})
        want = []
        for i, r, j in itertools.product(range(2), range(3), range(5)):
            cells = [(a, b) for a in (r - 1, r) for b in (j - 1, j, j + 1)]
            inside = [x[0, i, a, b] for a, b in cells if 0 <= a < 3 and 0 <= b < 5]
            want.append(sum(inside, F(0)) / (6 if padded else len(inside)))
        assert ends(graph, point) == (want, want)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE], ids=["float", "double"])
@pytest.mark.parametrize("seed", range(4))
def test_products_of_constants_are_exact(kind: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    x, b = rationals(chosen(rng, kind, 1, 4)), chosen(rng, kind, 4, 3)
    c, d, e = chosen(rng, kind, 3), chosen(rng, kind, 3), chosen(rng, kind, 3)
    alpha, beta, slope = (F(float(np.float32(v))) for v in (0.3, 1.7, 0.1))
    nodes = [
        node("Gemm", ["x", "b", "c"], ["g"], alpha=0.3, beta=1.7),
        node("Mul", ["g", "d"], ["m"]),
        node("Mul", ["m", "e"], ["n"]),
        node("Div", ["n", "d"], ["q"]),
        node("LeakyRelu", ["q"], alpha=0.1),
    ]
    graph = file_of(kind, tmp_path, nodes, x.shape, {"b": b, "c": c, "d": d, "e": e})
    rows = alpha * (x @ rationals(b))[0] + beta * rationals(c)
    want = [v if v > 0 else slope * v for v in (rows * rationals(e)).tolist()]
    assert ends(graph, x.reshape(-1).tolist()) == (want, want)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE], ids=["float", "double"])
@pytest.mark.parametrize("seed", range(6))
def test_normalisations_are_enclosed_by_neighbouring_floats(kind: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    x = rationals(chosen(rng, kind, 1, 3, 2))
    scale, shift, centre = (chosen(rng, kind, 3) for _ in range(3))
    variance = np.abs(chosen(rng, kind, 3))
    names = dict(zip("sbmv", (scale, shift, centre, variance), strict=True))
    graph = file_of(kind, tmp_path, [node("BatchNormalization", ["x", *names], epsilon=1e-3)], x.shape, names)
    low, high = ends(graph, x.reshape(-1).tolist())
    with localcontext(prec=80):
        for k, (i, j) in enumerate(itertools.product(range(3), range(2))):
            square = F(float(variance[i])) + F(float(np.float32(1e-3)))
            root = F((Decimal(square.numerator) / Decimal(square.denominator)).sqrt())
            product = F(float(scale[i])) * (x[0, i, j] - F(float(centre[i])))
            want = product / root + F(float(shift[i]))
            assert low[k] < want < high[k]
            assert high[k] - low[k] <= F(2.0**-51) * abs(product / root)


def test_roots_that_are_floats_are_exact(tmp_path: Path) -> None:
    names = {"s": np.ones(1), "b": np.zeros(1), "m": np.zeros(1), "v": np.array([2.25])}
    graph = file_of(
        TensorProto.DOUBLE, tmp_path, [node("BatchNormalization", ["x", *names], epsilon=0.0)], (1, 1, 1), names
    )
    assert graph.is_exact
    assert ends(graph, [F(1)]) == ([F(2, 3)], [F(2, 3)])


@given(st.fractions(min_value=F(1, 10**12)).filter(lambda v: v < 10**12), st.integers(-500, 500))
def test_roots_lie_between_the_ends(square: Fraction, power: int) -> None:
    square *= F(2) ** power
    found = Divisor.roots([square, square * square]) if abs(power) < 250 else Divisor.roots([square, F(4)])
    (low, _), (high, _) = found.low.tolist(), found.high.tolist()
    assert F(low) ** 2 <= square <= F(high) ** 2
    assert high == low if F(low) ** 2 == square else high == math.nextafter(low, math.inf)


@pytest.mark.parametrize(
    ("divisors", "message"),
    [([0.0], "divisors that are positive"), ([-1.0], "positive"), ([math.nan], "positive"), ([1.0, 2.0], "1 divisors")],
)
def test_divisors_that_are_none_are_refused(divisors: list[float], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Affine("y", (("x", np.ones((1, 1))),), np.zeros(1), Divisor.of(np.array(divisors)))


@pytest.mark.parametrize("divisor", [1e-300, 1e300])
def test_quotients_that_leave_the_floats_are_refused(divisor: float) -> None:
    weight = np.array([[1e10 if divisor < 1 else 1e-10]])
    with pytest.raises(GraphError, match="expected quotients from 1e-307 to 1e308; got others in 'y'"):
        Affine("y", (("x", weight),), np.zeros(1), Divisor.of(np.array([divisor])))


# --- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["box", "L1 ball", "Linf shell"])
@pytest.mark.parametrize("roots", [False, True], ids=["numbers", "roots"])
def test_bounds_and_smaller_graphs_hold_exactly(region: str, roots: bool) -> None:
    query = with_divisors(small_query(region, "largest"), 3, roots=roots)
    graph, points = query.graph, inside_points(query.region, np.random.default_rng(1), 15)
    tensors = {name for name in graph.sizes if name != graph.input}
    every = [interval_bounds(graph, query.region), symbolic_bounds(graph, query.region)]
    fused, deviations = fuse_affine(graph, every[1])
    stable = {
        relu.output: np.where(
            every[1].lower[relu.input] >= 0, 1, np.where(every[1].upper[relu.input] <= 0, -1, 0)
        ).astype(np.int8)
        for relu in graph.relus
    }
    same = [join_shifts(graph), drop_dead_units(graph), fold_stable_units(graph, stable)]
    assert all(node.divisor is None for node in fused.nodes if isinstance(node, Affine))
    values = evaluate(graph, torch.from_numpy(np.stack(points)))
    for k, point in enumerate(map(exact, points)):
        low, high = enclose_exact(graph, point)
        for name in tensors:
            for i, (least, most) in enumerate(zip(low[name], high[name], strict=True)):
                assert all(F(b.lower[name][i]) <= least <= most <= F(b.upper[name][i]) for b in every)
                assert float(values[name][k, i]) == pytest.approx(float(least), rel=1e-12, abs=1e-13)
        for other in same:
            pairs = zip(low[graph.output], high[graph.output], *ends(other, point), strict=True)
            assert all(a <= d and c <= b if roots else a == b == c == d for a, b, c, d in pairs)
        rounded = enclose_exact(fused, point)[0]
        for name in set(fused.sizes) - {graph.input}:
            for i, off in enumerate(deviations[name].tolist()):
                assert max(abs(rounded[name][i] - low[name][i]), abs(rounded[name][i] - high[name][i])) <= F(off)


def test_chains_have_the_quotients() -> None:
    query = with_divisors(small_query("box", "largest"), 3)
    box = Box(-np.ones(3), np.ones(3))
    want = with_rounded_quotients(query.graph)
    for point in map(exact, inside_points(box, np.random.default_rng(1), 5)):
        assert (
            ends(shifted_chain(query.graph, box), point) == ends(want, point) == ends(paired_chain(query.graph), point)
        )


def test_a_shift_behind_a_quotient_stays_apart() -> None:
    one = np.ones((1, 1))
    nodes = (
        Affine("a", (("x", one),), np.zeros(1), Divisor.of(np.array([3.0]))),
        *Graph("a", 1, (Affine("b", (("a", one),), np.ones(1)), Relu("h", "b")), "h").nodes,
    )
    assert ends(join_shifts(Graph("x", 1, nodes, "h")), [F(1)])[0] == [F(4, 3)]


@pytest.mark.parametrize("roots", [False, True], ids=["numbers", "roots"])
def test_files_hold_the_quotients_in_double(roots: bool) -> None:
    query = with_divisors(small_query("box", "largest"), 5, roots=roots)
    points = np.stack(inside_points(query.region, np.random.default_rng(1), 10))
    got = run_onnx(graph_to_onnx(query.graph), points)
    for row, point in zip(got, map(exact, points), strict=True):
        want = [float(v) for v in ends(query.graph, point)[0]]
        assert row == pytest.approx(want, rel=1e-12, abs=1e-13)


# --- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_engines_agree_with_enumeration(seed: int) -> None:
    query = with_divisors(threshold_query(seed), seed)
    truth = exact_answer(query)
    assert z3_answer(query) is truth
    assert {verdict.outcome for verdict in float_answers(query, attack=seed % 2 == 0).values()} <= {
        truth,
        Outcome.UNKNOWN,
    }
    assert splits_are_right(query, truth)


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_where_roots_are_enclosed(seed: int) -> None:
    query = with_divisors(threshold_query(seed), seed, roots=True)
    nearest = tuple(
        Affine(n.output, n.terms, n.bias, Divisor.of(n.divisor.low)) if isinstance(n, Affine) and n.divisor else n
        for n in query.graph.nodes
    )
    truth = exact_answer(Query(Graph(query.graph.input, query.graph.input_size, nearest, query.graph.output),
                               query.region, query.violation, query.text, query.data))  # fmt: skip
    assert z3_answer(query) is truth
    assert {verdict.outcome for verdict in float_answers(query).values()} <= {truth, Outcome.UNKNOWN}


def is_met(formula: FNode, *more: FNode) -> bool:
    with Solver(name="z3", logic="QF_LRA") as solver:
        solver.add_assertion(And(formula, *more))
        return bool(solver.solve())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("roots", [False, True], ids=["numbers", "roots"])
def test_formulas_know_points(seed: int, roots: bool) -> None:
    """With its input fixed, the formula is satisfiable where the exact outputs violate the property."""
    query = with_divisors(threshold_query(seed), 7, roots=roots)
    formula = query_formula(query, symbolic_bounds(query.graph, query.region))
    for point in map(exact, inside_points(query.region, np.random.default_rng(3), 3)):
        fixed = [Equals(symbol, Real(v)) for symbol, v in zip(input_symbols(query), point, strict=True)]
        assert is_met(formula, *fixed) == query.violated_by(*ends(query.graph, point))


def tie(divisor: Divisor, most: float, bound: float = 1.0) -> Query:
    """x / s on [0, most], and the question whether it gets to the bound."""
    graph = Graph("x", 1, (Affine("y", (("x", np.ones((1, 1))),), np.zeros(1), divisor),), "y")
    row = Constraint(((0, F(1)),), F(bound))
    return Query(graph, Box(np.zeros(1), np.array([most])), ((row,),), "y[0] < bound", "x")


def test_a_formula_without_bounds_knows_the_enclosure_of_a_root() -> None:
    two, (x,) = Divisor.roots([F(2)]), input_symbols(tie(Divisor.roots([F(2)]), 2.0))
    for bound in (1.0, -1.0):
        query = tie(two, 2.0, bound)
        if bound < 0:
            query = replace(
                query, region=Box(-2 * np.ones(1), np.zeros(1)), violation=((Constraint(((0, F(-1)),), F(1)),),)
            )
        for value, want in ((two.low[0], True), (np.nextafter(two.low[0], 0), False), (two.high[0], True)):
            point = Real(F(float(value)) * int(bound))
            assert is_met(query_formula(query), Equals(x, point)) is want


@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
def test_an_answer_within_the_enclosure_of_a_root_is_unknown(engine: str) -> None:
    two = Divisor.roots([F(2)])
    above = float(np.nextafter(np.float32(2**0.5), np.float32(2)))
    assert verify(tie(two, float(two.low[0])), engine, timeout=600).outcome is Outcome.UNKNOWN
    assert verify(tie(two, above), engine, timeout=600).outcome is Outcome.VIOLATED
    assert verify(tie(two, 1.414), engine, timeout=600).outcome is Outcome.HOLDS


@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
def test_a_violation_beside_the_enclosure_is_found(engine: str) -> None:
    assert verify(tie(Divisor.roots([F(2)]), 1.5), engine, timeout=600).outcome is Outcome.VIOLATED


@pytest.mark.parametrize("engine", ["bab", "milp", "smt"])
def test_a_third_of_three_is_one(engine: str) -> None:
    third = Divisor.of(np.array([3.0]))
    assert verify(tie(third, 3.0), engine, timeout=600).outcome is Outcome.VIOLATED
    above = verify(tie(third, 3.0, float(np.nextafter(1.0, 2.0))), engine, timeout=600).outcome
    assert above is (Outcome.HOLDS if engine == "smt" else Outcome.UNKNOWN)
