"""Flows made easier to prove things about: sparse or low-rank conditioners, and numbers of few bits.

Magnitude pruning with fine-tuning under the mask: Han et al., *Learning both Weights and Connections for Efficient Neural
Networks*, NeurIPS 2015. Low rank: the truncated singular value decomposition (Eckart and Young, Psychometrika 1, 1936).

What is cut, fine-tuned and rounded is the bijection, which stays a uniformly scaling one, exactly: its parameters
change, not the form of its blocks. So the density still depends on the latent norm alone. At the end the base learns the
law of the norm anew, so that level sets hold the mass that they say.
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
    """A flow that solvers have an easier time with, and that is a little worse: cut, fine-tuned, rounded, recalibrated.

    Args:
        flow: a fitted flow; it is left alone.
        data: the rows ``[n, dim]`` it was fitted to, or others of the same law.
        keep: share of the weights of every matrix of conditioners and shears that stays, the largest ones. Hidden units
            that nobody reads any more are switched off.
        rank: of every such matrix, at most.
        bits: those of all constants: numbers of the blocks are rounded to whole numbers of so many bits times one power of two
            for each tensor, and so are the rows of the affine map at the end, as a graph has it. Constants of a block's
            graph are sums of products of two such numbers, exact in float32 up to 10 bits and 64 dimensions.
        steps: of fine-tuning, in which zeros stay zeros or ranks ranks; 0 for none. There is none for ``bits`` alone.
        options: of fine-tuning (but for the steps): a penalty on unstable ReLUs, the split of the rows, the learning rate.
        progress: whether a bar shows how fine-tuning gets on.

    Raises:
        ModelError: nothing to do, a share outside (0, 1], a rank that no matrix exceeds, bits outside 1 … 24 or so few that
            the last map is singular, steps below zero; ``keep`` with ``rank``, or ``rank`` with ``bits``, of which one would
            undo the other.
        DataError, TrainingError: as `fit`.
    """
    options = options or TrainingOptions()
    _check(flow, keep, rank, bits, steps, options.stability)
    train, validation = split(flow, data, options)
    result = USFlow.from_config(flow.config()).to(next(flow.parameters()).dtype)
    result.load_state_dict(flow.state_dict())
    hold = _holding(result, keep, rank)
    hold(result)
    if steps and (keep is not None or rank is not None or options.stability):
        tune(result, data, replace(options, steps=steps), hold=hold, progress=progress)
    if bits is not None:
        _round(result, bits)
        result.bits = bits
    recalibrate(result, train, validation)
    return result


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
    """What puts the matrices of a flow back to zeros where they have few weights now, or to a rank."""
    if keep is not None:
        masks = [_masks(block, keep) for block in _couplings(flow)]
        return lambda flow: _mask(flow, masks)
    if rank is not None:
        return lambda flow: _lower_rank(flow, rank)
    return lambda _: None


@torch.no_grad()
def _masks(block: CouplingBlock, keep: float) -> list[Tensor]:
    """1 where the matrices of a block keep a weight: the largest ones, but none of a unit that nobody reads."""
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
            bias.masked_fill_(~reader.any(dim=0), -1.0)  # never on, so that nobody has to ask


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
