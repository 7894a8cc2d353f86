"""The border: everything other tools read or write."""

import sys

try:
    from veriflow.runtime.lazy_imports import LazyImports
except ModuleNotFoundError as error:
    if "veriflow" not in sys.modules:
        raise
    raise ImportError(
        f"expected veriflow's own package of that name; got {sys.modules['veriflow'].__file__!r}, which hides it and needs "
        "another name or folder"
    ) from error

with LazyImports(__name__):
    from veriflow.queries.logits import LogitEnding

    from .bundle.tools import DEFAULT_FORMS, FORMS, TOOLS, Tool, bundle_tools, forms_for
    from .bundle.write import write_bundle
    from .forms.paired_chain import paired_chain
    from .forms.portable_form import PortableForm, portable_form
    from .forms.shifted_chain import shifted_chain
    from .marabou import to_marabou
    from .milp.files import highs_model, milp_text
    from .milp.model import MilpModel, milp_model
    from .onnx.operators.importer import EndingKind
    from .onnx.own_file import FileRun, OnnxFile
    from .onnx.ports import Ending, Port
    from .onnx.reader import Logits, OnnxNetwork, read_logits, read_network, read_onnx
    from .onnx.session import run_onnx
    from .onnx.writer import graph_to_onnx
    from .query_file import query_from_bytes, query_to_bytes
    from .smtlib import input_symbols, query_formula, to_smtlib
    from .vnnlib.networks import linear_form, two_networks
    from .vnnlib.reader import parse_vnnlib, read_vnnlib
    from .vnnlib.writer import to_vnnlib1, to_vnnlib2

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
    "Tool",
    "bundle_tools",
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
