"""The law of the norm, fitted anew to a bijection that is as it is."""

from __future__ import annotations

import copy
import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..density.norm_laws import NormLaw
from ..flows.flow import USFlow

ROUNDS = 50
"""Of a few quasi-Newton steps each, in which the law is fitted."""

REACH = math.log(8)


def recalibrate(flow: USFlow, train: Tensor, validation: Tensor) -> None:
    """Fit the law of the base to the latent norms of rows ``[n, dim]`` by maximum likelihood, in place; the bijection stays.

    All parameters are fitted to the training rows, and left where the validation rows are most likely on the way. Latents of
    rows that the bijection has not seen may be larger throughout: the law is then scaled as validation rows say
    (`likely_scale`). So it is never worse than before, for these.
    """
    law = copy.deepcopy(flow.base.law).double()
    parameters = list(law.parameters())
    if not parameters:
        return
    with torch.no_grad():
        norms, held_out = (flow.base.norm(flow.latent(rows)).double() for rows in (train, validation))
    optimizer = torch.optim.LBFGS(parameters, max_iter=4, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -law.log_profile(norms).mean()
        torch.autograd.backward(value)
        return value

    def judged() -> float:
        with torch.no_grad():
            return float(law.log_profile(held_out).mean())

    best, state = judged(), copy.deepcopy(law.state_dict())
    for _ in range(ROUNDS):
        value = optimizer.step(loss).item()  # type: ignore[no-untyped-call]
        if not math.isfinite(value):
            break
        if (likelihood := judged()) > best:
            best, state = likelihood, copy.deepcopy(law.state_dict())
    law.load_state_dict(state)
    law.rescale(likely_scale(law, held_out))
    flow.base.law.load_state_dict(law.state_dict())


@torch.no_grad()
def likely_scale(law: NormLaw, norms: Tensor) -> float:
    """By what factor latent norms ``[n]`` are most likely larger than the law says; 1 where that gains a nat at most in all.

    A nat is what one parameter must gain by Akaike's criterion. The factor is from 1/8 to 8.
    """

    def gained(log_scale: float) -> float:
        scaled = law.log_profile(norms * math.exp(-log_scale)) - law.dim * log_scale
        return float((scaled - law.log_profile(norms)).double().sum())

    best = float(minimize_scalar(lambda log_scale: -gained(log_scale), bounds=(-REACH, REACH), method="bounded").x)
    return math.exp(best) if gained(best) > 1 else 1.0
