"""Figures of how well a flow fits and how hard proofs about it are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..flows.flow import Flow
from ..numerics.arrays import Vector
from ..numerics.grids import MOST_BITS
from ..piecewise.bounds.crown import symbolic_bounds
from ..piecewise.graph import Affine, Graph
from ..regions.ball import Ball


@dataclass(frozen=True)
class ProofCost:
    """Figures of a flow and of its graph z → x, which solvers work on.

    Attributes:
        nll: mean negative log density of rows, nats per row.
        unstable: number of ReLUs that CROWN bounds leave unstable over a latent ball.
        relus: number of ReLUs.
        weights: number of non-zero weights, without the identities of residual blocks.
        bits: number of bits of the longest constant, from 1, for a power of two, to 24.
        deviation: largest difference between the graph and the torch model, in units of the data, over samples.
    """

    nll: float
    unstable: int
    relus: int
    weights: int
    bits: int
    deviation: float


def proof_cost(flow: Flow, rows: Tensor, mass: float) -> ProofCost:
    """The costs of a flow on rows ``[n, dim]`` and over its level set of a mass, or the ball around it if it is shells.

    Raises:
        RegionError: a mass outside (0, 1).
    """
    region = Ball(flow.base.p, flow.level_set(mass).intervals[-1][1], flow.dim)
    graph = flow.graph()
    weights = [w for node in graph.nodes if isinstance(node, Affine) for _, w in node.terms if not sparse.issparse(w)]
    with torch.no_grad():
        nll = float(-flow.log_prob(rows).double().mean())
    return ProofCost(
        nll,
        int(symbolic_bounds(graph, region).unstable(graph)),
        graph.relu_count,
        sum(int(np.count_nonzero(weight)) for weight in weights),
        longest_constant(graph),
        flow.rounding_deviation(),
    )


def longest_constant(graph: Graph) -> int:
    """How many bits the longest dense constant of a graph of float32 constants has, from its first one to its last."""
    constants: list[Vector] = []
    for node in graph.nodes:
        if isinstance(node, Affine):
            constants += [node.bias, *(np.ravel(weight) for _, weight in node.terms if not sparse.issparse(weight))]
    values = np.concatenate(constants) if constants else np.zeros(0)
    whole = np.abs(np.frexp(values)[0] * 2.0**MOST_BITS).astype(np.int64)
    whole = whole[whole > 0]
    lowest = whole & -whole
    return MOST_BITS - int(np.log2(lowest.min())) if whole.size else 0
