"""Breast cancer: how much of the benign class is a classifier proved never to be confidently wrong on?"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from veriflow import (
    Ball,
    USFlow,
    certify,
    fit,
    flow_query,
    from_torch,
    graph_to_onnx,
    never_confidently_wrong,
    read_onnx,
    replay,
    verify,
)

torch.set_num_threads(1)
torch.manual_seed(0)
data = load_breast_cancer()
x, labels = torch.tensor(data.data[:, :5], dtype=torch.float32), torch.tensor(data.target)

# A classifier that is to be verified: trained on standardised data, then made to take raw units.
mean, deviation = x.mean(dim=0), x.std(dim=0)
network = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.01)
for _ in range(200):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network((x - mean) / deviation), labels).backward()
    optimizer.step()
with torch.no_grad():
    network[0].weight /= deviation
    network[0].bias -= network[0].weight @ mean

# What is verified is the file.
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "classifier.onnx"
    graph_to_onnx(from_torch(network, 5), file)
    graph = read_onnx(file)

# A flow for the benign class; how far out does the property hold, and where does it fail first?
flow = USFlow(5, blocks=2, hidden=(8,), features=data.feature_names[:5].tolist())
fit(flow, x[labels == 1], progress=False)
benign = Ball(flow.base.p, flow.level_set(mass=0.999).radius, 5)
query = flow_query(flow, graph, benign, never_confidently_wrong(1, 0.9))
certificate = certify(query, timeout=30)
print(f"{certificate.property}: certified mass {certificate.certified_mass:.4f}, {certificate.reason}")
for name, value in zip(flow.features, certificate.witness.data, strict=True):
    print(f"  {name:16} {value:10.4f}")

inside = flow.level_set(mass=0.9 * certificate.certified_mass).radius
assert certificate.complete and certificate.certified_mass > 0.2
assert verify(query.at(Ball(flow.base.p, inside, 5)), timeout=30).holds
assert replay(query, certificate.witness.latent).outputs == certificate.witness.outputs
