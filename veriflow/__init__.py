"""Formal verification of neural networks on the inputs that really occur.

Names are imported when they are first used: ``import veriflow`` alone costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bases import BASES, RadialBase, make_base
    from .data import Table, read_table
    from .errors import VeriflowError
    from .flow import Flow, USFlow
    from .level_sets import Calibration, LevelSet, calibrated_level_set
    from .properties import Property, classified_as, formula_property, never_confidently_wrong, output_between, y
    from .property_text import parse_property
    from .query import Query, flow_query, network_query
    from .regions import Ball, Box
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
    "Property",
    "Query",
    "RadialBase",
    "Specification",
    "Table",
    "TrainingOptions",
    "USFlow",
    "VeriflowError",
    "calibrated_level_set",
    "classified_as",
    "fit",
    "flow_query",
    "formula_property",
    "load_flow",
    "make_base",
    "network_query",
    "never_confidently_wrong",
    "output_between",
    "parse_property",
    "read_table",
    "restricted_queries",
    "save_flow",
    "specification_queries",
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
    "Property": "properties",
    "Query": "query",
    "RadialBase": "bases",
    "Specification": "specification",
    "Table": "data",
    "TrainingOptions": "training",
    "USFlow": "flow",
    "VeriflowError": "errors",
    "calibrated_level_set": "level_sets",
    "classified_as": "properties",
    "fit": "training",
    "flow_query": "query",
    "formula_property": "properties",
    "load_flow": "storage",
    "make_base": "bases",
    "network_query": "query",
    "never_confidently_wrong": "properties",
    "output_between": "properties",
    "parse_property": "property_text",
    "read_table": "data",
    "restricted_queries": "restriction",
    "save_flow": "storage",
    "specification_queries": "restriction",
    "y": "properties",
}
