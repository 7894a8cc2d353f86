"""One row of the demo: a class and a property, how far out it is proved, and how often it fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from veriflow.numerics.statistics import Proportion
from veriflow.piecewise.graph import Graph
from veriflow.queries.query import Query, flow_query
from veriflow.queries.text.formulas import parse_property
from veriflow.regions.ball import Ball

from ... import Certificate, Outcome, RadialSearch, Witness, certify, verify, violation_probability, violations_in_data
from .models import LABELS, ClassModel

MASSES = (0.1, 0.5, 0.9)
"""Masses of the level sets that verdicts are given for."""

WIDEST = 0.999
"""Mass of the ball in which the most probable failure is sought."""


@dataclass(frozen=True)
class Claim:
    """A property as the demo names it.

    Attributes:
        key: for file names.
        title: for readers.
        template: its text, with {} for the label of the class.
    """

    key: str
    title: str
    template: str

    def text(self, name: str) -> str:
        """The property of that class, as `veriflow certify --property` reads it."""
        return self.template.format(LABELS[name])


CLAIMS = (
    Claim("right", "classified rightly", "classified_as({})"),
    Claim("never-90", "never wrong with probability ≥ 0.9", "never_confidently_wrong({}, 0.9)"),
    Claim("never-99", "never wrong with probability ≥ 0.99", "never_confidently_wrong({}, 0.99)"),
)


@dataclass(frozen=True)
class Decision:
    """The answer for a region, how it was reached, and an input that violates the property where there is one."""

    outcome: Outcome
    reason: str
    witness: Witness | None = None


@dataclass(frozen=True)
class Failure:
    """The most probable input known that violates the property.

    Attributes:
        values: of the features ``[d]``.
        log_density: natural-log density under the flow.
        level_mass: mass of the level set on whose boundary it lies.
        wrong_probability: softmax probability of the wrong class.
    """

    values: tuple[float, ...]
    log_density: float
    level_mass: float
    wrong_probability: float


@dataclass(frozen=True, eq=False)
class DemoRow:
    """All that the demo says about one class and one claim; ``query`` is over the widest ball."""

    model: ClassModel
    claim: Claim
    query: Query
    certificate: Certificate
    decisions: Mapping[float, Decision]
    flow_violations: Proportion
    held_out_violations: Proportion

    @property
    def certified_mass(self) -> float:
        """Largest mass of a level set on which the property is proved."""
        held = [mass for mass, decision in self.decisions.items() if decision.outcome is Outcome.HOLDS]
        return max([self.certificate.certified_mass, *held])

    @property
    def witness(self) -> Witness | None:
        """The most probable violation that is known."""
        found = [self.certificate.witness, *(decision.witness for decision in self.decisions.values())]
        return min(
            (witness for witness in found if witness is not None), key=lambda witness: witness.norm, default=None
        )

    @property
    def refuted_mass(self) -> float:
        """Least mass of a level set that is known to hold a violation; 1 where none is known."""
        failure = self.failure
        return 1.0 if failure is None else failure.level_mass

    @property
    def failure(self) -> Failure | None:
        """The witness in the units of the data."""
        witness = self.witness
        if witness is None:
            return None
        assert witness.log_density is not None and witness.level_mass is not None  # noqa: S101 - the query has a flow
        right = LABELS[self.model.name]
        gap = witness.outputs[right] - witness.outputs[1 - right]
        return Failure(witness.data, witness.log_density, witness.level_mass, 1 / (1 + math.exp(gap)))


def at_mass(query: Query, mass: float) -> Query:
    """The query over the level set of that mass."""
    assert query.flow is not None  # noqa: S101 - the demo's queries are on flows
    return query.at(Ball(query.flow.base.p, query.flow.level_set(mass).radius, query.flow.dim))


def compute_row(
    network: Graph,
    model: ClassModel,
    claim: Claim,
    *,
    timeout: float,
    samples: int,
    seed: int,
    report: Callable[[RadialSearch], None],
) -> DemoRow:
    """Certify, decide, count; ``timeout``, in seconds, is for the certificate and for each mass that it leaves open."""
    flow = model.flow
    widest = Ball(flow.base.p, flow.level_set(WIDEST).radius, flow.dim)
    query = flow_query(flow, network, widest, parse_property(claim.text(model.name)))
    certificate = certify(query, timeout=timeout, report=report)
    return DemoRow(
        model,
        claim,
        query,
        certificate,
        {mass: decide(at_mass(query, mass), certificate, timeout) for mass in MASSES},
        violation_probability(query, samples=samples, seed=seed),
        violations_in_data(query, torch.tensor(model.held_out)),
    )


def decide(query: Query, certificate: Certificate, timeout: float) -> Decision:
    """The answer that the certificate implies for a ball in any norm; where it implies none, an engine's."""
    ball, witness = query.region.ball, certificate.witness
    assert ball is not None and query.flow is not None  # noqa: S101 - the demo's queries are on flows
    if ball.p == query.flow.base.p and ball.radius < certificate.proved_radius:
        return Decision(Outcome.HOLDS, f"proved up to mass {certificate.certified_mass:.3g}")
    if witness is not None and ball.contains(witness.latent):
        return Decision(
            Outcome.VIOLATED, f"the most probable failure lies at mass {certificate.refuted_mass:.3g}", witness
        )
    verdict = verify(query, timeout=timeout)
    return Decision(verdict.outcome, verdict.reason, verdict.witness)


def certified_text(row: DemoRow) -> str:
    """What is proved and from where on it is refuted, as masses."""
    end = "no violation known" if row.witness is None else mass_text(row.refuted_mass)
    return f"{mass_text(row.certified_mass)} – {end}"


def mass_text(mass: float) -> str:
    """A mass to four decimals."""
    return "< 0.0001" if 0 < mass < 5e-5 else f"{mass:.4f}"


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.2f} %"


def failure_table(rows: Sequence[DemoRow]) -> list[list[str]]:
    """The most probable failures of one class beside its median: a row of heads, then one row for each feature."""
    model = rows[0].model
    failures = [row.failure for row in rows]

    def line(head: str, median: str, entry: Callable[[Failure], float], write: Callable[[float], str]) -> list[str]:
        return [head, median, *("–" if failure is None else write(entry(failure)) for failure in failures)]

    medians = np.median(model.train, axis=0).tolist()
    values = [
        line(name, _four_digits(medians[place]), lambda failure, place=place: failure.values[place], _four_digits)  # type: ignore[misc]
        for place, name in enumerate(model.flow.features)
    ]
    return [
        [model.name, "median", *(row.claim.title for row in rows)],
        *values,
        line("wrong-class probability", "", lambda failure: failure.wrong_probability, "{:.4f}".format),
        line("mass of its level set", "", lambda failure: failure.level_mass, mass_text),
        line("log density", "", lambda failure: failure.log_density, "{:.2f}".format),
    ]


def _four_digits(value: float) -> str:
    return f"{value:#.4g}".rstrip(".")
