"""The demo's data and models: Breast Cancer Wisconsin, a ReLU classifier, a flow for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from tqdm.auto import tqdm

from veriflow.flows.flow import USFlow
from veriflow.numerics.statistics import Fit, kolmogorov_smirnov
from veriflow.piecewise.evaluate import evaluate
from veriflow.piecewise.graph import Graph
from veriflow.training.fit import History, fit
from veriflow.training.options import TrainingOptions

LABELS = {"benign": 1, "malignant": 0}
"""Class → the classifier's output for it, as in scikit-learn."""

HELD_OUT = 0.25
"""Share of the rows that no model sees."""

WIDTH = 16
"""Of each of the two hidden layers of the classifier."""

BLOCKS, HIDDEN = 2, 8
"""Coupling blocks of each flow, and the width of their conditioners."""

Rows = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Data:
    """Rows ``[n, d]`` of each class: those that models learn from, and those that they never see."""

    features: tuple[str, ...]
    train: Mapping[str, Rows]
    held_out: Mapping[str, Rows]


def load_data(features: int, seed: int) -> Data:
    """The first columns of the data set that scikit-learn brings along, split by class; 569 patients in all."""
    bunch: Any = load_breast_cancer()
    train, held_out, train_labels, held_out_labels = train_test_split(
        bunch.data[:, :features], bunch.target, test_size=HELD_OUT, stratify=bunch.target, random_state=seed
    )
    return Data(
        tuple(str(name) for name in bunch.feature_names[:features]),
        {name: train[train_labels == label] for name, label in LABELS.items()},
        {name: held_out[held_out_labels == label] for name, label in LABELS.items()},
    )


def labelled(rows: Mapping[str, Rows]) -> tuple[Rows, NDArray[np.int64]]:
    """All rows ``[n, d]`` with their labels ``[n]``."""
    labels = [LABELS[name] for name, values in rows.items() for _ in values]
    return np.concatenate(list(rows.values())), np.array(labels)


def train_classifier(rows: Mapping[str, Rows], steps: int, progress: bool) -> nn.Sequential:
    """A network of 2 × 16 ReLUs on raw units; the standardisation is folded into its first layer in float64."""
    values, labels = labelled(rows)
    mean, deviation = torch.tensor(values.mean(axis=0)), torch.tensor(values.std(axis=0))
    inputs = ((torch.tensor(values) - mean) / deviation).float()
    targets = torch.tensor(labels)
    first = nn.Linear(inputs.shape[1], WIDTH)
    network = nn.Sequential(first, nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in tqdm(range(steps), disable=not progress, unit="step", leave=False):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(inputs), targets))
        optimizer.step()
    with torch.no_grad():
        weight = first.weight.double() / deviation
        first.bias.copy_(first.bias.double() - weight @ mean)
        first.weight.copy_(weight)
    return network


def accuracy(network: Graph, rows: Mapping[str, Rows]) -> float:
    """Share of the rows of all classes whose largest output is that of their class."""
    values, labels = labelled(rows)
    outputs = evaluate(network, torch.tensor(values))[network.output]
    return float((outputs.argmax(dim=1).numpy() == labels).mean())


@dataclass(frozen=True, eq=False)
class ClassModel:
    """The flow of one class, how it was trained, and its class's rows.

    Attributes:
        name: the class.
        flow: trained on ``train``.
        history: of that training.
        train: rows ``[n, d]``.
        held_out: rows ``[m, d]`` that the flow never saw.
    """

    name: str
    flow: USFlow
    history: History
    train: Rows
    held_out: Rows

    def norms(self, rows: Rows) -> Rows:
        """Latent norms ``[n]`` of data rows ``[n, d]``."""
        return self.flow.norm(rows).double().numpy()

    @cached_property
    def held_out_nll(self) -> float:
        """Mean negative log-density of the held-out rows, in nats."""
        return float(-self.flow.log_prob(self.held_out).mean())

    @cached_property
    def norm_fit(self) -> Fit:
        """How well the latent norms of held-out rows follow their law, on which every mass rests."""
        return kolmogorov_smirnov(self.norms(self.held_out), self.flow.base.law.cdf)


def train_class_model(name: str, data: Data, options: TrainingOptions, progress: bool) -> ClassModel:
    """A small flow for one class."""
    flow = USFlow(len(data.features), blocks=BLOCKS, hidden=(HIDDEN,), features=data.features)
    history = fit(flow, data.train[name], options, progress=progress)
    return ClassModel(name, flow, history, data.train[name], data.held_out[name])
