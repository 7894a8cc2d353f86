"""Formal verification of neural networks on the inputs that really occur.

Names are imported when they are first used: ``import veriflow`` alone costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from .training import History, TrainingOptions, fit
else:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


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

_HOMES = {
    "BASES": "bases",
    "Ball": "regions",
    "Box": "regions",
    "Calibration": "level_sets",
    "Flow": "flow",
    "History": "training",
    "LevelSet": "level_sets",
    "Product": "regions",
    "Property": "properties",
    "Query": "query",
    "RadialBase": "bases",
    "Relation": "relations",
    "Specification": "specification",
    "Table": "data",
    "TrainingOptions": "training",
    "TrimmedLevelSet": "trimmed_sets",
    "USFlow": "flow",
    "VeriflowError": "errors",
    "abstains_outside": "relations",
    "calibrated_level_set": "level_sets",
    "classified_as": "properties",
    "compress": "compression",
    "confident": "properties",
    "equivalent": "relations",
    "fair": "relations",
    "fit": "training",
    "flow_query": "query",
    "formula_property": "properties",
    "lipschitz": "relations",
    "load_flow": "storage",
    "make_base": "bases",
    "monotone": "relations",
    "network_query": "query",
    "never_confident": "properties",
    "never_confidently_wrong": "properties",
    "output_between": "properties",
    "parse_property": "property_text",
    "read_table": "data",
    "restricted_queries": "restriction",
    "robust": "relations",
    "same_decision": "relations",
    "save_flow": "storage",
    "specification_queries": "restriction",
    "trimmed_level_set": "trimmed_sets",
    "y": "properties",
}
