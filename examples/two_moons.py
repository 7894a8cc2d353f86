"""Two moons: a flow, a calibrated level set, and how far a small classifier is proved right on one moon."""

import torch
from sklearn.datasets import make_moons
from torch import nn

from veriflow import (
    Ball,
    TrainingOptions,
    USFlow,
    calibrated_level_set,
    certify,
    classified_as,
    fit,
    flow_query,
    from_torch,
    violation_probability,
)

torch.set_num_threads(1)
torch.manual_seed(0)
points, moon = make_moons(3000, noise=0.1, random_state=0)
x, labels = torch.tensor(points, dtype=torch.float32), torch.tensor(moon)

# A classifier that is to be verified.
network = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
for _ in range(300):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), labels).backward()
    optimizer.step()

# Where points of the upper moon are probable: the level set of mass one half, by the flow itself and by held-out points.
train, held_out, fresh = x[labels == 0].split([700, 400, 400])
flow = USFlow(2, blocks=4, hidden=(32, 32))
fit(flow, train, TrainingOptions(steps=1500), progress=False)
exact = flow.level_set(mass=0.5)
calibration = calibrated_level_set(flow, held_out, mass=0.5)
covered = [level_set.contains(fresh).double().mean().item() for level_set in (exact, calibration.level_set)]
print(f"covered fresh points: {covered[0]:.1%} by the exact level set, {covered[1]:.1%} by the calibrated one")

# How far out the classifier is proved right, and the most probable point on which it errs.
farthest = Ball(flow.base.p, flow.level_set(mass=0.999).radius, 2)
query = flow_query(flow, from_torch(network, 2), farthest, classified_as(0))
certificate = certify(query, timeout=20)
errors = violation_probability(query)
print(f"certified mass {certificate.certified_mass:.4f}: {certificate.reason}")
print(f"most probable error: {certificate.witness.data}; errors under the flow: {errors}")

assert abs(covered[1] - 0.5) < 0.1
assert certificate.complete and certificate.certified_mass > 0.3
assert errors.estimate < 1 - certificate.certified_mass
