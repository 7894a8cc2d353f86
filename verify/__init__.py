"""Answers: engines, replayed witnesses, certified mass."""

from .branch_and_bound import RadialSearch
from .certify import Certificate, certify
from .engines import ENGINES, EngineInfo, engine, solver, verify
from .external import ExternalTool
from .replay import replay
from .several import Answers, verify_with
from .tool_names import external_tool, found_tools
from .tool_process import MEMORY_LIMIT
from .verdict import Outcome, Verdict, Witness
from .violation_probability import violation_probability, violations_in_data

__all__ = [
    "ENGINES",
    "MEMORY_LIMIT",
    "Answers",
    "Certificate",
    "EngineInfo",
    "ExternalTool",
    "Outcome",
    "RadialSearch",
    "Verdict",
    "Witness",
    "certify",
    "engine",
    "external_tool",
    "found_tools",
    "replay",
    "solver",
    "verify",
    "verify_with",
    "violation_probability",
    "violations_in_data",
]
