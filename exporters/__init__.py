"""The border: everything other tools read or write."""

from .bundle import write_bundle
from .milp_model import MilpModel, milp_model
from .onnx_graph import EndingKind
from .onnx_model import graph_to_onnx
from .onnx_reader import Ending, LogitEnding, OnnxNetwork, Port, read_logits, read_network, read_onnx
from .onnx_session import run_onnx
from .portable_form import PortableForm, portable_form
from .shifted_chain import shifted_chain
from .smtlib_script import input_symbols, query_formula, to_smtlib
from .vnnlib_reader import parse_vnnlib, read_vnnlib
from .vnnlib_spec import to_vnnlib1, to_vnnlib2

__all__ = [
    "Ending",
    "EndingKind",
    "LogitEnding",
    "MilpModel",
    "OnnxNetwork",
    "Port",
    "PortableForm",
    "graph_to_onnx",
    "input_symbols",
    "milp_model",
    "parse_vnnlib",
    "portable_form",
    "query_formula",
    "read_logits",
    "read_network",
    "read_onnx",
    "read_vnnlib",
    "run_onnx",
    "shifted_chain",
    "to_smtlib",
    "to_vnnlib1",
    "to_vnnlib2",
    "write_bundle",
]
