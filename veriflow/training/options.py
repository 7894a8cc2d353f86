"""How to train a flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import TrainingError

BEYOND = 2.0**62
"""What counts and limits must stay below, to be whole numbers of the machine."""

MOST_SEED = 2**32 - 1
"""The greatest seed that numpy's, scikit-learn's and torch's generators all take."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: optimiser steps at most.
        batch_size: rows for one step; the rows are shuffled anew in every pass.
        learning_rate: Adam's, at the start; it falls to zero along half a cosine.
        prior_sigma: deviation of log|det| under the determinant prior; None for plain maximum likelihood.
        validation: share of the rows that is kept for early stopping and for choosing the best step.
        validate_every: steps between two validations.
        patience: validations without a better NLL after which training stops.
        clip: largest norm of the gradient.
        seed: of the split, the shuffling and the start.
        stability: nats that a ReLU may cost where it is not stable over the latent ball of mass ``stability_mass``
            (`Stability`); zero for no such penalty, which is the fastest.
        stability_mass: of the ball: that of the level sets on which something is to be proved.
    """

    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 3e-3
    prior_sigma: float | None = 1.0
    validation: float = 0.1
    validate_every: int = 50
    patience: int = 20
    clip: float = 10.0
    seed: int = 0
    stability: float = 0.0
    stability_mass: float = 0.9

    def __post_init__(self) -> None:
        positive: dict[str, float] = {
            "number of steps": self.steps,
            "batch size": self.batch_size,
            "validation interval": self.validate_every,
        }
        positive |= {"patience": self.patience, "learning rate": self.learning_rate, "clip": self.clip}
        if self.prior_sigma is not None:
            positive["prior sigma"] = self.prior_sigma
        for name, value in positive.items():
            if not value > 0:
                raise TrainingError(f"expected a positive {name}; got {value}")
            if value >= BEYOND:
                raise TrainingError(f"expected a {name} below {BEYOND:g}; got {value}")
        if not 0 <= self.seed <= MOST_SEED:
            raise TrainingError(f"expected a seed from 0 to {MOST_SEED}; got {self.seed}")
        if not 0 < self.validation < 1:
            raise TrainingError(f"expected a validation share between 0 and 1; got {self.validation}")
        if not (math.isfinite(self.stability) and self.stability >= 0):
            raise TrainingError(f"expected a stability of zero or more nats; got {self.stability}")
        if not 0 < self.stability_mass < 1:
            raise TrainingError(f"expected a stability mass between 0 and 1; got {self.stability_mass}")
