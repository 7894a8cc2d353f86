"""Answers: engines, replayed witnesses, certified mass."""

from .box_splitting import RadialSearch
from .certify import Certificate, certify
from .engines import ENGINES, EngineInfo, engine, verify
from .replay import replay
from .verdict import Outcome, Verdict, Witness
from .violation_probability import violation_probability, violations_in_data

__all__ = [
    "ENGINES",
    "Certificate",
    "EngineInfo",
    "Outcome",
    "RadialSearch",
    "Verdict",
    "Witness",
    "certify",
    "engine",
    "replay",
    "verify",
    "violation_probability",
    "violations_in_data",
]
