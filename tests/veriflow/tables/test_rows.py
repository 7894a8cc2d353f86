"""Rows in every form that people have them in."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from veriflow import Table, TrainingOptions, USFlow, VeriflowError, calibrated_level_set, fit, trimmed_level_set
from veriflow.density.radial import BASES

VALUES = np.random.default_rng(0).normal(2, 3, (60, 3))
FRAME = pd.DataFrame(VALUES, columns=["a", "b", "c"])
FORMS = {
    "array": VALUES,
    "list": VALUES.tolist(),
    "frame": FRAME,
    "frame in another order, with columns of text and dates": FRAME.assign(d="text", e=pd.Timestamp("2026-01-01"))[
        ["c", "d", "a", "e", "b"]
    ],
    "objects": VALUES.astype(object),
    "masked": np.ma.masked_array(VALUES, mask=False),
    "table": Table(VALUES, ("a", "b", "c")),
    "table in another order": Table(VALUES[:, ::-1].copy(), ("c", "b", "a")),
}


def a_flow():
    torch.manual_seed(0)
    flow = USFlow(3, blocks=1, hidden=4, features=["a", "b", "c"]).double()
    flow.standardise(torch.full((3,), 2.0), torch.full((3,), 3.0))
    return flow


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_answers_of_the_tensor(form):
    flow, tensor, rows = a_flow(), torch.from_numpy(VALUES), FORMS[form]
    for method in ("log_prob", "latent", "norm", "score", "log_tail_mass"):
        answer = getattr(flow, method)(rows)
        assert torch.equal(answer, getattr(flow, method)(tensor))
        assert np.asarray(answer).shape == answer.shape
    assert flow.log_prob(tensor).requires_grad
    level = flow.level_set(0.5)
    assert torch.equal(level.contains(rows), level.contains(tensor))
    trimmed = trimmed_level_set(flow, mass=0.5)
    assert torch.equal(trimmed.contains(rows), trimmed.contains(tensor))
    assert (
        calibrated_level_set(flow, rows, 0.8).level_set.radius
        == calibrated_level_set(flow, tensor, 0.8).level_set.radius
    )
    options = TrainingOptions(steps=5)
    fit(flow, rows, options, progress=False)
    again = a_flow()
    fit(again, tensor, options, progress=False)
    assert torch.equal(flow.log_prob(tensor), again.log_prob(tensor))


def test_columns_count_from_the_left_where_the_flow_has_no_names():
    flow = USFlow(3)
    assert torch.equal(flow.log_prob(FRAME), flow.log_prob(VALUES))
    assert torch.equal(flow.log_prob(VALUES[0]), flow.log_prob(VALUES)[0])
    assert torch.equal(flow.log_prob(np.ones((2, 3), dtype=bool)), flow.log_prob(torch.ones(2, 3, dtype=torch.int8)))


@pytest.mark.parametrize(
    "rows",
    [
        FRAME[["a", "b"]],
        FRAME.rename(columns={"c": "z"}),
        FRAME.assign(c="text"),
        FRAME.assign(c=pd.array([None] * 60, dtype="Float64")),
        VALUES[:, :2],
        VALUES.astype(str),
        VALUES.astype(complex),
        torch.from_numpy(VALUES).to(torch.complex128),
        [[1.0, 2.0, "3"]],
        [[1.0, 2.0], [3.0]],
        pd.to_datetime(FRAME["a"]).to_numpy(),
        {"a": 1.0},
        "abc",
        None,
        3.0,
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_other_things_are_refused_in_a_sentence(rows):
    flow = a_flow()
    level, trimmed = flow.level_set(0.5), trimmed_level_set(flow, mass=0.5)
    for take in (flow.log_prob, flow.latent, flow.score, level.contains, trimmed.contains):
        with pytest.raises(VeriflowError, match=r"expected .*; got "):
            take(rows)
    with pytest.raises(VeriflowError, match=r"expected .*; got "):
        calibrated_level_set(flow, rows, 0.5)
    with pytest.raises(VeriflowError, match=r"expected .*; got "):
        fit(flow, rows, progress=False)


def test_a_number_is_one_axis_of_samples():
    flow = USFlow(3)
    for source in (flow, flow.base, flow.level_set(0.5)):
        assert source.sample(5).shape == (5, 3)
        assert source.sample(()).shape == (3,)
        assert source.sample([2, 4]).shape == (2, 4, 3)
        for shape in (-1, [2, -1], 1.5, "5", True, None, [[2]]):
            with pytest.raises(VeriflowError, match=r"expected a number of samples.*; got "):
                source.sample(shape)


@pytest.mark.parametrize("name", BASES)
def test_bases_by_name(name):
    assert USFlow(3, base=name).config() == USFlow(3, base=BASES[name](3)).config()


@pytest.mark.parametrize(
    "options",
    [
        {"base": "gaussian"},
        {"base": 3},
        {"hidden": 0},
        {"hidden": 1.5},
        {"hidden": [1.5]},
        {"hidden": "32"},
        {"hidden": True},
    ],
)
def test_shapes_and_bases_that_are_none_are_refused(options):
    with pytest.raises(VeriflowError, match=r"expected .*; got "):
        USFlow(3, **options)


def test_numbers_keep_their_digits():
    flow = USFlow(1, blocks=0)
    flow.standardise(torch.tensor([1e15], dtype=torch.float64), torch.tensor([1.0]))
    x = np.array([[1e15 - 1], [1e15], [1e15 + 2]])
    assert flow.latent(x)[:, 0].tolist() == [-1.0, 0.0, 2.0]
    assert math.isclose(float(flow.norm(pd.DataFrame(x))[2]), 2.0)
