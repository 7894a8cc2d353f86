"""Answers: engines, replayed witnesses, certified mass."""

import exporters  # noqa: F401 - before all else, as it says which file hides veriflow
from veriflow.lazy_imports import LazyImports
from veriflow.siblings import refuse_hidden_packages

refuse_hidden_packages("exporters")

with LazyImports(__name__):
    from .box_splitting import RadialSearch
    from .certify import Certificate, certify
    from .engines import ENGINES, EngineInfo, engine, solver, verify
    from .external import ExternalTool
    from .interrupted import InterruptedSearch
    from .output_range import OutputRange, RangeEnd, output_range
    from .reduction import Reduction, reduce_query
    from .replay import replay
    from .rounding import RoundedWitness, rounded_witness
    from .several import AUTO, Answers, verify_with
    from .tool_names import external_tool, found_tools
    from .tool_process import MEMORY_LIMIT
    from .trimming import trimmed_for_proof
    from .union import JointAnswers, verify_all
    from .verdict import OnnxRun, Outcome, Verdict, Witness
    from .verdict_curve import verdict_at, verdict_curve
    from .violation_bounds import ViolationBounds, violation_bounds
    from .violation_probability import is_countable, violation_probability, violations_in_data

__all__ = [
    "AUTO",
    "ENGINES",
    "MEMORY_LIMIT",
    "Answers",
    "Certificate",
    "EngineInfo",
    "ExternalTool",
    "InterruptedSearch",
    "JointAnswers",
    "OnnxRun",
    "Outcome",
    "OutputRange",
    "RadialSearch",
    "RangeEnd",
    "Reduction",
    "RoundedWitness",
    "Verdict",
    "ViolationBounds",
    "Witness",
    "certify",
    "engine",
    "external_tool",
    "found_tools",
    "is_countable",
    "output_range",
    "reduce_query",
    "replay",
    "rounded_witness",
    "solver",
    "trimmed_for_proof",
    "verdict_at",
    "verdict_curve",
    "verify",
    "verify_all",
    "verify_with",
    "violation_bounds",
    "violation_probability",
    "violations_in_data",
]
