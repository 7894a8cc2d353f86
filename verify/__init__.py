"""Answers: engines, replayed witnesses, certified mass."""

from .box_splitting import RadialSearch
from .certify import Certificate, certify
from .engines import ENGINES, EngineInfo, default_engine, engine, verify
from .replay import replay
from .rounding import RoundedWitness, rounded_witness
from .verdict import Outcome, Verdict, Witness
from .violation_probability import is_countable, violation_probability, violations_in_data

__all__ = [
    "ENGINES",
    "Certificate",
    "EngineInfo",
    "Outcome",
    "RadialSearch",
    "RoundedWitness",
    "Verdict",
    "Witness",
    "certify",
    "default_engine",
    "engine",
    "is_countable",
    "replay",
    "rounded_witness",
    "verify",
    "violation_probability",
    "violations_in_data",
]
