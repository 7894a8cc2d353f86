"""Flows made easier to prove things about: sparse or low-rank conditioners, and numbers of few bits.

Magnitude pruning with fine-tuning under the mask: Han et al., *Learning both Weights and Connections for Efficient Neural
Networks*, NeurIPS 2015. Low rank: the truncated singular value decomposition (Eckart and Young, Psychometrika 1, 1936).

Only parameters change, not the form of the blocks: the bijection stays a uniformly scaling one, exactly, and the density
still depends on the latent norm alone. At the end the law of the norm is fitted again, so that level sets have the mass
that they claim.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import ModelError
from ..flows.bijections.affine import AffineProduct
from ..flows.bijections.coupling import Conjugate, CouplingBlock, ResidualBijection
from ..flows.flow import USFlow
from ..flows.lowering import offset_apart
from ..numerics.grids import MOST_BITS, grid_steps, on_grid
from ..tables.rows import Rows
from .fit import split, tune
from .options import TrainingOptions
from .recalibration import recalibrate


def compress(
    flow: USFlow,
    data: Rows,
    *,
    keep: float | None = None,
    rank: int | None = None,
    bits: int | None = None,
    steps: int = 1000,
    options: TrainingOptions | None = None,
    progress: bool = True,
) -> USFlow:
    """A flow that is easier for solvers and fits slightly worse: pruned, fine-tuned, rounded, recalibrated.

    Args:
        flow: a fitted flow; it is left alone.
        data: the rows ``[n, dim]`` it was fitted to, or others of the same law.
        keep: share of the weights that stays in every matrix of conditioners and shears, the largest in magnitude. Hidden
            units with no outgoing weight left get a negative bias, so that they are never active.
        rank: largest rank of every such matrix.
        bits: number of bits of the constants. Every tensor of the blocks becomes whole numbers of so many bits times one
            power of two, and so does every row of the last affine map, as the graph has it. Constants of a block's graph
            are sums of products of two such numbers, exact in float32 up to 10 bits and 64 dimensions.
        steps: steps of fine-tuning, during which zeros stay zeros, or ranks stay; 0 for none. With ``bits`` alone there is
            no fine-tuning.
        options: for fine-tuning, but for the number of steps: penalty on unstable ReLUs, split of the rows, learning rate.
        progress: whether a bar shows how fine-tuning gets on.

    Raises:
        ModelError: nothing to do, a share outside (0, 1], a rank that no matrix exceeds, bits outside 1 … 24 or so few that
            the last map is singular, steps below zero; ``keep`` with ``rank``, or ``rank`` with ``bits``, since each would
            undo the other.
        DataError, TrainingError: as `fit`.
    """
    options = options or TrainingOptions()
    _check(flow, keep, rank, bits, steps, options.stability)
    train, validation = split(flow, data, options)
    result = flow.with_bits(None)
    hold = _holding(result, keep, rank)
    hold(result)
    is_tuned = bool(steps) and (keep is not None or rank is not None or bool(options.stability))
    if is_tuned:
        tune(result, data, replace(options, steps=steps), hold=hold, progress=progress)
    if bits is not None:
        _round(result, bits)
    recalibrate(result, train, validation)
    return result.with_bits(flow.bits if bits is None and not is_tuned else bits)


def _check(flow: USFlow, keep: float | None, rank: int | None, bits: int | None, steps: int, stability: float) -> None:
    if keep is rank is bits is None and not stability:
        raise ModelError("expected a share to keep, a rank, bits or a stability; got none of them")
    if keep is not None and rank is not None:
        raise ModelError("expected a share to keep or a rank, of which one undoes the other; got both")
    if rank is not None and bits is not None:
        raise ModelError("expected a rank without bits, for rounding does not keep a rank; got both")
    if keep is not None and not 0 < keep <= 1:
        raise ModelError(f"expected a share to keep above 0, at most 1; got {keep}")
    if bits is not None and not 1 <= bits <= MOST_BITS:
        raise ModelError(f"expected 1 to {MOST_BITS} bits; got {bits}")
    if steps < 0:
        raise ModelError(f"expected zero or more steps of fine-tuning; got {steps}")
    largest = max((min(matrix.shape) for block in _couplings(flow) for matrix in _matrices(block)), default=0)
    if (keep is not None or rank is not None) and not largest:
        raise ModelError("expected a flow with blocks, whose conditioners can be cut; got one without")
    if rank is not None and not 1 <= rank <= largest:
        raise ModelError(f"expected a rank from 1 to {largest}, the largest of any matrix of the flow; got {rank}")


def _couplings(flow: USFlow) -> list[CouplingBlock]:
    blocks = [part for part in flow.parts() if isinstance(part, ResidualBijection)]
    inner = [block.block if isinstance(block, Conjugate) else block for block in blocks]
    return [block for block in inner if isinstance(block, CouplingBlock)]


def _matrices(block: CouplingBlock) -> list[Tensor]:
    """The shear and the weights of all layers."""
    return [block.shear, *(weight for weight, _ in block.conditioner.layers())]


def _holding(flow: USFlow, keep: float | None, rank: int | None) -> Callable[[USFlow], None]:
    """The projection after each step: onto the pattern of the largest weights now, onto a rank, or none."""
    if keep is not None:
        masks = [_masks(block, keep) for block in _couplings(flow)]
        return lambda flow: _mask(flow, masks)
    if rank is not None:
        return lambda flow: _lower_rank(flow, rank)
    return lambda _: None


@torch.no_grad()
def _masks(block: CouplingBlock, keep: float) -> list[Tensor]:
    """1 where the matrices of a block keep a weight: the largest ones, but none of a unit without outgoing weights."""
    masks = [_largest(matrix, keep) for matrix in _matrices(block)]
    layers = masks[1:]
    for layer, reader in zip(layers[-2::-1], layers[:0:-1], strict=True):
        layer.mul_(reader.any(dim=0)[:, None])
    return masks


def _largest(matrix: Tensor, keep: float) -> Tensor:
    mask = torch.zeros_like(matrix)
    kept = matrix.abs().flatten().topk(math.ceil(keep * matrix.numel())).indices
    mask.view(-1)[kept] = 1
    return mask


@torch.no_grad()
def _mask(flow: USFlow, masks: list[list[Tensor]]) -> None:
    for block, its_masks in zip(_couplings(flow), masks, strict=True):
        for matrix, mask in zip(_matrices(block), its_masks, strict=True):
            matrix.mul_(mask)
        for (_, bias), reader in zip(block.conditioner.layers()[:-1], its_masks[2:], strict=True):
            bias.masked_fill_(~reader.any(dim=0), -1.0)  # never active, so that solvers need not split it


@torch.no_grad()
def _lower_rank(flow: USFlow, rank: int) -> None:
    for block in _couplings(flow):
        for matrix in _matrices(block):
            if min(matrix.shape) > rank:
                left, values, right = torch.linalg.svd(matrix, full_matrices=False)
                torch.mm(left[:, :rank] * values[:rank], right[:rank], out=matrix)


@torch.no_grad()
def _round(flow: USFlow, bits: int) -> None:
    """Put the numbers of all blocks on grids, and the LU map to where its product with the standardisation is on one."""
    for block in _couplings(flow):
        for parameter in block.parameters():
            flat = parameter.double().flatten()
            parameter.copy_(on_grid(flat, grid_steps(flat, bits)).view_as(parameter))
    matrix, shift = _last_map(flow)
    steps = grid_steps(matrix, bits)
    short, short_shift = on_grid(matrix, steps), on_grid(shift, steps[:, 0])
    scale = flow.deviations()
    inverse, singular = torch.linalg.inv_ex(short)
    factors = None if singular else _factors(inverse * scale)
    if factors is not None:
        flow.lu.factors.copy_(factors)
        flow.lu.offset.add_((short_shift - shift) / scale)
        matrix, shift = _last_map(flow)
        steps = grid_steps(matrix, bits)
    if factors is None or not (
        torch.equal(on_grid(matrix, steps), short) and torch.equal(on_grid(shift, steps[:, 0]), short_shift)
    ):
        raise ModelError(
            f"expected bits in which the last map of the flow stays invertible, in float32 too; got {bits}"
        )


def _last_map(flow: USFlow) -> tuple[Tensor, Tensor]:
    """Matrix and shift, in float64, of the LU map and the standardisation together, as a graph has them."""
    precise = copy.deepcopy(flow).double()
    last, _ = offset_apart(AffineProduct([precise.lu, precise.standardisation]))
    return last.matrix(), last.shift()


def _factors(matrix: Tensor) -> Tensor | None:
    """A matrix ``[n, n]`` as `LU.factors`, without exchanges of rows; None where its diagonal would not be positive."""
    lower, upper = torch.zeros_like(matrix), matrix.clone()
    for column in range(len(matrix)):
        if not upper[column, column] > 0:
            return None
        lower[column + 1 :, column] = upper[column + 1 :, column] / upper[column, column]
        upper[column + 1 :] -= torch.outer(lower[column + 1 :, column], upper[column])
    return lower + upper.triu(1) + upper.diagonal().log().diag()
