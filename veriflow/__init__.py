"""Formal verification of neural networks on the inputs that really occur.

Names are imported when they are first used: ``import veriflow`` alone costs nothing.
"""

from .runtime.lazy_imports import LazyImports

with LazyImports(__name__):
    from .density.level_sets import Calibration, LevelSet, calibrated_level_set
    from .density.radial import BASES, RadialBase, make_base
    from .density.trimmed_sets import TrimmedLevelSet, trimmed_level_set
    from .errors import VeriflowError
    from .flows.flow import Flow, USFlow
    from .flows.storage import load_flow, save_flow
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
