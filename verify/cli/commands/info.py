"""``veriflow info``: what a flow is."""

from __future__ import annotations

import math

from veriflow.runtime.lazy_imports import LazyImports

from ..options import ModelArgument
from ..output import Document, JsonOption, cell, facts, grid, show

with LazyImports(__name__) as imports:
    import torch

    from veriflow.density.mixtures import MixtureLaw
    from veriflow.density.norm_laws import NormLaw
    from veriflow.flows.storage import load_flow

MASSES = (0.1, 0.5, 0.9, 0.95, 0.99)


@imports.on_call
def info(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Describe a flow: its shape, the learned law of the latent norm, and its level sets.

    Example: `veriflow info setosa.safetensors`
    """
    flow = load_flow(model)
    shape = flow.config()
    law = _law_entry(flow.base.law)
    parameters, relus = sum(parameter.numel() for parameter in flow.parameters()), flow.graph().relu_count
    p, log_volume = f"{flow.base.p:g}", flow.log_volume()
    levels = [flow.level_set(mass) for mass in MASSES]
    document: Document = {
        "model": str(model),
        "dim": flow.dim,
        "features": flow.features,
        "blocks": shape["blocks"],
        "hidden": shape["hidden"],
        "householder": shape["householder"],
        "permute": shape["permute"],
        "bits": flow.bits,
        "parameters": parameters,
        "relus": relus,
        "log_volume": log_volume,
        "p": p,
        "law": law,
        "level_sets": [
            {
                "mass": level.mass,
                "intervals": level.intervals,
                "log_density_threshold": level.log_density_threshold,
            }
            for level in levels
        ],
    }
    table = grid("mass", "latent norm", "log density from")
    for level in levels:
        ends = ", ".join(f"{inner:.6g} to {outer:.6g}" for inner, outer in level.intervals)
        table.add_row(cell(level.mass), ends, cell(level.log_density_threshold))
    described = facts(
        {
            "features": f"{flow.dim}: {', '.join(flow.features)}",
            "blocks": f"{shape['blocks']}, conditioners of widths {shape['hidden']}",
            "parameters": parameters,
            "rounded to": None if flow.bits is None else f"{flow.bits} bits",
            "ReLUs": f"{relus} in the graph",
            "log |det|": log_volume,
            "latent norm": f"p = {p}",
            "its law": _law_text(law),
        }
    )
    show(document, as_json, described, "", table)


def _law_entry(law: NormLaw) -> dict[str, Document]:
    """Name and learned values of a law; logarithms are undone, logits are weights."""
    entry: dict[str, Document] = {"law": law.kind}
    if isinstance(law, MixtureLaw):
        weights = torch.softmax(law.logits.detach().double(), 0).tolist()
        parts = [{"weight": w, **_law_entry(c)} for w, c in zip(weights, law.simple_laws(), strict=True)]
        return {**entry, "components": parts}
    for name, value in law.state_dict().items():
        entry[name.removeprefix("log_")] = math.exp(value.item()) if name.startswith("log_") else value.item()
    return entry


def _law_text(law: Document) -> str:
    if not isinstance(law, dict):
        return cell(law)
    parts = law.get("components")
    if isinstance(parts, list):
        return "\n".join(_law_text(part) for part in parts)
    return f"{law['law']}: " + ", ".join(f"{name} {cell(value)}" for name, value in law.items() if name != "law")
