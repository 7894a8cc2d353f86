"""Regions are what their formulas say, alone and as products."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_queries import REGIONS, exact, linear

from veriflow import network_query, output_between
from veriflow.errors import RegionError
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from verify.bab.box_domains import BoxDomains, RegionBoxes, split_boxes

radii = st.floats(0.1, 10)
balls = st.builds(
    lambda p, r, share, dim, part: Ball(p, r, dim, share * r, math.inf if p == math.inf else part * r),
    st.sampled_from([1, 2, math.inf]),
    radii,
    st.sampled_from([0.0, 0.0, 0.5]),
    st.integers(1, 3),
    st.sampled_from([0.6, 0.9, math.inf]),
)
boxes = st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 3)), min_size=1, max_size=3).map(
    lambda ends: Box(np.array([low for low, _ in ends]), np.array([low + width for low, width in ends]))
)
products = st.lists(balls | boxes, min_size=1, max_size=3).map(lambda parts: Product(tuple(parts)))


@given(products, st.integers(0, 1000))
def test_points_of_a_product_are_points_of_its_parts_and_below_its_support(region, seed):
    points = region.draw(40, seed).numpy()
    rows = np.random.default_rng(seed).standard_normal((5, region.dim))
    assert (points @ rows.T <= region.support(rows) + 1e-9).all()
    assert (points >= region.lower - 1e-12).all()
    assert (points <= region.upper + 1e-12).all()
    for place, part in region.placed_parts:
        alone = np.zeros_like(rows)
        alone[:, place] = rows[:, place]
        np.testing.assert_allclose(region.support(alone), part.support(rows[:, place]))
        for point in points[:5]:
            inner = Fraction(part.inner) if isinstance(part, Ball) else 0
            grown = Box(part.lower - 1e-9, part.upper + 1e-9)
            assert grown.contains(exact(point[place]))
            if isinstance(part, Ball) and part.p != 2:
                norm = (sum if part.p == 1 else max)(abs(v) for v in exact(point[place]))
                assert inner - Fraction(1, 10**9) <= norm <= Fraction(part.radius) + Fraction(1, 10**9)


@given(balls, st.integers(0, 1000), st.booleans())
def test_points_that_miss_a_ball_by_rounding_are_moved_into_it_exactly(ball, seed, is_sphere):
    if is_sphere and ball.p != 2:
        ball = Ball(ball.p, ball.radius, ball.dim, ball.radius)
    for point in ball.draw(10, seed).numpy():
        moved = ball.nearest(exact(point))
        assert ball.p == 2 or ball.contains(moved)
        assert max(abs(a - b) for a, b in zip(moved, exact(point), strict=True)) < 1e-12


@given(balls, st.integers(0, 1000), st.floats(0.01, 100))
def test_any_point_but_the_centre_is_moved_into_a_ball(ball, seed, scale):
    for point in np.random.default_rng(seed).standard_normal((5, ball.dim)):
        moved = ball.nearest(exact(scale * point))
        assert ball.p == 2 or ball.contains(moved)
        assert ball.nearest(moved) == moved


@given(products, st.integers(0, 1000))
def test_projection_ends_in_the_product_and_leaves_its_points_alone(region, seed):
    far = 20 * torch.randn(30, region.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    inside = region.project(far)
    torch.testing.assert_close(region.project(inside), inside)
    filled = Product(tuple(replace(p, inner=0.0) if isinstance(p, Ball) else p for p in region.parts))
    rows = np.random.default_rng(seed).standard_normal((5, region.dim))
    assert (inside.numpy() @ rows.T <= filled.support(rows) + 1e-9).all()


@given(products)
def test_rounding_outward_only_adds_points(region):
    rounded = region.rounded_outward()
    assert rounded == rounded.rounded_outward() or any(isinstance(part, Box) for part in region.parts)
    assert (rounded.lower <= region.lower).all()
    assert (rounded.upper >= region.upper).all()
    assert (rounded.lower == rounded.lower.astype(np.float32)).all()
    for _, part in rounded.placed_parts:
        assert not isinstance(part, Ball) or part.inner <= part.radius


@given(products, st.integers(0, 1000))
def test_the_bounding_box_and_the_region_without_round_holes_contain_the_region(region, seed):
    box, filled = region.bounding_box(), region.without_round_holes()
    assert (box.lower == region.lower).all()
    assert (box.upper == region.upper).all()
    assert not filled.has_round_hole
    for point in map(exact, region.draw(20, seed).numpy()):
        if region.contains(point):
            assert box.contains(point)
            assert filled.contains(point)
    for part, around in zip(region.parts, filled.parts, strict=True):
        assert around is part or (part.p == 2 and part.inner and around == replace(part, inner=0.0))


@given(products)
def test_a_region_is_linear_where_all_parts_are_and_has_a_round_hole_where_one_has(region):
    assert region.is_linear == all(part.is_linear for part in region.parts)
    assert region.has_round_hole == any(part.has_round_hole for part in region.parts)
    assert not (region.is_linear and region.has_round_hole)
    for place, part in region.placed_parts:
        assert place.stop - place.start == part.dim
        assert part.parts == (part,)
        assert (part.ball is None) == isinstance(part, Box)
    assert region.ball is None


@given(balls | boxes, st.integers(0, 1000))
def test_norms_of_points_are_from_the_inner_radius_to_the_outer_one(part, seed):
    norms = torch.linalg.vector_norm(part.draw(40, seed), part.p, dim=-1)
    assert (norms >= part.inner - 1e-9).all()
    assert (norms <= part.radius + 1e-9).all()
    assert part.reach <= part.radius
    assert (np.maximum(-part.lower, part.upper) <= part.reach).all()


@given(balls | boxes, st.integers(0, 1000))
def test_a_part_is_what_its_norms_and_ends_say(part, seed):
    low, high = (exact(ends) for ends in (part.lower, part.upper))
    norm = {1: sum, 2: lambda sizes: sum(v * v for v in sizes), math.inf: max}[part.p]
    power = 2 if part.p == 2 else 1
    for point in map(exact, np.random.default_rng(seed).uniform(-1.2, 1.2, (30, part.dim)) * part.reach):
        size = norm([abs(v) for v in point])
        in_norms = Fraction(part.inner) ** power <= size <= Fraction(part.radius) ** power
        in_ends = all(a <= v <= b for a, v, b in zip(low, point, high, strict=True))
        assert part.contains(point) == (in_norms and in_ends)


@given(balls | boxes, st.integers(0, 1000))
def test_points_off_by_rounding_are_corrected_and_those_of_balls_that_are_farther_off_are_left(part, seed):
    for point in part.draw(5, seed).numpy()[1:]:
        assert part.corrected(exact(point)) == part.nearest(exact(point))
    beyond = exact(part.upper + 2 * part.radius + 1)
    assert part.corrected(beyond) == (part.nearest(beyond) if part.ball is None else beyond)


@given(st.sampled_from([1, 2, math.inf]), st.floats(0.5, 10), st.integers(0, 1000))
def test_float32_points_just_outside_of_a_ball_and_just_inside_of_a_shell_are_drawn_into_it(p, radius, seed):
    ball = Ball(p, 2 * radius, 3, radius).rounded_outward()
    rays = np.random.default_rng(seed).standard_normal((5, 3))
    rays /= np.linalg.norm(rays, p, axis=1, keepdims=True)
    for factor in (ball.inner * (1 - 2.0**-22), ball.radius * (1 + 2.0**-22)):
        for point in (rays * factor).astype(np.float32).astype(np.float64):
            drawn = ball.near_float32(exact(point), 2.0**-20)
            assert ball.contains(drawn)
            assert all(float(np.float32(float(value))) == value for value in drawn)


@pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
def test_a_product_of_one_part_is_that_part(region):
    if isinstance(region, Product):
        parts = [part for _, part in region.placed_parts]
        assert tuple(parts) == region.parts
        return
    alone = Product((region,))
    for point in np.random.default_rng(0).uniform(-1, 1, (200, 3)):
        assert alone.contains(exact(point)) == region.contains(exact(point))
    assert str(alone) == str(region)


@pytest.mark.parametrize("parts", [(), (Product((Ball(1, 1, 1),)),), ("ball",)])
def test_what_is_no_product_is_refused(parts):
    with pytest.raises(RegionError, match="expected one ball or box at least"):
        Product(parts)


@given(products, st.integers(0, 1000))
def test_the_farthest_point_and_the_vertices_reach_the_support(region, seed):
    filled = Product(tuple(replace(p, inner=0.0) if isinstance(p, Ball) else p for p in region.parts))
    rows = np.random.default_rng(seed).standard_normal((6, region.dim))
    support = filled.support(rows)
    np.testing.assert_allclose((rows * filled.farthest(rows)).sum(axis=-1), support, atol=1e-9)
    if (vertices := filled.vertices) is not None:
        np.testing.assert_allclose((rows @ vertices.T).max(axis=1), support, atol=1e-9)


@given(products, st.integers(0, 1000))
def test_boxes_in_a_product_keep_its_points_and_bound_them(region, seed):
    points = region.draw(60, seed).numpy()
    lower, upper = region.lower[None], region.upper[None]
    rng = np.random.default_rng(seed)
    for _ in range(4):
        lower, upper, _ = split_boxes(lower, upper, rng.uniform(0.5, 1, lower.shape), region)
    boxes = RegionBoxes(lower, upper, region)
    rows = np.broadcast_to(rng.standard_normal((3, region.dim)), (len(lower), 3, region.dim))
    inside = ((points[:, None] >= lower - 1e-9) & (points[:, None] <= upper + 1e-9)).all(axis=2)
    assert inside.any(axis=1).all()
    reached = np.where(inside[:, :, None], np.einsum("pd,bnd->pbn", points, rows), -np.inf).max(axis=0)
    assert (reached <= boxes.support(rows) + 1e-6).all()


def test_a_coordinate_that_cancels_but_costs_bounds_is_split():
    """y = x₀/100 − |x₁|: the line below it does not depend on x₁ at all, and all of what it misses comes from there."""
    ups_and_downs = np.array([[0.0, 1.0], [0.0, -1.0]])
    nodes = (
        Affine("a", (("x", ups_and_downs),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("x", np.array([[0.01, 0.0]])), ("h", np.array([[-1.0, -1.0]]))), np.zeros(1)),
    )
    square = Box(-np.ones(2), np.ones(2))
    query = network_query(Graph("x", 2, nodes, "y"), square, output_between(0, -0.9, 1.0))
    _, is_open, weights = (boxes := BoxDomains.whole(query, square)).examined(query, square)
    assert is_open.tolist() == [[True, False]]
    assert weights[0] == pytest.approx([0.01, 0.5])
    lower, upper, _ = split_boxes(boxes.lower, boxes.upper, weights, square)
    assert (upper - lower).tolist() == [[2.0, 1.0], [2.0, 1.0]]


def test_parts_of_a_few_boxes_cover_them_and_keep_their_parents_bounds():
    ball = Ball(1, 2.0, 2)
    query = network_query(linear([1.0, 1.0]), ball, output_between(0, -1.0, 1.0))
    whole = BoxDomains.whole(query, ball)
    bounds, _, weights = whole.examined(query, ball)
    parts, parents = whole.halved(query, bounds, np.array([True]), weights, ball)
    assert len(parts.lower) > 8
    assert set(parents.tolist()) == {0}
    points = ball.draw(200, 0).numpy()
    inside = ((points[:, None] >= parts.lower) & (points[:, None] <= parts.upper)).all(axis=2)
    assert inside.any(axis=1).all()
