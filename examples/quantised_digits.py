"""Digits: how far can weights rounded to a few bits move the logits of a probable image?"""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

from veriflow import (
    Ball,
    Outcome,
    TrainingOptions,
    USFlow,
    equivalent,
    evaluate,
    fit,
    flow_query,
    from_torch,
    same_decision,
    verify,
)

torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)
x = nn.functional.avg_pool2d(images, 4).flatten(1)[:, :4] / 16  # four quarters of each image, their mean darkness
labels = torch.tensor(digits.target == 0, dtype=torch.int64)  # is it a zero?

network = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), labels).backward()
    optimizer.step()


def quantised(bits: int) -> nn.Module:
    """The network with every tensor rounded to ``bits`` bits and a sign, in steps that are a power of two."""
    small = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in small.parameters():
            step = 2.0 ** (tensor.abs().max().log2().ceil() - bits)
            tensor.copy_((tensor / step).round() * step)
    return small


# Zeros that the flow finds probable; equivalent means that no logit moves by more than the tolerance on any of them.
flow = USFlow(4, blocks=1, hidden=(8,))
fit(flow, x[labels == 1], TrainingOptions(steps=800), progress=False)
probable = Ball(flow.base.p, flow.level_set(mass=0.9).radius, 4)
graph = from_torch(network, 4)
outcomes = {}
for bits in (8, 4, 2):
    other = from_torch(quantised(bits), 4)
    with torch.no_grad():
        z = flow.latent(x[labels == 1]).double()
        seen = z[flow.base.norm(z) <= probable.radius]
        points = evaluate(flow.graph(), seen)["x"]
        moved = (evaluate(graph, points)[graph.output] - evaluate(other, points)[other.output]).abs().max().item()
    for relation in (equivalent(other, 0.25, f"{bits} bits"), same_decision(other, f"{bits} bits")):
        verdict = verify(flow_query(flow, graph, probable, relation), timeout=120)
        outcomes[relation.text] = verdict.outcome
        print(f"{relation.text:26} {verdict.outcome:9} {verdict.reason}")
    print(f"{'':26} logits of {len(points)} real zeros in the set move by at most {moved:.4f}\n")
    assert moved <= 0.25 or outcomes[f"equivalent({bits} bits, 0.25)"] is Outcome.VIOLATED

assert outcomes["equivalent(8 bits, 0.25)"] is Outcome.HOLDS
assert outcomes["equivalent(2 bits, 0.25)"] is Outcome.VIOLATED
