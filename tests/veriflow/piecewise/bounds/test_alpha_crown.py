"""Chosen bounds: they hold whatever was chosen, in every piece; the ascents gain; branch and bound on ReLUs is exact."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from shares import by_day
from small_queries import inside_points, random_flow, random_graph, random_network, small_query

from veriflow.piecewise.bounds.alpha_crown import optimised_bounds
from veriflow.piecewise.bounds.beta_crown import BetaAscent
from veriflow.piecewise.bounds.conjunctions import Conjunctions
from veriflow.piecewise.bounds.crown import backward_rows, symbolic_bounds
from veriflow.piecewise.bounds.tensor_bounds import Bounds, RelaxationParameters
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import compose
from veriflow.queries.properties import classified_as
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from verify.bab.options import SearchOptions
from verify.bab.relu_split import search_splits

REGIONS = [Ball(1, 0.7, 3), Ball(2, 0.6, 3), Ball(math.inf, 0.4, 3), Box(np.array([-0.3, 0.1, -1.0]), np.full(3, 0.5))]


def chosen_at_random(rng, graph, rows, batch=()):
    """Any slopes and shares, in and beyond where they may lie, and any multipliers."""
    sizes = {relu.output: (*batch, rows, graph.sizes[relu.output]) for relu in graph.relus}
    return RelaxationParameters(
        *({name: rng.uniform(low, 1.2, size) for name, size in sizes.items()} for low in (-0.2, -0.2, -1.0))
    )


def values_at(graph, points):
    return {name: value.numpy() for name, value in evaluate(graph, torch.from_numpy(points)).items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_bounds_hold_for_every_choice(region, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    wanted = {relu.input for relu in graph.relus} | {graph.output}
    choices = {name: chosen_at_random(rng, graph, 2 * graph.sizes[name]) for name in wanted}
    bounds = symbolic_bounds(graph, region, choices)
    values = values_at(graph, np.stack(inside_points(region, rng, 400)))
    for name in graph.sizes:
        assert (values[name] >= bounds.lower[name]).all()
        assert (values[name] <= bounds.upper[name]).all()


@pytest.mark.parametrize("region", [REGIONS[0], REGIONS[2]], ids=str)
def test_convex_functions_lie_above_what_they_bound(region):
    """At a vertex itself the value given for it is above the exact one; halfway between two, below their mean."""
    graph = random_graph(3)
    bounds = symbolic_bounds(graph, region)
    values = values_at(graph, region.vertices)
    for name, above in bounds.convex.items():
        assert (values[name] <= above.T).all()
        middle = values_at(graph, (region.vertices[:1] + region.vertices) / 2)[name]
        assert ((above[:, :1] + above) / 2 >= middle.T - 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_bounds_hold_in_every_piece(region, seed):
    """Pieces by the signs that points have: each point meets the bounds of its own piece, with any multipliers."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    whole = symbolic_bounds(graph, region)
    points = np.stack(inside_points(region, rng, 60))
    values = values_at(graph, points)
    lower, upper = dict(whole.lower), dict(whole.upper)
    for relu in graph.relus:
        split = rng.random(values[relu.input].shape) < 0.5
        on = values[relu.input] > 0
        lower[relu.input] = np.where(split & on, np.maximum(lower[relu.input], 0), lower[relu.input])
        upper[relu.input] = np.where(split & ~on, np.minimum(upper[relu.input], 0), upper[relu.input])
    pieces = Bounds(lower, upper, whole.convex)
    rows = rng.standard_normal((len(points), 1, graph.output_size))
    choice = chosen_at_random(rng, graph, 1, (len(points),))
    ended = backward_rows(graph, region, pieces, graph.output, rows, choice)
    truth = (rows[:, 0] * values[graph.output]).sum(axis=1)
    assert (ended.lower[:, 0] <= truth).all()

    units = [[kind[r.output][:, 0] for r in graph.relus] for kind in (choice.slopes, choice.multipliers, choice.chords)]
    start = np.clip(np.stack([np.concatenate(kind, axis=-1) for kind in units], axis=1), 0, 1).astype(np.float32)
    found, chosen = BetaAscent(graph, region).ascend(pieces, -rows[:, 0], np.full(len(points), 0.1), start)
    assert (found.margins[:, 0] <= truth + 0.1).all()
    assert (found.margins[:, 0] >= ended.lower[:, 0] + 0.1 - 0.2 * np.abs(ended.lower[:, 0]) - 0.5).mean() > 0.9
    assert (chosen >= 0).all()
    assert (chosen[:, ::2] <= 1).all()


@pytest.mark.parametrize("region", [*REGIONS[:3], Ball(1, 0.7, 3, limit=0.4)], ids=str)
def test_the_gradient_over_pieces_is_that_of_the_proved_bounds(region):
    """Against differences of what is proved, at choices inside of their range, one choice moved at a time."""
    rng = np.random.default_rng(0)
    graph = random_graph(3)
    whole = symbolic_bounds(graph, region)
    relus = graph.relus
    signs = {r.input: rng.integers(-1, 2, graph.sizes[r.input]) for r in relus}
    lower = {n: np.where(s > 0, np.maximum(whole.lower[n], 0), whole.lower[n])[None] for n, s in signs.items()}
    upper = {n: np.where(s < 0, np.minimum(whole.upper[n], 0), whole.upper[n])[None] for n, s in signs.items()}
    pieces = Bounds({**whole.lower, **lower}, {**whole.upper, **upper}, whole.convex)
    rows, choices = rng.standard_normal((1, graph.output_size)), rng.uniform(0.2, 0.8, (1, 3, graph.relu_count))
    ascent = BetaAscent(graph, region)

    def proved(choices):
        parameters = ascent._parameters(choices)
        return backward_rows(graph, region, pieces, graph.output, rows[:, None], parameters).lower[0, 0]

    single = [array.astype(np.float32) for array in (rows, choices)]
    value, gradient = ascent._values_and_gradient(ascent._units(pieces), *single)
    assert value[0] == pytest.approx(proved(choices), rel=1e-5, abs=1e-5)
    step, kinds = 1e-6, (0, 1, 2) if region.vertices is not None else (0, 1)
    for kind in kinds:
        for unit in range(graph.relu_count):
            moved = np.zeros_like(choices)
            moved[0, kind, unit] = step
            difference = (proved(choices + moved) - proved(choices - moved)) / (2 * step)
            assert gradient[0, kind, unit] == pytest.approx(difference, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_ascent_gains_and_stays_sound(region):
    gained = []
    for seed in range(6):
        query = replace(small_query("L1 ball", "mixed", seed), region=region)
        violation = query.arrays.conjunctions
        first, best = (optimised_bounds(query.graph, region, violation, steps=n) for n in (1, 40))
        gained.append((best.margins - first.margins).sum())
        values = values_at(query.graph, np.stack(inside_points(region, np.random.default_rng(seed), 400)))
        slack = best.limits - values[query.graph.output] @ best.rows.T
        assert (slack >= best.margins).all()
    assert min(gained) >= -1e-9
    assert max(gained) > 0.01


def test_vertices_beat_chords_on_an_l1_ball_of_many_dimensions():
    rng = np.random.default_rng(0)
    graph = compose(random_flow(rng, 24, 1, 16, depth=1), random_network(rng, (24, 16, 4)))

    class Chords:
        """The same ball without its vertices."""

        ball = Ball(1, 1.0, 24)
        lower, upper, support, vertices = ball.lower, ball.upper, staticmethod(ball.support), None

    width = {}
    for region in (Chords(), Chords.ball):
        bounds = symbolic_bounds(graph, region)
        width[type(region).__name__] = (bounds.upper[graph.output] - bounds.lower[graph.output]).sum()
    assert width["Ball"] < 0.9 * width["Chords"]


def test_weighted_sums_exclude_what_no_constraint_excludes_alone():
    """y0 ≥ 0.1 and −y0 ≥ 0.1 cannot both hold, though each can."""
    graph = random_graph(0)
    rows, bounds = np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([0.1, 0.1])
    found = optimised_bounds(graph, REGIONS[0], Conjunctions(rows, bounds, ((0, 1), (0,))))
    assert found.excluded.tolist()[0]


@pytest.mark.parametrize("seed", by_day(range(12), 5))
@pytest.mark.parametrize("share", [0.7, 0.999, 1.001])
def test_splitting_relus_finds_the_largest_output(seed, share):
    """Against dense sampling: a threshold below what was seen is violated, one far above is not, and no answer is wrong."""
    rng = np.random.default_rng(seed)
    region = [Ball(1, 1.0, 4), Ball(math.inf, 0.5, 4)][seed % 2]
    graph = compose(random_flow(rng, 4, 1, 5, depth=1), random_network(rng, (4, 5, 2)))
    points = np.stack(inside_points(region, rng, 300))
    outputs = values_at(graph, points)[graph.output]
    seen = (outputs[:, 1] - outputs[:, 0]).max()
    query = network_query(graph, region, classified_as(0, -(seen + (share - 1) * abs(seen))))
    state = search_splits(query, SearchOptions(time.monotonic() + 600))
    assert state.open == 0 or state.witness is not None
    if share < 1:
        assert state.witness is not None
    elif state.witness is not None:
        exact = [float(v) for v in state.witness.outputs]
        assert exact[1] - exact[0] >= seen + (share - 1) * abs(seen) - 1e-9
