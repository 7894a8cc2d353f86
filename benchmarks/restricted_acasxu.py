"""Claim: ACAS Xu properties, restricted to probable inputs, are decided alike by veriflow and by outside tools.

    VERIFLOW_TOOLS=/path/to/tools/bin python benchmarks/restricted_acasxu.py FOLDER

FOLDER holds the networks and ``prop_N.vnnlib`` of the ACAS Xu benchmark. A flow is fitted to inputs drawn evenly from the
networks' input ranges; each property is then asked on its level set of a mass, in both directions, as `veriflow restrict`
writes it. The last column is the time of the quickest other tool over ours.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from exporters import read_onnx, read_vnnlib
from veriflow import Ball, TrainingOptions, USFlow, fit
from veriflow.density.radial import make_base
from veriflow.queries.restriction import restricted_queries
from verify import Outcome, verify

LOW = (-0.328422877, -0.5, -0.5, -0.5, -0.5)
HIGH = (0.679857769, 0.5, 0.5, 0.5, 0.5)
"""Normalised distance, angle, heading, own speed and the intruder's, as all properties have them at most."""

ASKED = (("1_1", 1), ("1_1", 2), ("1_1", 3), ("1_1", 4), ("2_2", 2), ("3_3", 2), ("1_9", 3), ("4_5", 4))
"""Network and property."""


def main() -> None:
    """Print the table and whether anybody disagrees."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mass", type=float, default=0.5)
    parser.add_argument("--with", dest="tools", default="marabou,vibecheck")
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = np.random.default_rng(0).uniform(LOW, HIGH, (4000, 5))
    flow = USFlow(5, blocks=1, hidden=(8,), base=make_base("gamma-mixture", 5, math.inf))
    fit(flow, rows, TrainingOptions(steps=1500), progress=False)
    ball = Ball(math.inf, flow.level_set(options.mass).radius, 5)
    print(f"share of {len(rows)} inputs in the level set of mass {options.mass:g}: {share(flow, ball, rows):.3f}")
    tools = options.tools.split(",")
    table = Table("network", "property", "direction", "veriflow", *tools, "others / ours")
    apart = 0
    for name, number in ASKED:
        network = read_onnx(options.folder / f"ACASXU_run2a_{name}_batch_2000.onnx")
        spec = read_vnnlib(options.folder / f"prop_{number}.vnnlib")
        for direction in ("latent-to-data", "data-to-latent"):
            (query,) = restricted_queries(flow, ball, network, spec, direction)
            ours = verify(query, timeout=options.timeout)
            theirs = [verify(query, tool, timeout=options.timeout) for tool in tools]
            verdicts = {v.outcome for v in (ours, *theirs)} - {Outcome.UNKNOWN}
            apart += len(verdicts) > 1
            times = [v.seconds for v in theirs if v.outcome is not Outcome.UNKNOWN]
            ratio = "" if ours.outcome is Outcome.UNKNOWN or not times else f"{min(times) / ours.seconds:.1f}"
            cells = [f"{v.outcome} {v.seconds:.2f} s" for v in (ours, *theirs)]
            table.add_row(name, f"prop_{number}", direction, *cells, ratio)
            print(name, number, direction, *cells, flush=True)
    Console(width=120).print(table)
    print(f"queries on which two disagree: {apart}")


def share(flow: USFlow, ball: Ball, rows: np.ndarray) -> float:
    """How many of the rows have their latent in the ball."""
    with torch.no_grad():
        z = flow.latent(torch.tensor(rows, dtype=torch.float32))
    return float((torch.linalg.vector_norm(z, ball.p, dim=-1) <= ball.radius).double().mean())


if __name__ == "__main__":
    main()
