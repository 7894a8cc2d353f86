"""The face for those who extend veriflow: abstract classes, what they are made of, and the tables that new ones join."""

from .runtime.lazy_imports import LazyImports

with LazyImports(__name__, beside=("exporters", "verify")):
    from exporters import FORMS, TOOLS, Tool
    from exporters.onnx.operators.importer import Importer, Operation
    from exporters.onnx.operators.importer import Tensor as OnnxTensor
    from exporters.onnx.operators.table import OPERATORS
    from verify import ENGINES, EngineInfo, ExternalTool, Limits
    from verify.tools.process import ToolRun
    from verify.tools.registry import ADAPTERS
    from verify.tools.tool import Claim, complete, exact_number, no_violation, unreadable

    from .density.norm_laws import NormLaw, SimpleLaw, non_negative, profile_outside
    from .density.radial import BASES, RadialBase
    from .density.simple_laws import LAWS
    from .flows.bijections.affine import AffineBijection
    from .flows.bijections.base import Bijection
    from .flows.bijections.chain import Chain
    from .flows.bijections.coupling import ResidualBijection
    from .piecewise.bounds.crown import symbolic_bounds
    from .piecewise.bounds.interval import interval_bounds
    from .piecewise.bounds.tensor_bounds import Bounds
    from .queries.constraints import Formula
    from .queries.text.formulas import PROPERTIES
    from .regions.region import Region

__all__ = [
    "ADAPTERS",
    "BASES",
    "ENGINES",
    "FORMS",
    "LAWS",
    "OPERATORS",
    "PROPERTIES",
    "TOOLS",
    "AffineBijection",
    "Bijection",
    "Bounds",
    "Chain",
    "Claim",
    "EngineInfo",
    "ExternalTool",
    "Formula",
    "Importer",
    "Limits",
    "NormLaw",
    "OnnxTensor",
    "Operation",
    "RadialBase",
    "Region",
    "ResidualBijection",
    "SimpleLaw",
    "Tool",
    "ToolRun",
    "complete",
    "exact_number",
    "interval_bounds",
    "no_violation",
    "non_negative",
    "profile_outside",
    "symbolic_bounds",
    "unreadable",
]
