"""Models that several benchmarks share: trained once with fixed seeds and kept in benchmarks/cache."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import zuko
from sklearn.datasets import load_digits, make_moons
from torch import nn

from exporters import graph_to_onnx, read_onnx
from veriflow import TrainingOptions, USFlow, fit, load_flow, make_base, save_flow
from veriflow.files.whole_files import write_atomically
from veriflow.piecewise.from_torch import from_torch
from veriflow.piecewise.graph import Graph

CACHE = Path(__file__).parent / "cache"


def moons(rows: int = 10_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two moons with noise .05."""
    return make_moons(rows, noise=0.05, random_state=seed)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 8×8 digits, dequantised by uniform noise."""
    x, y = load_digits(return_X_y=True)
    return x + np.random.default_rng(0).uniform(0, 1, x.shape), y


def classifier(name: str, x: np.ndarray, y: np.ndarray, width: int = 32, steps: int = 500) -> Graph:
    """A 2×width ReLU classifier on raw inputs, as read back from its ONNX file."""
    path = CACHE / f"{name}.onnx"
    if not path.exists():
        torch.manual_seed(0)
        mean, deviation = x.mean(0), x.std(0) + 1e-6
        net = nn.Sequential(
            nn.Linear(x.shape[1], width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, int(y.max()) + 1),
        )
        inputs, targets = torch.tensor((x - mean) / deviation, dtype=torch.float32), torch.tensor(y)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
        first = net[0]
        with torch.no_grad():
            weight = first.weight.double() / torch.tensor(deviation)
            first.bias.copy_(first.bias.double() - weight @ torch.tensor(mean))
            first.weight.copy_(weight)
        CACHE.mkdir(exist_ok=True)
        write_atomically(path, graph_to_onnx(from_torch(net, x.shape[1])))
    return read_onnx(path)


def flow(name: str, x: np.ndarray, p: float, blocks: int, hidden: int, steps: int = 1500) -> USFlow:
    """A flow with the default base."""
    norm = "inf" if p == math.inf else f"{p:g}"
    path = CACHE / f"{name}-p{norm}-{blocks}x{hidden}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        model = USFlow(x.shape[1], blocks=blocks, hidden=(hidden,), base=make_base("gamma-mixture", x.shape[1], p))
        fit(model, x, TrainingOptions(steps=steps, learning_rate=5e-3), progress=False)
        CACHE.mkdir(exist_ok=True)
        save_flow(model, path)
    return load_flow(path)


def zuko_nice(d: int, couplings: int, hidden: tuple[int, ...]) -> zuko.flows.NICE:
    """Zuko's NICE with additive couplings."""
    additive = zuko.transforms.AdditiveTransform
    return zuko.flows.NICE(d, transforms=couplings, hidden_features=hidden, univariate=additive, shapes=[()])
