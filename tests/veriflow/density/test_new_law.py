"""A law of the norm that somebody adds: a class and an entry of the table, and all that takes laws takes it."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from veriflow.density.box_masses import box_masses
from veriflow.density.mixtures import MixtureLaw, norm_law_from_config
from veriflow.density.norm_laws import SimpleLaw, non_negative, profile_outside
from veriflow.density.radial import RadialBase
from veriflow.density.simple_laws import LAWS, GammaLaw
from veriflow.errors import ModelError, StorageError
from veriflow.files.sealed import save_tensors
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import load_flow, save_flow
from veriflow.testing import check_norm_law
from veriflow.training.recalibration import recalibrate


class LomaxLaw(SimpleLaw):
    """P(R > r) = (1 + r/scale)^(−tail), the scale learned, the tail fixed: g falls with r, in every dimension."""

    kind = "lomax"
    learned = ("scale",)
    fixed = ("tail",)
    log_scale: nn.Parameter
    tail: Tensor

    def __init__(self, dim, scale=1.0, tail=2.0):
        super().__init__(dim, scale=scale, tail=tail)

    @override
    def log_profile(self, r):
        ordinary = (r > 0) & (r < math.inf)
        at = torch.where(ordinary, r, 1.0)
        tail, log_scale = self.tail.to(r), self.log_scale.to(r)
        value = tail.log() - log_scale - (tail + 1) * torch.log1p(at * torch.exp(-log_scale))
        value = value - torch.xlogy(torch.tensor(self.dim - 1.0).to(r), at)
        centre = tail.log() - log_scale if self.dim == 1 else torch.full_like(r, math.inf)
        return torch.where(ordinary, value, torch.where(r == 0, centre, profile_outside(r)))

    @override
    def sample(self, shape):
        with torch.no_grad():
            return self.log_scale.exp() * torch.expm1(-torch.log(torch.rand(shape)) / self.tail)

    @override
    def _log_tail(self, r):
        return -self.tail.item() * np.log1p(non_negative(r) / math.exp(self.log_scale.item()))

    @override
    def cdf(self, r):
        return -np.expm1(self._log_tail(r))

    @override
    def sf(self, r):
        return np.exp(self._log_tail(r))

    @override
    def rescale(self, factor):
        with torch.no_grad():
            self.log_scale.add_(math.log(factor))

    @override
    def _inverse(self, lower, upper):
        with np.errstate(divide="ignore"):
            log_tail = np.where(lower <= upper, np.log1p(-lower), np.log(upper))
        return math.exp(self.log_scale.item()) * np.expm1(-log_tail / self.tail.item())

    @override
    def profile_modes(self):
        return np.zeros(1)

    @override
    def coordinate_measure(self, p):
        return partial(_signed_masses, self) if self.dim == 1 else None


def _signed_masses(law, lower, upper):
    """In one dimension z is the norm or its negative, with equal probability."""
    return (np.sign(upper) * law.cdf(np.abs(upper)) - np.sign(lower) * law.cdf(np.abs(lower))) / 2


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch):
    monkeypatch.setitem(LAWS, LomaxLaw.kind, LomaxLaw)


def flow_of(law, p=1):
    torch.manual_seed(0)
    return USFlow(law.dim, blocks=1, hidden=(4,), base=RadialBase(p, law))


LOMAXES = {
    "alone": lambda: LomaxLaw(3, 0.7, 4.0),
    "mixed": lambda: MixtureLaw([LomaxLaw(3, 0.7, 4.0), LomaxLaw(3, 2.0, 3.0), GammaLaw(3)]),
}
every_lomax = pytest.mark.parametrize("law", LOMAXES.values(), ids=list(LOMAXES))


@every_lomax
def test_it_obeys_what_the_kit_asks_of_every_law(law):
    check_norm_law(law())


@every_lomax
def test_flows_over_it_have_level_sets_scores_and_samples(law):
    flow = flow_of(law())
    level = flow.level_set(0.6)
    assert level.is_ball
    assert float(flow.base.law.cdf(level.radius)) == pytest.approx(0.6, abs=1e-9)
    x = flow.sample((4000,))
    scores = flow.score(x)
    assert float(level.contains(x).double().mean()) == pytest.approx(0.6, abs=0.04)
    assert ((scores <= 0.6) == level.contains(x)).double().mean() > 0.999
    assert (flow.log_tail_mass(x) <= 0).all()


@every_lomax
def test_flows_over_it_are_saved_and_loaded_bit_for_bit(law, tmp_path: Path):
    flow = flow_of(law())
    save_flow(flow, tmp_path / "flow")
    back = load_flow(tmp_path / "flow")
    x = flow.sample((20,))
    assert torch.equal(back.log_prob(x), flow.log_prob(x))
    assert back.config() == flow.config()
    assert repr(back) == repr(flow)


def test_it_is_scaled_to_other_rows():
    flow = flow_of(LomaxLaw(2, 1.0, 6.0))
    rows = flow.sample((2000,))
    radius = float(flow.base.law.quantile(0.5))
    recalibrate(flow, rows, 1.5 * rows[:500])
    assert float(flow.base.law.quantile(0.5)) == pytest.approx(1.5 * radius, rel=0.2)


def test_its_coordinates_have_masses_where_they_are_independent():
    law = LomaxLaw(1, 0.7, 4.0).double()
    lower, upper = np.array([[-1.0], [0.5], [-np.inf]]), np.array([[2.0], [0.8], [0.0]])
    expected = [(law.cdf(1.0) + law.cdf(2.0)) / 2, (law.cdf(0.8) - law.cdf(0.5)) / 2, 0.5]
    np.testing.assert_allclose(box_masses(RadialBase(1, law), lower, upper), expected, rtol=1e-12)


def forged(path: Path, law: dict[str, object], **tensors: Tensor) -> Path:
    flow = flow_of(LomaxLaw(3))
    config = {**flow.config(), "base": {"p": 1, "law": law}}
    save_tensors(path, "flow", config, {**flow.state_dict(), **tensors})
    return path


@pytest.mark.parametrize(
    ("law", "tensors", "reason"),
    [
        ({"law": "lomax", "tail": -1.0}, {}, "'tail' is -1.0, not a number from 0"),
        ({"law": "lomax", "tail": 0}, {}, "expected a positive tail; got 0"),
        ({"law": "lomax", "tail": "2"}, {}, "'tail' is '2', not a number from 0"),
        ({"law": "lomax"}, {}, "no 'tail'"),
        ({"law": "lomax", "tail": 2.0, "scale": 1.0}, {}, "an unknown 'scale'"),
        ({"law": "lomax", "tail": 2.0}, {"base.law.tail": torch.tensor(-2.0)}, "has a tail that is not positive"),
        ({"law": "lomax", "tail": 2.0}, {"base.law.log_scale": torch.tensor(31.0)}, "has logarithms beyond 30"),
        ({"law": "lomaks", "tail": 2.0}, {}, "none of mixture, gamma, chi, weibull, lognormal, ball, lomax"),
    ],
)
def test_bad_parameters_of_it_are_refused(tmp_path: Path, law, tensors, reason):
    with pytest.raises(StorageError) as caught:
        load_flow(forged(tmp_path / "flow", law, **tensors))
    assert str(caught.value).startswith("expected a flow in")
    assert reason in str(caught.value)


@pytest.mark.parametrize("build", [lambda: LomaxLaw(2, tail=0.0), lambda: LomaxLaw(2, scale=math.inf)])
def test_parameters_out_of_range_are_refused(build):
    with pytest.raises(ModelError, match="expected a positive"):
        build()


def test_outside_of_the_table_it_is_unknown(tmp_path: Path, monkeypatch):
    save_flow(flow_of(LomaxLaw(3)), tmp_path / "flow")
    monkeypatch.delitem(LAWS, LomaxLaw.kind)
    with pytest.raises(StorageError, match="a law of the norm that is none of mixture, gamma"):
        load_flow(tmp_path / "flow")
    with pytest.raises(ModelError, match="expected the configuration of a norm law"):
        norm_law_from_config(LomaxLaw(3).config(), 3)
