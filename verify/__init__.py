"""Answers: engines, replayed witnesses, certified mass."""

import exporters  # noqa: F401 - before all else, as it says which file hides veriflow
from veriflow.runtime.lazy_imports import LazyImports
from veriflow.runtime.siblings import refuse_hidden_packages

refuse_hidden_packages("exporters")

with LazyImports(__name__):
    from .bab.box_split import RadialSearch
    from .engines.joint import JointAnswers, verify_all
    from .engines.limits import Limits
    from .engines.portfolio import AUTO, Answers, verify, verify_with
    from .engines.registry import ENGINES, EngineInfo, engine, solver
    from .measures.certify import Certificate, certify
    from .measures.output_range import OutputRange, RangeEnd, output_range
    from .measures.reduction import Reduction, reduce_query
    from .measures.trimming import trimmed_for_proof
    from .measures.verdict_curve import verdict_at, verdict_curve
    from .measures.violation_bounds import ViolationBounds, violation_bounds
    from .measures.violation_probability import is_countable, violation_probability, violations_in_data
    from .tools.process import MEMORY_LIMIT
    from .tools.registry import external_tool, found_tools
    from .tools.tool import ExternalTool
    from .witness.interrupted import InterruptedSearch
    from .witness.replay import replay
    from .witness.verdict import OnnxRun, Outcome, Verdict, Witness
    from .witness.whole_numbers import RoundedWitness, rounded_witness

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
    "Limits",
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
