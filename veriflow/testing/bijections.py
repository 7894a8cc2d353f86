"""What every bijection obeys: its two directions are inverse, its log-determinant is a constant, its graph is the map."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ModelError
from ..flows.bijections.affine import AffineBijection
from ..flows.bijections.base import Bijection
from ..flows.lowering import Direction, lower_flow
from ..piecewise.evaluate import evaluate
from .requirements import require, require_close, seeded


def check_bijection(bijection: Bijection) -> None:
    """Run a bijection through all of `BIJECTION_LAWS`, as it is and with its parameters moved off their start.

    Raises:
        AssertionError: the first that it breaks, in a sentence.
    """
    moved = copy.deepcopy(bijection)
    with seeded(1), torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for case in (bijection, moved):
        for obeys in BIJECTION_LAWS:
            obeys(case)


def _precise(bijection: Bijection) -> tuple[Bijection, Tensor]:
    """The bijection in float64, and points ``[3, 4, dim]`` for it."""
    with seeded(0):
        return copy.deepcopy(bijection).double(), torch.randn(3, 4, bijection.dim, dtype=torch.float64)


def directions_are_inverse(bijection: Bijection) -> None:
    """φ⁻¹(φ(z)) = z and φ(φ⁻¹(x)) = x, in float64 and, up to its rounding, in float32; shapes stay."""
    precise, z = _precise(bijection)
    for dtype, close in ((torch.float64, 1e-11), (torch.float32, 1e-3)):
        case, points = copy.deepcopy(precise).to(dtype), z.to(dtype)
        forward, inverse = case.forward_and_logdet, case.inverse_and_logdet
        with torch.no_grad():
            for start, end in ((forward, inverse), (inverse, forward)):
                image = start(points)[0]
                require(image.shape == z.shape, f"expected images of shape {tuple(z.shape)}; got {tuple(image.shape)}")
                require_close(end(image)[0], points, f"a point after both directions in {dtype}", rel=close, abs_=close)


def log_determinant_is_autograds_everywhere(bijection: Bijection) -> None:
    """log|det ∂φ/∂z| is what autograd finds at every point, and that of φ⁻¹ is minus it."""
    precise, z = _precise(bijection)
    forward, inverse = precise.forward_and_logdet, precise.inverse_and_logdet
    for point in z.reshape(-1, bijection.dim)[:4]:
        image, logdet = forward(point)
        jacobian = torch.func.jacrev(lambda p: forward(p)[0])(point)
        wanted = torch.linalg.slogdet(jacobian)[1].item()
        require_close(logdet.item(), wanted, "the log-determinant that autograd finds", rel=1e-9, abs_=1e-9)
        require_close(inverse(image)[1].item(), -wanted, "that of the other direction", rel=1e-9, abs_=1e-9)


def gradients_are_those_of_finite_differences(bijection: Bijection) -> None:
    """So are those of φ⁻¹ and its log-determinant, in the points and in every parameter."""
    precise, z = _precise(bijection)
    named = dict(precise.named_parameters())

    def outcome(points: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = {f"bijection.{name}": value for name, value in zip(named, values, strict=True)}
        result: tuple[Tensor, ...] = torch.func.functional_call(_Inverse(precise), given, points)
        return result

    points = z[0].requires_grad_()
    is_right = torch.autograd.gradcheck(outcome, (points, *named.values()), raise_exception=False, fast_mode=True)
    require(is_right, "expected the gradients that finite differences have; got others")


class _Inverse(torch.nn.Module):
    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse_and_logdet(x)


def matrix_is_the_affine_map(bijection: Bijection) -> None:
    """For an affine bijection: x = W z + shift, `solve` undoes W, and `logdet` is log|det W|."""
    precise, z = _precise(bijection)
    if not isinstance(precise, AffineBijection):
        return
    with torch.no_grad():
        matrix, shift = precise.matrix(), precise.shift()
        require_close(precise.forward_and_logdet(z)[0], z @ matrix.T + shift, "W z + shift", rel=1e-12, abs_=1e-12)
        require_close(precise.solve(matrix), torch.eye(precise.dim), "W⁻¹ W", abs_=1e-12)
        require_close(precise.logdet(), torch.linalg.slogdet(matrix)[1], "log|det W|", rel=1e-12, abs_=1e-12)


def graph_is_the_map(bijection: Bijection) -> None:
    """The graph of affine maps and ReLUs that proofs are about computes the same in both directions, up to float32."""
    precise, z = _precise(bijection)
    z = z.reshape(-1, bijection.dim)
    with torch.no_grad():
        x = precise.forward_and_logdet(z)[0]
    ends: tuple[tuple[Direction, Tensor, Tensor], ...] = (("forward", z, x), ("inverse", x, z))
    for direction, start, end in ends:
        graph = lower_flow(bijection, direction)
        scale = max(1.0, float(end.abs().max()))
        got = evaluate(graph, start)[graph.output]
        require_close(got, end, f"what the {direction} graph should compute", abs_=1e-4 * scale)


def points_of_another_size_are_refused(bijection: Bijection) -> None:
    """Both directions raise ModelError for points that have not `dim` coordinates, and take any leading shape."""
    dim = bijection.dim
    for direction in (bijection.forward_and_logdet, bijection.inverse_and_logdet):
        for shape in ([], [dim + 1], [2, dim + 1], [dim, 0]):
            try:
                direction(torch.zeros(shape))
            except ModelError as error:
                require("; got " in str(error), f"expected a sentence 'expected …; got …'; got {error}")
                continue
            raise AssertionError(f"expected a ModelError for points of shape {shape}; got an image")
        for shape in ([dim], [2, 0, dim]):
            got = direction(torch.zeros(shape))[0].shape
            require(got == torch.Size(shape), f"expected an image of shape {shape}; got {tuple(got)}")


BIJECTION_LAWS: tuple[Callable[[Bijection], None], ...] = (
    directions_are_inverse,
    log_determinant_is_autograds_everywhere,
    gradients_are_those_of_finite_differences,
    matrix_is_the_affine_map,
    graph_is_the_map,
    points_of_another_size_are_refused,
)
"""Every law of a bijection; each raises AssertionError where it is broken."""
