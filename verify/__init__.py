"""Answers: engines, replayed witnesses, certified mass."""

from .box_splitting import RadialSearch
from .certify import Certificate, certify
from .engines import ENGINES, EngineInfo, default_engine, engine, solver, verify
from .external import ExternalTool
from .reduction import Reduction, reduce_query
from .replay import replay
from .rounding import RoundedWitness, rounded_witness
from .several import Answers, verify_with
from .tool_names import external_tool, found_tools
from .tool_process import MEMORY_LIMIT
from .verdict import Outcome, Verdict, Witness
from .violation_probability import is_countable, violation_probability, violations_in_data

__all__ = [
    "ENGINES",
    "MEMORY_LIMIT",
    "Answers",
    "Certificate",
    "EngineInfo",
    "ExternalTool",
    "Outcome",
    "RadialSearch",
    "Reduction",
    "RoundedWitness",
    "Verdict",
    "Witness",
    "certify",
    "default_engine",
    "engine",
    "external_tool",
    "found_tools",
    "is_countable",
    "reduce_query",
    "replay",
    "rounded_witness",
    "solver",
    "verify",
    "verify_with",
    "violation_probability",
    "violations_in_data",
]
