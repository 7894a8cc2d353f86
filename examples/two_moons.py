"""Two moons: a flow, an exact level set, and how far a small classifier is proved right on one moon."""

import torch
from sklearn.datasets import make_moons
from torch import nn

from veriflow import Ball, TrainingOptions, USFlow, classified_as, fit, flow_query
from veriflow.piecewise import lower_network
from verify import certify, violation_probability

torch.set_num_threads(1)
torch.manual_seed(0)
points, moon = make_moons(1500, noise=0.1, random_state=0)
x, labels = torch.tensor(points, dtype=torch.float32), torch.tensor(moon)

# A classifier that is to be verified.
network = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
for _ in range(300):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), labels).backward()
    optimizer.step()

# Where the points of the upper moon are probable.
upper, fresh = x[labels == 0][:600], x[labels == 0][600:]
flow = USFlow(2, blocks=4, hidden=(16,))
history = fit(flow, upper, TrainingOptions(steps=1500), progress=False)
level_set = flow.level_set(mass=0.5)
covered = level_set.contains(fresh).double().mean().item()
print(f"validation NLL {history.best_nll:.3f}; the level set of mass 0.5 covers {covered:.1%} of fresh points")

# How far out the classifier is proved right, and the most probable point on which it errs.
farthest = flow.level_set(mass=0.999).radius
query = flow_query(flow, lower_network(network, 2), Ball(flow.base.p, farthest, 2), classified_as(0))
certificate = certify(query, timeout=20)
errors = violation_probability(query)
print(
    f"certified mass {certificate.certified_mass:.4f}, refuted mass {certificate.refuted_mass:.4f}: {certificate.reason}"
)
print(f"the classifier errs on {errors} of the flow's samples; most probable error: {certificate.witness}")

assert abs(covered - 0.5) < 0.15
assert certificate.complete
assert certificate.certified_mass > 0.3
assert errors.estimate < 1 - certificate.certified_mass
