"""Breast cancer: how large a measuring error leaves the diagnosis of every probable tumour as it is?"""

import math

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from veriflow import Ball, USFlow, fit, flow_query, from_torch, robust, verify

torch.set_num_threads(1)
torch.manual_seed(0)
data = load_breast_cancer()
x, labels = torch.tensor(data.data[:, :3], dtype=torch.float32), torch.tensor(data.target)

# A classifier, trained on standardised data and then made to take raw units; logit margin y[1] - y[0].
mean, deviation = x.mean(dim=0), x.std(dim=0)
network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.01)
for _ in range(200):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network((x - mean) / deviation), labels).backward()
    optimizer.step()
with torch.no_grad():
    network[0].weight /= deviation
    network[0].bias -= network[0].weight @ mean
graph = from_torch(network, 3)

# A flow for benign tumours. Errors are in units of each feature's deviation, the same for all of them at most.
flow = USFlow(3, blocks=1, hidden=(8,), features=data.feature_names[:3].tolist())
fit(flow, x[labels == 1], progress=False)
probable = Ball(flow.base.p, flow.level_set(mass=0.25).radius, 3)
verdicts = {}
for eps in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
    query = flow_query(flow, graph, probable, robust(eps, math.inf, scale="deviation"))
    verdicts[eps] = verify(query, timeout=20)
    print(f"{query.text:32} {verdicts[eps].outcome:9} {verdicts[eps].reason}")

least = next(verdict for verdict in verdicts.values() if verdict.violated)
print(f"\n{'':16}{'tumour':>10}{'measured':>10}")
for name, true, measured in zip(flow.features, least.witness.data, *least.witness.others.values(), strict=True):
    print(f"{name:16}{true:10.2f}{measured:10.2f}")
y0, y1, measured_y0, measured_y1 = least.witness.outputs
print(f"{'y[1] - y[0]':16}{y1 - y0:10.4f}{measured_y1 - measured_y0:10.4f}")

assert verdicts[0.02].holds and verdicts[1.0].violated
assert (y1 >= y0) != (measured_y1 >= measured_y0)
