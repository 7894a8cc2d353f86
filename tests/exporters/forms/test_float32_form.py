"""What tools that read float32 alone are given of other networks: rounded constants, and every violation still there."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_queries import PROPERTIES, exact, inside_points, small_query, with_divisors

from exporters import FORMS, PortableForm, portable_form, read_onnx, run_onnx, write_bundle
from exporters.forms.float32_form import in_float32, is_float32
from veriflow.errors import GraphError
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import enclose_exact, evaluate_exact
from veriflow.piecewise.graph import Affine, Graph
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.box import Box


def is_met(form: PortableForm, outputs: list[Fraction]) -> bool:
    def right(bound: Fraction | int) -> Fraction:
        return bound if isinstance(bound, Fraction) else outputs[bound]

    return any(
        all((outputs[c.output] - right(c.bound)) * (1 if c.sign == ">=" else -1) >= 0 for c in row)
        for row in form.disjuncts
    )


@pytest.mark.parametrize("region", ["box", "L1 ball", "Linf shell"])
@pytest.mark.parametrize("roots", [False, True], ids=["numbers", "roots"])
def test_outputs_are_off_by_no_more_than_is_said(region: str, roots: bool) -> None:
    query = with_divisors(small_query(region, "largest"), 2, roots=roots)
    near, off = in_float32(query.graph, symbolic_bounds(query.graph, query.region))
    assert is_float32(near) and not is_float32(query.graph)
    assert (off < 1e-5).all()
    for point in map(exact, inside_points(query.region, np.random.default_rng(0), 30)):
        found = evaluate_exact(near, point)[near.output]
        for ends in enclose_exact(query.graph, point):
            gaps = [abs(a - b) for a, b in zip(found, ends[query.graph.output], strict=True)]
            assert all(gap <= Fraction(most) for gap, most in zip(gaps, off.tolist(), strict=True))
            assert any(gaps)


@pytest.mark.parametrize("prop", PROPERTIES)
def test_no_violation_is_lost(prop: str) -> None:
    answers = set()
    for region, seed in itertools.product(("box", "L1 ball", "Linf shell"), range(4)):
        query = with_divisors(small_query(region, prop, seed), seed)
        form = portable_form(query)
        assert is_float32(form.graph) and form.precise is not None and 0 < form.deviation < 1e-5
        for point in map(exact, inside_points(query.region, np.random.default_rng(0), 15)):
            violated = query.violated_by(evaluate_exact(query.graph, point)[query.graph.output])
            met = is_met(form, evaluate_exact(form.graph, point)[form.graph.output])
            assert met or not violated
            answers |= {met, violated}
    assert answers == {False, True}


@pytest.mark.parametrize("weight", [1 / 3, 0.1, 0.7])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_tie_that_rounding_moves_is_still_a_violation(weight: float, sign: int) -> None:
    graph, box = line(weight), Box(np.zeros(1), np.ones(1))
    row = Constraint(((0, Fraction(sign)),), sign * Fraction(weight))
    form = portable_form(Query(graph, box, ((row,),), "a tie", "x"))
    assert is_met(form, evaluate_exact(form.graph, [Fraction(1)])[form.graph.output])


def test_float32_networks_stay_as_they_are() -> None:
    query = small_query("box", "largest")
    form = portable_form(query)
    assert form.graph is query.graph and form.precise is None and form.deviation == 0


def test_constants_beyond_float32_are_refused() -> None:
    graph = line(1e100)
    with pytest.raises(GraphError, match="range of float32; got larger ones in 'y'"):
        in_float32(graph, symbolic_bounds(graph, Box(np.zeros(1), np.ones(1))))


def line(weight: float) -> Graph:
    return Graph("x", 1, (Affine("y", (("x", np.array([[weight]])),), np.zeros(1)),), "y")


@pytest.mark.parametrize("roots", [False, True], ids=["numbers", "roots"])
def test_bundles_of_float64_networks_have_every_form(roots: bool, tmp_path: Path) -> None:
    query = with_divisors(small_query("L1 ball", "mixed"), 2, roots=roots)
    folder = write_bundle(tmp_path / "b", {"q": query}, forms=tuple(FORMS))
    entry = json.loads((folder / "manifest.json").read_text())["queries"]["q"]
    assert 0 < entry["float32_deviation"] < 1e-5
    kinds = {}
    for form, file in entry["files"].items():
        if file["path"].endswith(".onnx"):
            kinds[form] = onnx.load(folder / file["path"]).graph.initializer[0].data_type
    assert {form for form, kind in kinds.items() if kind == TensorProto.DOUBLE} == {"double"}
    assert {"onnx", "chain", "pair", "double"} <= set(kinds)
    points = np.stack(inside_points(query.region, np.random.default_rng(1), 5))
    double = read_onnx(folder / entry["files"]["double"]["path"])
    for point, seen in zip(points, run_onnx(folder / entry["files"]["double"]["path"], points), strict=True):
        exactly = [float(v) for v in evaluate_exact(query.graph, exact(point))[query.graph.output]]
        assert seen[:3] == pytest.approx(exactly, rel=1e-13, abs=1e-14)
        assert [float(v) for v in evaluate_exact(double, exact(point))[double.output]][:3] == pytest.approx(
            exactly, rel=1e-14
        )
