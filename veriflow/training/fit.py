"""Fitting a flow by maximum likelihood, or maximum a posteriori with the determinant prior."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import DataError, TrainingError
from ..flows.flow import USFlow
from ..runtime.lazy_imports import LazyImports
from ..tables.rows import Rows, as_tensor
from .checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from .objective import Objective
from .options import TrainingOptions
from .preparation import dequantise, short_standardisation, split_rows, standardisation
from .stability import Stability

with LazyImports(__name__) as imports:
    from lightning_fabric import Fabric  # a second and a half, which nothing but training needs

_log = logging.getLogger(__name__)

SMALL = 1_000_000
"""Number of parameters below which training uses one CPU thread."""

MOST_PROCESSES = 64
"""Devices that a CPU may stand for."""


@dataclass
class History:
    """What happened: at each validation the mean training NLL, the validation NLL and the penalty on unstable ReLUs.

    All in nats per row. Without the penalty there are zeros.
    """

    steps: list[int] = field(default_factory=list)
    train_nll: list[float] = field(default_factory=list)
    validation_nll: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Index of the best validation: that of the lowest NLL, or sum of NLL and penalty."""
        return int(np.argmin(np.add(self.validation_nll, self.penalty)))

    @property
    def best_step(self) -> int:
        """Step of the best validation: the flow is left as it was there."""
        return self.steps[self.best]

    @property
    def best_nll(self) -> float:
        """Validation NLL of the best validation, in nats per row."""
        return self.validation_nll[self.best]


def fit(
    flow: USFlow,
    data: Rows,
    options: TrainingOptions | None = None,
    *,
    checkpoint: Path | None = None,
    devices: int = 1,
    progress: bool = True,
) -> History:
    """Train ``flow`` on rows ``[n, dim]`` (`veriflow.tables.rows`), and leave it at its best validated step, on the CPU.

    Columns of whole numbers, as the flow names them, get the noise of `dequantise` first. The flow then takes the means and
    deviations of the training rows. The loss is mean NLL − log prior / n. The device
    is chosen automatically; with ``devices`` above one, lightning-fabric spreads each batch over them. With a
    ``checkpoint`` path the run is saved at every validation, and a later call with the same data and options goes on
    from there, to the same result.

    Raises:
        DataError: another shape, fewer than four rows, NaN or infinity (named by row), a constant column, a column of
            whole numbers that holds others.
        TrainingError: options that make no sense, more devices than there are, a flow of few bits, which training would not
            keep, a loss that is not finite (named by step), a checkpoint of another run.
    """
    options = options or TrainingOptions()
    _refuse_rounded(flow)
    rows = _checked_rows(flow, data, options.seed)
    train, validation = _split(rows, options)
    mean, deviation = short_standardisation(*standardisation(train.numpy()))
    flow.standardise(torch.as_tensor(mean), torch.as_tensor(deviation))
    run = fingerprint(flow.config(), asdict(options), rows)
    start = load_checkpoint(checkpoint, run, flow) if checkpoint is not None and checkpoint.exists() else None
    save = None if checkpoint is None else partial(save_checkpoint, checkpoint, run)
    run_once = partial(_train, options=options, progress=progress, start=start, save=save)
    return _launch(run_once, flow, train, validation, devices)


def tune(
    flow: USFlow,
    data: Rows,
    options: TrainingOptions | None = None,
    *,
    hold: Callable[[USFlow], None] | None = None,
    progress: bool = True,
) -> History:
    """Train a fitted flow on from where it stands, and leave it at its best validated step, on the CPU.

    As `fit`, but that the flow keeps the means and deviations that it begins from. ``hold`` is called after every step, to
    put the parameters back, in place, to where they must be: a projected gradient method.

    Raises:
        DataError, TrainingError: as `fit`.
    """
    options = options or TrainingOptions()
    _refuse_rounded(flow)
    train, validation = split(flow, data, options)
    run_once = partial(_train, options=options, progress=progress, hold=hold)
    return _launch(run_once, flow, train, validation, 1)


def _refuse_rounded(flow: USFlow) -> None:
    if flow.bits is not None:
        raise TrainingError(
            f"expected a flow that is not rounded, such as its copy flow.with_bits(None); got one of {flow.bits} bits"
        )


def split(flow: USFlow, data: Rows, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """The rows ``[n, dim]`` that training with these options learns from, and those that it validates on.

    In float64; columns of whole numbers have their noise.

    Raises:
        DataError: as `fit`, but that columns may be constant.
    """
    return _split(_checked_rows(flow, data, options.seed), options)


def _split(rows: Tensor, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    train, validation = split_rows(len(rows), options.validation, options.seed)
    return rows[train], rows[validation]


_Run = Callable[["Fabric", USFlow, Tensor, Tensor], tuple[dict[str, np.ndarray], History]]


@imports.on_call
def _launch(run_once: _Run, flow: USFlow, train: Tensor, validation: Tensor, devices: int) -> History:
    most = torch.cuda.device_count() or MOST_PROCESSES
    if not 1 <= devices <= most:
        raise TrainingError(f"expected from 1 to {most} devices; got {devices}")
    accelerator = "cpu" if torch.backends.mps.is_available() else "auto"  # MPS has no float64 for the standardisation
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy="ddp_spawn" if devices > 1 else "auto")
    with _threads_for(flow):
        result: tuple[dict[str, np.ndarray], History] = fabric.launch(run_once, flow, train, validation)
    state, history = result
    flow.cpu().load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return history


@contextmanager
def _threads_for(flow: USFlow) -> Iterator[None]:
    """One CPU thread for small flows, where more only wait for each other."""
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in flow.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _checked_rows(flow: USFlow, data: Rows, seed: int) -> Tensor:
    """The data as float64 rows on the CPU, with noise in the columns of whole numbers."""
    rows = as_tensor(data, flow.features).detach().cpu().double()
    if rows.ndim != 2 or rows.shape[1] != flow.dim:
        raise DataError(f"expected rows of shape [n, {flow.dim}]; got {list(rows.shape)}")
    if len(rows) < 4:
        raise DataError(f"expected at least four rows to train and validate on; got {len(rows)}")
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        raise DataError(
            f"expected finite numbers; got NaN or infinity in row {int(finite.logical_not().nonzero()[0, 0])}"
        )
    columns = flow.integral_columns
    return torch.as_tensor(dequantise(rows.numpy(), columns, seed)) if columns else rows


def _train(
    fabric: Fabric,
    flow: USFlow,
    train: Tensor,
    validation: Tensor,
    *,
    options: TrainingOptions,
    progress: bool,
    start: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
    hold: Callable[[USFlow], None] | None = None,
) -> tuple[dict[str, np.ndarray], History]:
    """The training loop of one process; the best state comes back as arrays, which outlive the process, with the history."""
    flow.to(fabric.device)
    train, validation = train.to(fabric.device), validation.to(fabric.device)
    if start is not None:
        flow.load_state_dict(start.flow)
    with _one_vector(flow) as vector:
        optimizer = torch.optim.Adam([vector], lr=options.learning_rate, fused=True)
        if start is not None:
            optimizer.load_state_dict(_adam_state(optimizer, start))
        weight, mass = options.stability, options.stability_mass
        stability = Stability(flow, weight, mass, validation) if weight else None
        objective = Objective(flow, train, options.prior_sigma, stability)
        history = History(**start.history) if start else History()
        best = start.best if start else _snapshot(flow)
        total = torch.zeros((), device=fabric.device)
        hidden = not progress or fabric.global_rank > 0
        bar = tqdm(
            total=options.steps, initial=history.steps[-1] if start else 0, disable=hidden, unit="step", leave=False
        )
        batches = _batches(len(train), bar.n + 1, options, fabric)
        for step in range(bar.n + 1, options.steps + 1):
            if _is_over(history, options):
                break
            rate = 0.5 * options.learning_rate * (1 + math.cos(math.pi * (step - 1) / options.steps))
            optimizer.param_groups[0]["lr"] = rate
            assert vector.grad is not None  # noqa: S101 - for the type checker
            vector.grad.zero_()
            loss, nll = objective(next(batches))
            if fabric.world_size > 1:
                vector.grad.copy_(fabric.all_reduce(vector.grad))
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"expected a finite loss; got {loss.item()} at step {step} (try a lower learning rate)"
                )
            length = float(torch.linalg.vector_norm(vector.grad))
            if length > options.clip:
                vector.grad.mul_(options.clip / length)
            optimizer.step()
            if hold is not None:
                hold(flow)
            total += nll.detach()
            bar.update()
            if step % options.validate_every == 0 or step == options.steps:
                with torch.no_grad():
                    held_out = float(-flow.log_prob(validation).mean())
                    if stability is not None:
                        stability.measure()
                    penalty = 0.0 if stability is None else float(stability.value())
                since = step - (history.steps[-1] if history.steps else 0)
                history.steps.append(step)
                history.train_nll.append(float(total) / since)
                history.validation_nll.append(held_out if math.isfinite(held_out) else math.inf)
                history.penalty.append(penalty)
                total.zero_()
                fitted, most = history.train_nll[-1], options.steps
                _log.info("step %d of %d: NLL %.4f in training, %.4f in validation", step, most, fitted, held_out)
                bar.set_postfix(nll=f"{history.train_nll[-1]:.3f}", validation=f"{held_out:.3f}")
                if history.best_step == step:
                    best = _snapshot(flow)
                if save is not None and fabric.global_rank == 0:
                    adam = optimizer.state[vector]
                    moments = {name: adam[name] for name in ("exp_avg", "exp_avg_sq", "step")}
                    save(Checkpoint(_snapshot(flow), best, moments, asdict(history)))
        bar.close()
    return {name: tensor.numpy() for name, tensor in best.items()}, history


def _is_over(history: History, options: TrainingOptions) -> bool:
    return bool(history.steps) and len(history.steps) - 1 - history.best >= options.patience


def _batches(rows: int, first_step: int, options: TrainingOptions, fabric: Fabric) -> Iterator[Tensor]:
    """Row numbers of this process's share of each batch, from a step on: a function of the seed and the step alone."""
    per_pass = max(1, rows // options.batch_size)
    epoch, place = divmod(first_step - 1, per_pass)
    for number in itertools.count(epoch):
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + number)
        order = torch.randperm(rows, generator=generator)[: per_pass * options.batch_size]
        order = order[: len(order) // fabric.world_size * fabric.world_size].to(fabric.device)
        for batch in torch.split(order, options.batch_size)[place:]:
            yield batch[fabric.global_rank :: fabric.world_size]
        place = 0


def _snapshot(flow: USFlow) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in flow.state_dict().items()}


def _adam_state(optimizer: torch.optim.Optimizer, start: Checkpoint) -> dict[str, Any]:
    return {**optimizer.state_dict(), "state": {0: dict(start.moments)}}


@contextmanager
def _one_vector(flow: USFlow) -> Iterator[nn.Parameter]:
    """All parameters, and their gradients, as views of one vector: the optimiser's work is then one call."""
    parameters = [p for p in flow.parameters() if p.requires_grad]
    vector = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach().clone())
    vector.grad = torch.zeros_like(vector)
    place = 0
    for parameter in parameters:
        end = place + parameter.numel()
        parameter.data = vector.data[place:end].view_as(parameter)
        parameter.grad = vector.grad[place:end].view_as(parameter)
        place = end
    try:
        yield vector
    finally:
        for parameter in parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None
