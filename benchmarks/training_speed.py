"""Question: how many times as many steps per CPU-second as zuko's additive NICE does training take? Aim: 1.5.

Same couplings, widths, batch (256) and rows, one thread, one process, alternating rounds; the best round of each counts,
which is the one that other programs disturbed least. Ours is `fit` as users call it (shuffling, determinant prior,
clipping, learning-rate schedule, validation); zuko's is the loop of its tutorial, once with Adam as the tutorial writes
it and once with the fused Adam that ours uses too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from models import digits, moons, zuko_nice
from rich.console import Console
from rich.table import Table

from veriflow import TrainingOptions, USFlow, fit

STEPS, ROUNDS, BATCH = 400, 10, 256


def ours(x: np.ndarray, couplings: int, hidden: tuple[int, ...]) -> Callable[[], None]:
    """One round of our training."""
    flow = USFlow(x.shape[1], blocks=couplings, hidden=hidden)
    rows = torch.tensor(x, dtype=torch.float32)
    options = TrainingOptions(steps=STEPS, batch_size=BATCH)
    return lambda: void(fit(flow, rows, options, progress=False))


def zukos(x: np.ndarray, couplings: int, hidden: tuple[int, ...], fused: bool) -> Callable[[], None]:
    """One round of zuko's."""
    flow = zuko_nice(x.shape[1], couplings, hidden)
    rows = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, fused=fused or None)

    def round_() -> None:
        for _ in range(STEPS):
            loss = -flow().log_prob(rows[torch.randint(0, len(rows), (BATCH,))]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return round_


def void(_: object) -> None:
    """Nothing."""


def steps_per_second(round_: Callable[[], None]) -> float:
    """Steps per CPU-second of one round."""
    start = time.process_time()
    round_()
    return STEPS / (time.process_time() - start)


def main() -> None:
    """Print the table and the ratios."""
    torch.set_num_threads(1)
    cases = [
        ("two moons", moons()[0], 4, (32, 32)),
        ("two moons", moons()[0], 6, (32, 32)),
        ("digits", digits()[0], 6, (128, 128)),
    ]
    table = Table("data", "couplings", "widths", "veriflow", "zuko", "zuko, fused Adam", "ratio", "ratio, fused")
    for name, x, couplings, hidden in cases:
        torch.manual_seed(0)
        runs = [ours(x, couplings, hidden), zukos(x, couplings, hidden, False), zukos(x, couplings, hidden, True)]
        rates = np.array([[steps_per_second(run) for run in runs] for _ in range(ROUNDS)])
        a, b, c = rates.max(axis=0)
        table.add_row(
            name, str(couplings), str(hidden), f"{a:.0f}", f"{b:.0f}", f"{c:.0f}", f"{a / b:.2f}", f"{a / c:.2f}"
        )
    Console(width=120).print("steps per CPU-second, batch 256, one thread")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
