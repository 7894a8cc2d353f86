"""What one certificate says of every level set: the curve from mass to verdict."""

from __future__ import annotations

from collections.abc import Iterable

from veriflow.errors import RegionError

from ..witness.verdict import Outcome
from .certify import Certificate

ROUNDING = 1e-12
"""Relative error allowed for in masses that are compared."""


def verdict_at(certificate: Certificate, mass: float) -> Outcome:
    """Whether the property holds on the most probable set of a mass.

    It does within the certified mass, which is rounded down, and is violated from the refuted mass on, which is rounded up;
    between them, or outside of the ball that was searched, the certificate does not know.

    Raises:
        RegionError: a mass outside [0, 1].
    """
    if not 0 <= mass <= 1:
        raise RegionError(f"expected a mass from 0 to 1; got {mass}")
    if mass < certificate.certified_mass * (1 - ROUNDING):
        return Outcome.HOLDS
    if certificate.witness is not None and mass >= certificate.refuted_mass * (1 + ROUNDING):
        return Outcome.VIOLATED
    return Outcome.UNKNOWN


def verdict_curve(certificate: Certificate, masses: Iterable[float]) -> list[tuple[float, Outcome]]:
    """`verdict_at` for each of some masses."""
    return [(mass, verdict_at(certificate, mass)) for mass in masses]
