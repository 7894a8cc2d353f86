"""The border: everything other tools read or write."""

import sys

try:
    from veriflow.lazy_imports import LazyImports
except ModuleNotFoundError as error:
    if "veriflow" not in sys.modules:
        raise
    raise ImportError(
        f"expected veriflow's own package of that name; got {sys.modules['veriflow'].__file__!r}, which hides it and needs "
        "another name or folder"
    ) from error

with LazyImports(__name__):
    from veriflow.endings import LogitEnding

    from .bundle import write_bundle
    from .marabou_query import to_marabou
    from .milp_files import highs_model, milp_text
    from .milp_model import MilpModel, milp_model
    from .onnx_file import FileRun, OnnxFile
    from .onnx_graph import EndingKind
    from .onnx_model import graph_to_onnx
    from .onnx_reader import Ending, Logits, OnnxNetwork, Port, read_logits, read_network, read_onnx
    from .onnx_session import run_onnx
    from .paired_chain import paired_chain
    from .portable_form import PortableForm, portable_form
    from .query_file import query_from_bytes, query_to_bytes
    from .shifted_chain import shifted_chain
    from .smtlib_script import input_symbols, query_formula, to_smtlib
    from .tool_commands import DEFAULT_FORMS, FORMS, TOOLS, forms_for
    from .vnnlib_networks import linear_form, two_networks
    from .vnnlib_reader import parse_vnnlib, read_vnnlib
    from .vnnlib_spec import to_vnnlib1, to_vnnlib2

__all__ = [
    "DEFAULT_FORMS",
    "FORMS",
    "TOOLS",
    "Ending",
    "EndingKind",
    "FileRun",
    "LogitEnding",
    "Logits",
    "MilpModel",
    "OnnxFile",
    "OnnxNetwork",
    "Port",
    "PortableForm",
    "forms_for",
    "graph_to_onnx",
    "highs_model",
    "input_symbols",
    "linear_form",
    "milp_model",
    "milp_text",
    "paired_chain",
    "parse_vnnlib",
    "portable_form",
    "query_formula",
    "query_from_bytes",
    "query_to_bytes",
    "read_logits",
    "read_network",
    "read_onnx",
    "read_vnnlib",
    "run_onnx",
    "shifted_chain",
    "to_marabou",
    "to_smtlib",
    "to_vnnlib1",
    "to_vnnlib2",
    "two_networks",
    "write_bundle",
]
