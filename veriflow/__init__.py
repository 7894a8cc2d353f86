"""Formal verification of neural networks on the inputs that really occur.

All that users need, from the three packages. Names are imported when they are first used: ``import veriflow`` alone costs
nothing.
"""

from .runtime.lazy_imports import LazyImports

with LazyImports(__name__, beside=("exporters", "verify")):
    from exporters import (
        Logits,
        OnnxNetwork,
        Port,
        graph_to_onnx,
        parse_vnnlib,
        read_logits,
        read_network,
        read_onnx,
        read_vnnlib,
        run_onnx,
        to_marabou,
        to_smtlib,
        to_vnnlib1,
        to_vnnlib2,
        write_bundle,
    )
    from verify import (
        ENGINES,
        Answers,
        Certificate,
        InterruptedSearch,
        JointAnswers,
        Outcome,
        OutputRange,
        Reduction,
        RoundedWitness,
        Verdict,
        ViolationBounds,
        Witness,
        certify,
        external_tool,
        found_tools,
        output_range,
        reduce_query,
        replay,
        rounded_witness,
        trimmed_for_proof,
        verdict_at,
        verdict_curve,
        verify,
        verify_all,
        verify_with,
        violation_bounds,
        violation_probability,
        violations_in_data,
    )

    from .density.level_sets import Calibration, LevelSet, calibrated_level_set
    from .density.radial import BASES, RadialBase, make_base
    from .density.trimmed_sets import TrimmedLevelSet, trimmed_level_set
    from .errors import VeriflowError
    from .flows.flow import Flow, USFlow
    from .flows.storage import load_flow, save_flow
    from .piecewise.evaluate import evaluate, evaluate_exact
    from .piecewise.from_torch import from_torch
    from .piecewise.graph import Affine, Graph, Relu
    from .queries.constraints import y
    from .queries.properties import (
        Property,
        classified_as,
        confident,
        formula_property,
        never_confident,
        never_confidently_wrong,
        output_between,
    )
    from .queries.query import Query, flow_query, network_query
    from .queries.relations import (
        Relation,
        abstains_outside,
        equivalent,
        fair,
        lipschitz,
        monotone,
        robust,
        same_decision,
    )
    from .queries.restriction import restricted_queries, specification_queries
    from .queries.specification import Specification
    from .queries.text.formulas import parse_property
    from .regions.ball import Ball
    from .regions.box import Box
    from .regions.product import Product
    from .tables.table import Table, read_table
    from .training.compression import compress
    from .training.fit import History, fit
    from .training.options import TrainingOptions

__all__ = [
    "BASES",
    "ENGINES",
    "Affine",
    "Answers",
    "Ball",
    "Box",
    "Calibration",
    "Certificate",
    "Flow",
    "Graph",
    "History",
    "InterruptedSearch",
    "JointAnswers",
    "LevelSet",
    "Logits",
    "OnnxNetwork",
    "Outcome",
    "OutputRange",
    "Port",
    "Product",
    "Property",
    "Query",
    "RadialBase",
    "Reduction",
    "Relation",
    "Relu",
    "RoundedWitness",
    "Specification",
    "Table",
    "TrainingOptions",
    "TrimmedLevelSet",
    "USFlow",
    "Verdict",
    "VeriflowError",
    "ViolationBounds",
    "Witness",
    "abstains_outside",
    "calibrated_level_set",
    "certify",
    "classified_as",
    "compress",
    "confident",
    "equivalent",
    "evaluate",
    "evaluate_exact",
    "external_tool",
    "fair",
    "fit",
    "flow_query",
    "formula_property",
    "found_tools",
    "from_torch",
    "graph_to_onnx",
    "lipschitz",
    "load_flow",
    "make_base",
    "monotone",
    "network_query",
    "never_confident",
    "never_confidently_wrong",
    "output_between",
    "output_range",
    "parse_property",
    "parse_vnnlib",
    "read_logits",
    "read_network",
    "read_onnx",
    "read_table",
    "read_vnnlib",
    "reduce_query",
    "replay",
    "restricted_queries",
    "robust",
    "rounded_witness",
    "run_onnx",
    "same_decision",
    "save_flow",
    "specification_queries",
    "to_marabou",
    "to_smtlib",
    "to_vnnlib1",
    "to_vnnlib2",
    "trimmed_for_proof",
    "trimmed_level_set",
    "verdict_at",
    "verdict_curve",
    "verify",
    "verify_all",
    "verify_with",
    "violation_bounds",
    "violation_probability",
    "violations_in_data",
    "write_bundle",
    "y",
]
__version__ = "0.1.0"
