"""From torch modules to graphs: flows, in either direction, and sequential ReLU networks."""

from __future__ import annotations

import copy
import itertools
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import GraphError
from ..numerics.arrays import Matrix
from ..numerics.grids import grid_steps, on_grid
from ..piecewise.from_torch import array_of
from ..piecewise.graph import Affine, Graph, Node, Relu, identity
from .bijections.affine import AffineBijection, AffineProduct, Standardisation
from .bijections.base import Bijection
from .bijections.chain import Chain
from .bijections.coupling import ResidualBijection

Direction = Literal["forward", "inverse"]

FARTHEST = 2.0**10
"""In deviations: rounding a mean of at most this size to float32 moves it by at most 2⁻¹⁴ deviations."""


def lower_flow(bijection: Bijection, direction: Direction = "forward", bits: int | None = None) -> Graph:
    """The graph of a bijection, z → x ("forward") or x → z ("inverse").

    Weights are folded in float64 and rounded to float32 once; the rounded graph *is* the flow of a query. Blocks keep
    their residual form, so every tensor ``s1, s2, …`` of the stream and the end ``x`` (or ``z``) has ``dim`` entries.
    Means of the data that are too large for float32 (`offset_apart`) are added, or subtracted, unrounded in an affine map of
    their own next to x.

    With ``bits``, each row of an affine map z → x is rounded to a grid of that many bits instead of to float32: `compress`
    chose the parameters so that the map is on that grid but for rounding. The blocks' constants are sums of products of
    parameters, and have few bits where these do.

    Raises:
        GraphError: a bijection that is neither affine nor a residual block.
    """
    precise = copy.deepcopy(bijection).double()
    parts = _affine_runs_joined(list(precise) if isinstance(precise, Chain) else [precise])
    apart = torch.zeros(bijection.dim, dtype=torch.float64)
    with torch.no_grad():
        if isinstance(parts[-1], AffineProduct):
            parts[-1], apart = offset_apart(parts[-1])
        offset = array_of(apart)
        if direction == "forward":
            nodes = _lower_parts(parts, "z", "s" if offset.any() else "x", direction, bits)
            if offset.any():
                nodes.append(Affine("x", (("s", identity(bijection.dim)),), offset))
            return Graph("z", bijection.dim, tuple(nodes), "x")
        nodes = _lower_parts(parts[::-1], "s" if offset.any() else "x", "z", direction, bits)
        if offset.any():
            nodes.insert(0, Affine("s", (("x", identity(bijection.dim)),), -offset))
        return Graph("x", bijection.dim, tuple(nodes), "z")


def offset_apart(product: AffineProduct) -> tuple[AffineProduct, Tensor]:
    """The map without the large means, and these ``[dim]``: the ones beyond `FARTHEST` deviations, zeros elsewhere.

    Only a standardisation at the end has means.
    """
    *others, last = product
    if not isinstance(last, Standardisation):
        return product, torch.zeros(product.dim)
    apart = last.mean.where(last.mean.abs() > FARTHEST * last.deviation, 0.0)
    near = Standardisation(product.dim)
    near.set(last.mean - apart, last.deviation)
    return AffineProduct([*others, near]), apart


def _affine_runs_joined(parts: list[Bijection]) -> list[Bijection]:
    joined: list[Bijection] = []
    for affine, run in itertools.groupby(parts, lambda part: isinstance(part, AffineBijection)):
        members = list(run)
        joined += [AffineProduct([p for p in members if isinstance(p, AffineBijection)])] if affine else members
    return joined


def _lower_parts(parts: list[Bijection], stream: str, end: str, direction: Direction, bits: int | None) -> list[Node]:
    """The nodes of one part after the other, rounded to float32."""
    nodes: list[Node] = []
    for number, part in enumerate(parts, start=1):
        target = end if number == len(parts) else f"s{number}"
        if isinstance(part, ResidualBijection):
            nodes += _lower_block(part, stream, target, 1.0 if direction == "forward" else -1.0)
        elif isinstance(part, AffineBijection):
            nodes.append(_lower_affine(part, stream, target, direction, bits))
        else:
            raise GraphError(f"expected affine maps and residual blocks; got {type(part).__name__}")
        stream = target
    return [_rounded(node) for node in nodes]


def _lower_block(block: ResidualBijection, stream: str, target: str, sign: float) -> list[Node]:
    *hidden, (weight, bias) = block.residual_layers()
    nodes: list[Node] = []
    tensor = stream
    for depth, (w, b) in enumerate(hidden, start=1):
        pre, post = f"{target}_a{depth}", f"{target}_h{depth}"
        nodes += [Affine(pre, ((tensor, array_of(w)),), array_of(b)), Relu(post, pre)]
        tensor = post
    terms = ((stream, identity(block.dim)), (tensor, sign * array_of(weight)))
    return [*nodes, Affine(target, terms, sign * array_of(bias))]


def _lower_affine(part: AffineBijection, stream: str, target: str, direction: Direction, bits: int | None) -> Affine:
    if direction == "forward":
        matrix, shift = part.matrix(), part.shift()
        if bits is not None:
            steps = grid_steps(matrix, bits)
            matrix, shift = on_grid(matrix, steps), on_grid(shift, steps[:, 0])
        return Affine(target, ((stream, array_of(matrix)),), array_of(shift))
    inverse = part.solve(torch.eye(part.dim, dtype=torch.float64))
    return Affine(target, ((stream, array_of(inverse)),), array_of(-inverse @ part.shift()))


def _rounded(node: Node) -> Node:
    def single(matrix: Matrix) -> Matrix:
        return matrix.astype(np.float32).astype(np.float64)

    if isinstance(node, Relu):
        return node
    return Affine(node.output, tuple((name, single(w)) for name, w in node.terms), single(node.bias))
