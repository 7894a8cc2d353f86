"""Formal verification of neural networks on the inputs that really occur."""

from .bases import BASES, RadialBase, make_base
from .data import Table, read_table
from .errors import VeriflowError
from .flow import Flow, USFlow
from .level_sets import Calibration, LevelSet, calibrated_level_set
from .properties import Property, classified_as, formula_property, never_confidently_wrong, output_between, y
from .property_text import parse_property
from .query import Query, flow_query, network_query
from .regions import Ball, Box
from .storage import load_flow, save_flow
from .training import History, TrainingOptions, fit

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
    "save_flow",
    "y",
]
__version__ = "0.1.0"
