"""Formal verification of neural networks on the inputs that really occur.

Names are imported when they are first used: ``import veriflow`` alone costs nothing.
"""

from .lazy_imports import LazyImports

with LazyImports(__name__):
    from .bases import BASES, RadialBase, make_base
    from .compression import compress
    from .data import Table, read_table
    from .errors import VeriflowError
    from .flow import Flow, USFlow
    from .level_sets import Calibration, LevelSet, calibrated_level_set
    from .properties import (
        Property,
        classified_as,
        confident,
        formula_property,
        never_confident,
        never_confidently_wrong,
        output_between,
        y,
    )
    from .property_text import parse_property
    from .query import Query, flow_query, network_query
    from .regions import Ball, Box, Product
    from .relations import (
        Relation,
        abstains_outside,
        equivalent,
        fair,
        lipschitz,
        monotone,
        robust,
        same_decision,
    )
    from .restriction import restricted_queries, specification_queries
    from .specification import Specification
    from .storage import load_flow, save_flow
    from .training import History, fit
    from .training_options import TrainingOptions
    from .trimmed_sets import TrimmedLevelSet, trimmed_level_set

__all__ = [
    "BASES",
    "Ball",
    "Box",
    "Calibration",
    "Flow",
    "History",
    "LevelSet",
    "Product",
    "Property",
    "Query",
    "RadialBase",
    "Relation",
    "Specification",
    "Table",
    "TrainingOptions",
    "TrimmedLevelSet",
    "USFlow",
    "VeriflowError",
    "abstains_outside",
    "calibrated_level_set",
    "classified_as",
    "compress",
    "confident",
    "equivalent",
    "fair",
    "fit",
    "flow_query",
    "formula_property",
    "lipschitz",
    "load_flow",
    "make_base",
    "monotone",
    "network_query",
    "never_confident",
    "never_confidently_wrong",
    "output_between",
    "parse_property",
    "read_table",
    "restricted_queries",
    "robust",
    "same_decision",
    "save_flow",
    "specification_queries",
    "trimmed_level_set",
    "y",
]
__version__ = "0.1.0"
