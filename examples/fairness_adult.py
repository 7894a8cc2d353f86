"""Adult: does changing `sex` alone change what a network decides about a probable person?

The folder in the environment variable VERIFLOW_SHARED_DATA, or given as argument, may hold `adult/`: the UCI table and networks
from Fairify. Without it the question is asked of diabetes patients in scikit-learn, and a network trained here.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from veriflow import (
    Affine,
    Ball,
    Box,
    Graph,
    Relu,
    TrainingOptions,
    USFlow,
    certify,
    fair,
    fit,
    flow_query,
    from_torch,
    rounded_witness,
    violations_in_data,
)

COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def adult(folder: Path) -> tuple[pd.DataFrame, list[str], Graph, tuple[int, int]]:
    """Rows as the networks read them, the whole-number columns, a network (positive: more than $50K), Female and Male."""
    files = [
        pd.read_csv(folder / f, names=COLUMNS, skipinitialspace=True, comment="|") for f in ("adult.test", "adult.data")
    ]
    table = pd.concat(files).drop(columns=["fnlwgt", "income"])
    table = table[~(table == "?").any(axis=1)]
    for name in table.select_dtypes(exclude="number"):
        table[name] = table[name].astype("category").cat.codes
    for name in ("capital-gain", "capital-loss"):
        table[name] = pd.cut(table[name], 20, labels=False)
    layers = np.load(folder / "networks" / "AC-1.npz", allow_pickle=False)
    nodes, last = [], "x"
    for k in range(len(layers) // 2):
        nodes.append(Affine(f"a{k}", ((last, layers[f"W{k}"].T.astype(float)),), layers[f"b{k}"].astype(float)))
        nodes.append(Relu(last := f"h{k}", f"a{k}"))
    return table, list(table), Graph("x", 13, tuple(nodes[:-1]), nodes[-2].output), (0, 1)


def diabetes() -> tuple[pd.DataFrame, list[str], Graph, tuple[int, int]]:
    """Rows, whole-number columns, a network trained here (positive: the disease progresses fast), both codes of sex."""
    data = load_diabetes(as_frame=True, scaled=False)
    x = torch.tensor(data.data.to_numpy(), dtype=torch.float32)
    target = torch.tensor(data.target.to_numpy() > 140, dtype=torch.float32)
    mean, deviation = x.mean(dim=0), x.std(dim=0)
    network = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        logits = network((x - mean) / deviation).squeeze(1)
        nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    with torch.no_grad():
        network[0].weight /= deviation
        network[0].bias -= network[0].weight @ mean
    return data.data, ["age", "sex"], from_torch(network, 10), (1, 2)


torch.set_num_threads(1)
torch.manual_seed(0)
shared = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("VERIFLOW_SHARED_DATA", "")
folder = Path(shared) / "adult"
table, whole, network, codes = adult(folder) if shared and folder.is_dir() else diabetes()

# Ages and codes are whole numbers: the flow is fitted to them with uniform noise, and what it finds is rounded back.
rows = table.to_numpy(float)
flow = USFlow(rows.shape[1], blocks=2, hidden=(16,), features=tuple(table), integral=whole)
fit(flow, rows[np.random.default_rng(0).permutation(len(rows))[:4000]], TrainingOptions(steps=1500), progress=False)

people = Ball(flow.base.p, flow.level_set(mass=0.9).radius, flow.dim)
query = flow_query(flow, network, people, fair("sex", codes))
certificate = certify(query, timeout=20)
rounded = rounded_witness(query, certificate.witness, limits=Box(rows.min(axis=0), rows.max(axis=0)))
in_data = violations_in_data(query, torch.tensor(rows))
print(f"{certificate.property}: proved for mass {certificate.certified_mass:.4f}, {certificate.reason}")
print(f"decided differently by sex in the table: {in_data} of {in_data.trials} rows")
print(f"{'':16}{'found':>10}{'rounded':>10}")
for name, found, near in zip(flow.features, certificate.witness.data, rounded.data, strict=True):
    print(f"{name:16}{found:10.4g}{near:10.4g}")
print(f"{'mass':16}{certificate.witness.level_mass:10.4f}{rounded.level_mass:10.4f}")
for name, found, near in zip(query.output_names, certificate.witness.outputs, rounded.outputs, strict=True):
    print(f"{name:16}{found:10.4g}{near:10.4g}")
print("the rounded person is", "treated differently too" if rounded.violates else "not treated differently")

no, yes = sorted(certificate.witness.outputs)
assert no <= 0 < yes
assert all(rounded.data[flow.features.index(name)].is_integer() for name in whole)
assert rounded.violates and rounded.inside and in_data.estimate > 0
