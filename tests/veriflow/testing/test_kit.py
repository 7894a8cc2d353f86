"""The test-kit lets pass what is right, and says in a sentence what is wrong."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import model, node

from exporters.onnx.operators import table
from veriflow.density.radial import make_base
from veriflow.density.simple_laws import GammaLaw
from veriflow.extending import Bounds, Claim, ExternalTool, interval_bounds, symbolic_bounds
from veriflow.flows.bijections.affine import LU
from veriflow.flows.bijections.coupling import CouplingBlock
from veriflow.queries.properties import classified_as, confident, never_confident, output_between
from veriflow.testing import (
    check_base,
    check_bijection,
    check_bound,
    check_engine,
    check_norm_law,
    check_operator,
    check_property,
)
from verify import ENGINES, Outcome, Verdict
from verify.testing.tools import check_reading
from verify.tools.registry import ADAPTERS


@pytest.mark.parametrize("bound", [interval_bounds, symbolic_bounds], ids=lambda bound: bound.__name__)
def test_bounds_hold_at_exact_points(bound):
    check_bound(bound)


@pytest.mark.parametrize(
    ("prop", "outputs", "truth"),
    [
        (classified_as(0), 3, lambda y: y[0] > max(y[1:])),
        (classified_as(1, 0.5), 3, lambda y: y[1] - max(y[0], y[2]) > 0.5),
        (output_between(1, -1, 2), 2, lambda y: -1 <= y[1] <= 2),
        (confident(None, 1.0), 3, lambda y: sorted(y)[2] - sorted(y)[1] >= 1),
        (never_confident(1.0), 3, lambda y: sorted(y)[2] - sorted(y)[1] < 1),
    ],
    ids=lambda value: getattr(value, "text", None),
)
def test_properties_mean_what_plain_python_says(prop, outputs, truth):
    check_property(prop, outputs, truth)


@pytest.mark.parametrize("name", ["bab", "milp"])
def test_engines_are_right_where_the_truth_is_known(name):
    check_engine(name)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_output_that_holds_no_answer_is_unknown(kind):
    check_reading(ADAPTERS[kind](kind, Path("/none")))


def test_a_new_engine_runs_beside_others_in_a_process_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from veriflow.extending import ENGINES\n"
        "ENGINES['mine'] = replace(ENGINES['milp'], name='mine', registered_by='mine')\n"
    )
    (tmp_path / "script.py").write_text(
        "import mine\n"
        "import numpy as np\n"
        "from veriflow import Affine, Ball, Graph, formula_property, network_query, verify_with, y\n"
        "graph = Graph('x', 1, (Affine('y', (('x', np.array([[2.0]])),), np.zeros(1)),), 'y')\n"
        "query = network_query(graph, Ball(1, 1.0, 1), formula_property(y[0] < 3))\n"
        "answers = verify_with(query, ['mine', 'milp'], wait_for_all=True)\n"
        "print(*(f'{one.engine} {one.outcome}' for one in answers.each))\n"
    )
    run = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "mine holds milp holds\n"


class _TooLight(GammaLaw):
    """P(R ≤ r) of another scale than the density's."""

    def cdf(self, r):
        return super().cdf(0.9 * np.asarray(r))


class _ManyModes(GammaLaw):
    def profile_modes(self):
        return np.ones(1)


class _WrongVolume(LU):
    def logdet(self):
        return -super().logdet()


class _WrongBlock(CouplingBlock):
    """A graph of another function."""

    def residual_layers(self):
        return [(2 * weight, bias) for weight, bias in super().residual_layers()]


def _narrow(graph, region):
    found = symbolic_bounds(graph, region)
    middle = {name: (found.lower[name] + found.upper[name]) / 2 for name in found.lower}
    return Bounds(
        *({n: middle[n] + 0.9 * (side[n] - middle[n]) for n in middle} for side in (found.lower, found.upper))
    )


def _engine(decide):
    return replace(ENGINES["bab"], run=decide)


class _Credulous(ExternalTool):
    label = description = install = "a tool"

    def encode(self, query, folder, timeout):
        return [[self.program]]

    def parse(self, run, query, folder):
        return Claim("unsat" if "unsat" in run.output else "unknown")


def _without_bias(importer, operation):
    return importer.combine(operation, "", [(operation.tensor(), 1.0)], 0.0)


def _wrong_operator():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.OPERATORS, "Add", _without_bias)
        check_operator([model([node("Add", ["x", "c"])], {"x": (2,)}, {"c": np.ones(2)})])


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda: check_norm_law(_TooLight(3)), "the mass of an interval as the integral of the density"),
        (lambda: check_norm_law(_ManyModes(3)), "its one maximum"),
        (lambda: check_base(_moved(make_base("normal", 2))), "share of positive coordinates"),
        (lambda: check_bijection(_WrongVolume(3)), "the log-determinant that autograd finds"),
        (lambda: check_bijection(_WrongBlock(3, (4,), 0)), "what the forward graph should compute"),
        (lambda: check_property(classified_as(0), 3, lambda y: y[0] >= max(y[1:])), "to be True at y = "),
        (lambda: check_property(replace(output_between(0, 0, 1), of_logits=True), 2), "all greater by 1"),
        (_wrong_operator, "the numbers of 'y'"),
        (lambda: check_bound(_narrow), "bound on"),
        (lambda: check_bound(lambda graph, region: Bounds({}, {})), "bounds on every tensor"),
        (
            lambda: check_engine(_engine(lambda query, limits: Verdict(Outcome.HOLDS, "sure"))),
            "expected violated or unknown",
        ),
        (lambda: check_engine(_engine(lambda query, limits: Verdict(Outcome.UNKNOWN, "no idea"))), "to be decided"),
        (lambda: check_engine(_engine(_far_off)), "that replays in exact rationals; got "),
        (lambda: check_reading(_Credulous("a", Path("/none"))), "of the output 'satunsat'|with exit code 1"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(check, sentence):
    with pytest.raises(
        AssertionError, match=rf"expected .*{sentence}" if not sentence.startswith("expected") else sentence
    ):
        check()


def _moved(base):
    base.directions = lambda shape: type(base).directions(base, shape).abs()
    return base


def _far_off(query, limits):
    verdict = ENGINES["bab"].run(query, limits)
    far = (Fraction(99),) * query.region.dim
    return verdict if verdict.witness is None else replace(verdict, witness=replace(verdict.witness, point=far))


def test_an_operator_is_compared_with_what_is_given_for_it():
    doubled = [model([node("Add", ["x", "x"])], {"x": (2,)})]
    check_operator(doubled, lambda inputs: [2 * inputs[0]])
    with pytest.raises(AssertionError, match="the numbers of 'y'"):
        check_operator(doubled, lambda inputs: [3 * inputs[0]])
    assert isinstance(doubled[0], onnx.ModelProto)
