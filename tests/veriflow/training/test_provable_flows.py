"""Flows made for proving: the penalty's bounds are those of proofs, and what is cut, rounded and fitted anew stays a flow."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import veriflow.training.fit
import veriflow.training.objective
from veriflow import Ball, TrainingOptions, USFlow, compress, fit, load_flow, make_base, save_flow
from veriflow.density.mixtures import MixtureLaw
from veriflow.density.norm_laws import SimpleLaw
from veriflow.density.radial import RadialBase
from veriflow.density.simple_laws import GammaLaw, LogNormalLaw
from veriflow.errors import DataError, ModelError, TrainingError
from veriflow.flows.bijections.coupling import Conjugate, CouplingBlock
from veriflow.numerics.grids import grid_steps, on_grid
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.evaluate import evaluate
from veriflow.training.fit import split, tune
from veriflow.training.objective import Objective
from veriflow.training.proof_cost import longest_constant, proof_cost
from veriflow.training.recalibration import recalibrate
from veriflow.training.stability import MARGIN, Stability, hidden_bounds

STEPS = TrainingOptions(steps=300, batch_size=64, validate_every=20, learning_rate=5e-3)


def rings(rows: int = 400) -> np.ndarray:
    """A bent cloud in three dimensions, in unlike units."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2, rows)
    points = np.stack([np.cos(angle), np.sin(angle) ** 2, angle * rng.uniform(0.5, 1, rows)], axis=1)
    return (points + 0.05 * rng.standard_normal((rows, 3))) * [1, 30, 500] + [0, 100, -2]


def trained(options: TrainingOptions = STEPS, **shape: object) -> USFlow:
    torch.manual_seed(0)
    flow = USFlow(3, **{"blocks": 2, "hidden": (16,), **shape})
    fit(flow, rings(), options, progress=False)
    return flow


@pytest.fixture(scope="module")
def fitted() -> USFlow:
    return trained()


@st.composite
def flows(draw: st.DrawFn) -> USFlow:
    """Flows of all shapes with parameters of all signs, in float64."""
    dim = draw(st.integers(2, 5))
    torch.manual_seed(draw(st.integers(0, 1000)))
    flow = USFlow(
        dim,
        blocks=draw(st.integers(0, 3)),
        hidden=draw(st.lists(st.integers(1, 6), max_size=3)),
        base=make_base("gamma-mixture", dim, draw(st.sampled_from([1, 2, math.inf]))),
        householder=draw(st.sampled_from([0, 2])),
    ).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return flow


def couplings(flow: USFlow) -> list[CouplingBlock]:
    blocks = [part.block if isinstance(part, Conjugate) else part for part in flow.parts()]
    return [block for block in blocks if isinstance(block, CouplingBlock)]


def matrices(flow: USFlow) -> list[torch.Tensor]:
    weights = ([block.shear, *(weight for weight, _ in block.conditioner.layers())] for block in couplings(flow))
    return [matrix.detach() for matrix in itertools.chain.from_iterable(weights)]


def unstable(flow: USFlow, mass: float) -> int:
    graph = flow.graph()
    ball = Ball(flow.base.p, float(flow.base.law.quantile(mass)), flow.dim)
    return int(symbolic_bounds(graph, ball).unstable(graph))


# the penalty


@given(flow=flows(), radius=st.floats(0.1, 5))
def test_the_bounds_hold_and_are_exact_at_first(flow: USFlow, radius: float) -> None:
    graph, p = flow.graph(), flow.base.p
    found = hidden_bounds([block.residual_layers() for block in flow.parts()[:-2]], p, radius)
    first = symbolic_bounds(graph.ending_at(graph.relus[0].input), Ball(p, radius, flow.dim)) if found else None
    scales = torch.cat([torch.ones(100, 1), torch.rand(100, 1)]).double()
    inside = evaluate(graph, radius * scales * flow.base.directions(torch.Size([200])))
    assert len(found) == len(graph.relus)
    for relu, bounds in zip(graph.relus, found, strict=True):
        low, high = (bound.detach() for bound in bounds)
        slack = 1e-4 * (1 + low.abs() + high.abs())
        assert (inside[relu.input] >= low - slack).all()
        assert (inside[relu.input] <= high + slack).all()
        if first is not None and relu is graph.relus[0]:  # a dual norm
            assert (low - torch.as_tensor(first.lower[relu.input])).abs().le(slack).all()
            assert (high - torch.as_tensor(first.upper[relu.input])).abs().le(slack).all()


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_bounds_are_as_tight_as_those_of_proofs(p: float) -> None:
    flow = trained(TrainingOptions(steps=100, validate_every=50), blocks=3, base=make_base("gamma-mixture", 3, p))
    radius = float(flow.base.law.quantile(0.05))
    proved = symbolic_bounds(flow.graph(), Ball(p, radius, 3))
    found = hidden_bounds([block.residual_layers() for block in flow.parts()[:-2]], p, radius)
    for relu, (low, high) in zip(flow.graph().relus, found, strict=True):
        width = proved.upper[relu.input] - proved.lower[relu.input]  # the better one of symbolic and interval bounds
        assert float((high - low).detach().sum()) == pytest.approx(width.sum(), rel=0.05)


def test_the_penalty_counts_units_by_how_unstable_they_are() -> None:
    flow = USFlow(2, blocks=1, hidden=(3,)).double()
    block = couplings(flow)[0]
    with torch.no_grad():
        block.conditioner.linears[0].weight.copy_(torch.tensor([[1.0], [1.0], [2.0]]))
        block.conditioner.linears[0].bias.copy_(torch.tensor([0.0, 0.5, -50.0]))
    stability = Stability(flow, 2.0, 0.5, flow.sample((200,)))
    stability.radius = 1.0
    assert float(stability.value().detach()) == pytest.approx(2.0 * ((1 + MARGIN) + (0.5 + MARGIN)))
    stability.measure()
    radius = float(flow.base.law.quantile(0.5))
    assert stability.radius == pytest.approx(radius, rel=0.1)
    wider = Stability(flow, 2.0, 0.5, flow(3 * flow.latent(flow.sample((200,)))).detach())
    assert wider.radius == pytest.approx(3 * radius, rel=0.2)


@given(flow=flows())
def test_the_objective_adds_the_penalty_and_its_gradient(flow: USFlow) -> None:
    rows = flow.sample((20,))
    for parameter in flow.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stability = Stability(flow, 0.3, 0.5, rows)
    expected = -flow.log_prob(rows).mean() - flow.determinant_log_prior(1.0) / len(rows) + stability.value()
    gradients = torch.autograd.grad(expected, list(flow.parameters()), allow_unused=True)
    places = [parameter.grad for parameter in flow.parameters()]
    loss, nll = Objective(flow, rows, 1.0, stability)(torch.arange(20))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert nll.item() == pytest.approx(-flow.log_prob(rows).mean().item(), rel=1e-10)
    for parameter, gradient, place in zip(flow.parameters(), gradients, places, strict=True):
        assert parameter.grad is place  # in place: the optimiser looks there
        assert torch.allclose(place, torch.zeros_like(place) if gradient is None else gradient, rtol=1e-8, atol=1e-10)


def test_the_penalty_makes_units_stable(fitted: USFlow) -> None:
    spared = trained(TrainingOptions(**{**vars(STEPS), "stability": 0.3, "stability_mass": 0.5}))
    assert unstable(spared, 0.5) <= unstable(fitted, 0.5) / 2
    later = compress(fitted, rings(), options=TrainingOptions(stability=0.3, stability_mass=0.5), progress=False)
    assert unstable(later, 0.5) <= unstable(fitted, 0.5) / 2


def test_without_the_penalty_nothing_of_it_runs(fitted: USFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(veriflow.training.fit, "Stability", none)
    again = trained(TrainingOptions(**{**vars(STEPS), "stability_mass": 0.2}))
    assert all(torch.equal(a, b) for a, b in zip(fitted.parameters(), again.parameters(), strict=True))


def test_a_run_with_the_penalty_resumes_to_the_same_bits(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainingOptions(steps=60, batch_size=64, validate_every=20, stability=0.1)
    whole, calls, once = trained(options), itertools.count(1), Objective.__call__

    def failing(self: Objective, chosen: torch.Tensor) -> object:
        if next(calls) == 50:
            raise KeyboardInterrupt
        return once(self, chosen)

    torch.manual_seed(0)
    flow = USFlow(3, blocks=2, hidden=(16,))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(veriflow.training.objective.Objective, "__call__", failing)
        fit(flow, rings(), options, checkpoint=tmp_path / "run", progress=False)
    torch.manual_seed(0)
    flow = USFlow(3, blocks=2, hidden=(16,))
    history = fit(flow, rings(), options, checkpoint=tmp_path / "run", progress=False)
    assert history.steps == [20, 40, 60]
    assert min(history.penalty) > 0
    assert history.best == int(np.argmin(np.add(history.validation_nll, history.penalty)))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), flow.parameters(), strict=True))


@pytest.mark.parametrize("bad", [{"stability": -1.0}, {"stability": math.nan}, {"stability_mass": 1.0}])
def test_penalties_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="expected a stability"):
        TrainingOptions(**bad)


# cuts


@pytest.mark.parametrize("shape", [{}, {"hidden": (6, 5)}, {"householder": 2}])
def test_zeros_stay_zeros(shape: dict[str, object]) -> None:
    flow = trained(TrainingOptions(steps=60, validate_every=20), **shape)
    before = copy.deepcopy(flow.state_dict())
    sparse = compress(flow, rings(), keep=0.3, steps=40, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
    for old, new in zip(matrices(flow), matrices(sparse), strict=True):
        kept = new != 0
        assert kept.sum() <= math.ceil(0.3 * old.numel())
        threshold = old.abs().flatten().sort(descending=True).values[math.ceil(0.3 * old.numel()) - 1]
        assert (old.abs()[kept] >= threshold).all()
    moved = zip(matrices(flow), matrices(sparse), strict=True)
    assert any((old[new != 0] != new[new != 0]).any() for old, new in moved)  # what is left was trained on


def test_units_that_nobody_reads_are_off(fitted: USFlow) -> None:
    sparse = compress(fitted, rings(), keep=0.1, progress=False)
    dead = 0
    for block in couplings(sparse):
        (weight, bias), (reader, _) = block.conditioner.layers()
        unread = ~reader.any(dim=0)
        assert (weight[unread] == 0).all()
        assert (bias[unread] < 0).all()
        dead += int(unread.sum())
    assert dead > 0
    assert unstable(sparse, 0.999) <= 32 - dead


def test_keeping_all_without_steps_changes_the_law_alone(fitted: USFlow) -> None:
    same = compress(fitted, rings(), keep=1.0, steps=0, progress=False)
    assert all(
        torch.equal(a, b) for a, b in zip(fitted.bijection.parameters(), same.bijection.parameters(), strict=True)
    )


def test_the_rank_is_as_asked() -> None:
    flow = trained(TrainingOptions(steps=40, validate_every=20), hidden=(8, 8))
    low = compress(flow, rings(), rank=1, steps=30, progress=False)
    assert max(int(torch.linalg.matrix_rank(matrix, rtol=1e-4)) for matrix in matrices(flow)) > 1
    assert all(int(torch.linalg.matrix_rank(matrix, rtol=1e-4)) <= 1 for matrix in matrices(low))


# few bits


@given(
    rows=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    bits=st.integers(1, 11),
    noise=st.integers(0, 100),
)
def test_what_is_rounded_has_few_bits_and_is_rounded_once(rows: list[list[float]], bits: int, noise: int) -> None:
    values = torch.tensor(rows, dtype=torch.float64)
    steps = grid_steps(values, bits)
    rounded = on_grid(values, steps)
    assert (torch.frexp(steps).mantissa == 0.5).all()
    counts = rounded / steps
    assert torch.equal(counts, counts.round())
    assert (counts.abs() <= 2 ** (bits - 1)).all()
    assert ((rounded - values).abs() <= steps / 2).all()
    torch.manual_seed(noise)
    shaken = rounded * (1 + 1e-6 * (2 * torch.rand_like(rounded) - 1))
    assert torch.equal(on_grid(shaken, grid_steps(shaken, bits)), rounded)


@pytest.mark.parametrize("bits", [4, 8, 11])
@pytest.mark.parametrize("keep", [None, 0.5])
def test_a_rounded_flow_is_a_flow_with_short_constants(fitted: USFlow, bits: int, keep: float | None) -> None:
    small = compress(fitted, rings(), keep=keep, bits=bits, steps=20, progress=False)
    for block in couplings(small):
        for parameter in block.parameters():
            flat = parameter.detach().double().flatten()
            assert torch.equal(on_grid(flat, grid_steps(flat, bits)), flat)
    graph = small.graph()
    *_, last = graph.nodes
    ((_, weight),) = last.terms
    steps = grid_steps(torch.as_tensor(weight), bits).numpy()
    assert (np.abs(weight / steps) <= 2 ** (bits - 1)).all()
    assert (np.concatenate([weight, last.bias[:, None]], axis=1) / steps % 1 == 0).all()
    assert longest_constant(graph.ending_at("s2")) <= 2 * bits
    with torch.no_grad():  # no constant of a block was rounded on its way into the graph
        exact = [layer for block in couplings(copy.deepcopy(small).double()) for layer in block.residual_layers()]
    weights = [
        w for node in graph.nodes[:-1] if hasattr(node, "terms") for _, w in node.terms if isinstance(w, np.ndarray)
    ]
    assert all(np.array_equal(a.numpy(), b) for (a, _), b in zip(exact, weights, strict=True))
    assert small.rounding_deviation() < 1e-4
    assert longest_constant(fitted.graph()) == 24


def test_the_density_of_a_rounded_flow_is_that_of_its_graph(fitted: USFlow) -> None:
    small = compress(fitted, rings(), bits=6, progress=False).double()
    graph, z = small.graph(), small.base.sample((5,))
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    for point in z:
        columns = [(evaluate(graph, (point + d)[None])["x"] - evaluate(graph, (point - d)[None])["x"])[0] for d in step]
        jacobian = torch.stack([torch.as_tensor(column) for column in columns], dim=1) / 2e-6
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(small.log_volume(), abs=1e-4)


def test_a_rounded_flow_is_saved_and_loaded(fitted: USFlow, tmp_path) -> None:
    small = compress(fitted, rings(), bits=7, keep=0.5, steps=20, progress=False)
    save_flow(small, tmp_path / "small")
    back = load_flow(tmp_path / "small")
    assert (back.bits, back.config()) == (7, small.config())
    assert "bits" not in fitted.config()
    for one, two in zip(small.graph().nodes, back.graph().nodes, strict=True):
        assert (one.output, one.inputs) == (two.output, two.inputs)
        for (_, a), (_, b) in zip(getattr(one, "terms", ()), getattr(two, "terms", ()), strict=True):
            assert (a != b).sum() == 0
    assert compress(back, rings(), bits=5, progress=False).bits == 5
    tuned = compress(back, rings(), keep=0.5, steps=20, progress=False)  # its last map is on no grid any more
    assert tuned.bits is None
    assert tuned.rounding_deviation() < 1e-4
    with pytest.raises(TrainingError, match=r"not rounded.*got one of 7 bits"):
        fit(back, rings(), TrainingOptions(steps=5), progress=False)
    assert back.bits == 7
    free = back.with_bits(None)
    fit(free, rings(), TrainingOptions(steps=5), progress=False)
    assert (free.bits, back.bits, back.config()) == (None, 7, small.config())
    with pytest.raises(AttributeError):
        back.bits = 8


# the law of the norm


@pytest.mark.parametrize("base", ["gamma-mixture", "exponential", "free-gamma-mixture", "lognormal", "uniform-ball"])
def test_the_base_is_fitted_anew(base: str) -> None:
    torch.manual_seed(0)
    flow = USFlow(3, blocks=1, hidden=(4,), base=make_base(base, 3))
    if base != "uniform-ball":
        fit(flow, rings(), TrainingOptions(steps=40, validate_every=20), progress=False)
    rows = split(flow, rings(), TrainingOptions())
    with torch.no_grad():
        for part in couplings(flow):
            for parameter in part.parameters():
                parameter.mul_(0.8)
        before = [float(-flow.log_prob(part).double().mean()) for part in rows]
        bijection = copy.deepcopy(flow.bijection.state_dict())
        recalibrate(flow, *rows)
        after = [float(-flow.log_prob(part).double().mean()) for part in rows]
    assert all(torch.equal(value, bijection[name]) for name, value in flow.bijection.state_dict().items())
    if base == "uniform-ball":
        assert after == before
        return
    assert after[1] <= before[1] + 1e-6
    level = flow.level_set(0.6)
    assert float(sum(flow.base.law.mass_between(*ends) for ends in level.intervals)) == pytest.approx(0.6, abs=1e-9)


@pytest.mark.parametrize("base", ["gamma-mixture", "free-gamma-mixture", "lognormal", "weibull-mixture"])
def test_a_law_is_scaled_to_rows_that_were_not_learned_from(base: str) -> None:
    torch.manual_seed(0)
    flow = USFlow(3, blocks=0, base=make_base(base, 3))
    rows = flow.sample((2000,))
    radius = float(flow.base.law.quantile(0.5))
    recalibrate(flow, rows, 1.5 * rows[:100])
    assert float(flow.base.law.quantile(0.5)) == pytest.approx(1.5 * radius, rel=0.15)
    recalibrate(flow, rows, rows[:100])  # of the same scale
    assert float(flow.base.law.quantile(0.5)) == pytest.approx(radius, rel=0.15)


class _InRates(GammaLaw):
    """A user's law: Gamma, described by a rate."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        del self.log_scale
        self.rate = torch.nn.Parameter(torch.tensor(0.5))

    @property
    def log_scale(self) -> torch.Tensor:
        return -self.rate.log()

    def rescale(self, factor: float) -> None:
        with torch.no_grad():
            self.rate.div_(factor)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_law_with_parameters_of_other_names_is_scaled(mixed: bool) -> None:
    torch.manual_seed(0)
    law = MixtureLaw([_InRates(3), LogNormalLaw(3, 6.0)]) if mixed else _InRates(3)
    flow = USFlow(3, blocks=0, base=RadialBase(1, law))
    rows = flow.sample((4000,))
    unseen = 2 * rows[:2000].numpy()
    before = float(-flow.log_prob(unseen).mean())
    radius = float(law.quantile(0.5))
    recalibrate(flow, rows[2000:], 2 * rows[:2000])
    assert float(law.quantile(0.5)) == pytest.approx(2 * radius, rel=0.1)
    assert float(-flow.log_prob(unseen).mean()) < before - 0.1


def test_a_law_that_cannot_be_scaled_is_no_law() -> None:
    class Forgetful(SimpleLaw):
        log_profile = sample = cdf = sf = config = profile_modes = _inverse = _log_tail = None

    with pytest.raises(TypeError, match="rescale"):
        Forgetful(3)


def test_rounding_is_made_up_for(fitted: USFlow) -> None:
    options = TrainingOptions()
    _, held_out = split(fitted, rings(), options)
    rounded = compress(fitted, rings(), bits=4, progress=False)
    without = copy.deepcopy(rounded)
    without.base.load_state_dict(fitted.base.state_dict())
    costs = [proof_cost(flow, held_out, 0.5) for flow in (without, rounded)]
    assert costs[1].nll <= costs[0].nll + 1e-6
    assert costs[0].bits == costs[1].bits < 24
    assert costs[0].relus == 32


# what is refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "got none of them"),
        ({"bits": 0}, "1 to 24 bits; got 0"),
        ({"bits": 25}, "1 to 24 bits; got 25"),
        ({"keep": 0.0}, "above 0, at most 1; got 0"),
        ({"keep": 1.5}, "above 0, at most 1; got 1.5"),
        ({"keep": math.nan}, "above 0, at most 1; got nan"),
        ({"rank": 0}, "a rank from 1 to 2"),
        ({"rank": 3}, "a rank from 1 to 2"),
        ({"keep": 0.5, "rank": 1}, "got both"),
        ({"rank": 1, "bits": 8}, "got both"),
        ({"bits": 8, "steps": -1}, "zero or more steps"),
    ],
)
def test_cuts_that_make_no_sense_are_refused(fitted: USFlow, options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        compress(fitted, rings(), progress=False, **options)


def test_bits_in_which_the_last_map_is_singular_are_refused() -> None:
    flow = USFlow(2, blocks=0)
    with torch.no_grad():  # z → x is [[1, 1], [1, 1.01]], but for rounding
        flow.lu.factors.copy_(torch.tensor([[math.log(101), -100], [-100 / 101, math.log(100 / 101)]]))
    assert compress(flow, rings()[:, :2], bits=12).bits == 12
    with pytest.raises(ModelError, match="stays invertible, in float32 too; got 3"):
        compress(flow, rings()[:, :2], bits=3)


def test_affine_flows_and_bad_rows_are_refused(fitted: USFlow) -> None:
    with pytest.raises(ModelError, match="a flow with blocks"):
        compress(USFlow(3, blocks=0), rings(), keep=0.5)
    assert compress(USFlow(3, blocks=0), rings(), bits=6).bits == 6
    data = rings()
    data[7, 1] = math.nan
    with pytest.raises(DataError, match="row 7"):
        compress(fitted, data, bits=8)
    with pytest.raises(DataError, match="shape"):
        tune(fitted, rings()[:, :2])
