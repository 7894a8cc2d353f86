"""Refitting the law of the norm while the bijection stays fixed."""

from __future__ import annotations

import copy
import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..density.norm_laws import NormLaw
from ..flows.flow import USFlow

ROUNDS = 50
"""Rounds of the fit, each of a few quasi-Newton steps."""

REACH = math.log(8)
"""Largest |log| of the factor by which a law is scaled."""


def recalibrate(flow: USFlow, train: Tensor, validation: Tensor) -> None:
    """Fit the law of the base to the latent norms of rows ``[n, dim]`` by maximum likelihood, in place; the bijection stays.

    All parameters are fitted to the training rows; of all rounds, the one with the largest likelihood of the validation rows
    is kept. Then the law is scaled to these rows (`likely_scale`), as latents of rows that the bijection was not fitted to
    tend to be larger. So the validation rows are at least as likely as before.
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
    """The factor s from 1/8 to 8 for which norms ``[n]`` are most likely under the law of s · R; 1 without a clear gain.

    That is a gain of one nat in log-likelihood, which Akaike's criterion asks of one parameter.
    """

    def gained(log_scale: float) -> float:
        scaled = law.log_profile(norms * math.exp(-log_scale)) - law.dim * log_scale
        return float((scaled - law.log_profile(norms)).double().sum())

    best = float(minimize_scalar(lambda log_scale: -gained(log_scale), bounds=(-REACH, REACH), method="bounded").x)
    return math.exp(best) if gained(best) > 1 else 1.0
