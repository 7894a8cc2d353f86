"""The flows that laws of flows are tested over."""

import torch

from veriflow.flows.flow import USFlow

FLOWS = {
    "affine in one dimension": {"dim": 1, "blocks": 0},
    "default": {"dim": 2},
    "deep conditioners": {"dim": 5, "blocks": 3, "hidden": (7, 6, 5)},
    "affine conditioners": {"dim": 3, "hidden": ()},
    "householder": {"dim": 4, "householder": 3},
    "permuted": {"dim": 6, "permute": True},
    "all": {"dim": 7, "blocks": 2, "hidden": (8,), "householder": 2, "permute": True},
}


def make_flow(name, dtype=torch.float64):
    torch.manual_seed(1)
    flow = USFlow(**FLOWS[name]).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    flow.standardise(torch.linspace(-1, 2, flow.dim), torch.linspace(0.5, 3, flow.dim))
    return flow
