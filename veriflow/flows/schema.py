"""What files of flows must hold: names, types, shapes and ranges, checked before a flow is built or used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from ..density.mixtures import check_law
from ..density.norm_laws import MOST_LOGARITHM, NormLaw
from ..errors import ModelError, StorageError
from ..files.documents import FLAG, OBJECT, TEXT, check_record, list_of, one_of, whole
from ..files.sealed import Layout
from ..numerics.grids import MOST_BITS
from .bijections.affine import LU, Householder, Permutation, Standardisation
from .flow import USFlow

MOST_MAGNITUDE = 1e18
"""Of parameters that are no logarithms; data are standardised, so that they are small in flows that were fitted."""

_FLOATS = (torch.float32, torch.float64)

_EXACT = tuple(Standardisation(1).state_dict())


def empty_flow(config: Mapping[str, Any], layout: Layout, what: str) -> USFlow:
    """The flow of a description, without memory for its tensors, which have these names, types and shapes.

    Raises:
        StorageError: ``what``, and then why it is none: a description of another form or of more than the file holds, tensors
            that are missing, unknown, of other types or shapes.
    """
    check_config(config, f"{what} a description that makes no flow")
    sizes = {"dim": config["dim"], "hidden widths": sum(config["hidden"]), "householder": config["householder"]}
    for name, size in {**sizes, "blocks": config["blocks"]}.items():
        most = len(layout) if name == "blocks" else sum(math.prod(shape) for _, shape in layout.values())
        if size > most and (name != "hidden widths" or config["blocks"]):
            raise StorageError(f"{what} one whose {name} is {size}, which is more than the file holds")
    try:
        with torch.device("meta"):
            flow = USFlow.from_config(config)
    except (ModelError, RuntimeError) as error:
        raise StorageError(f"{what} a description that makes no flow: {error}") from None
    check_layout(layout, flow.state_dict(), what)
    return flow


def check_config(config: object, what: str) -> None:
    """Refuse what `USFlow.config` does not write: StorageError."""
    forms = {
        "dim": whole(1),
        "blocks": whole(0),
        "hidden": list_of(whole(1)),
        "householder": whole(0),
        "permute": FLAG,
        "features": list_of(TEXT),
        "base": OBJECT,
    }
    optional = {"integral": list_of(TEXT), "bits": whole(1, MOST_BITS)}
    check_record(config, forms, what, optional)
    assert isinstance(config, dict)  # noqa: S101 - as checked
    base = config["base"]
    check_record(base, {"p": one_of(1, 2, "inf"), "law": OBJECT}, what)
    check_law(base["law"], what)


def check_layout(layout: Layout, wanted: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors other than the wanted ones, in name, kind or shape: StorageError."""
    if odd := sorted(wanted.keys() ^ layout.keys()):
        raise StorageError(
            f"{what} one {'with an unknown' if odd[0] in layout else 'without the'} tensor {odd[0][:80]!r}"
        )
    check_dtypes({name: dtype for name, (dtype, _) in layout.items()}, what)
    for name, (dtype, shape) in layout.items():
        expected = list(wanted[name].shape)
        fits = dtype in _FLOATS if wanted[name].is_floating_point() else dtype == wanted[name].dtype
        if list(shape) != expected or not fits:
            raise StorageError(f"{what} a {dtype} tensor {name!r} of shape {list(shape)} where {expected} belongs")


def is_exact(name: str) -> bool:
    """Whether a tensor of this name is one of the standardisation, which is in float64 whatever the others are."""
    return name.rpartition(".")[2] in _EXACT


def check_dtypes(dtypes: Mapping[str, torch.dtype], what: str) -> None:
    """Refuse floats of other types than float32 or float64, or of both but for the standardisation: StorageError."""
    found = {dtype for name, dtype in dtypes.items() if dtype.is_floating_point and not is_exact(name)}
    if len(found) > 1 or not found.issubset(_FLOATS):
        kinds = " and ".join(sorted(map(str, found)))
        raise StorageError(f"{what} one of {kinds}, and not of torch.float32 or torch.float64 alone")


def check_numbers(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse NaN and infinity: StorageError."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise StorageError(f"{what} one whose {name!r} holds NaN or infinity")


def check_ranges(flow: USFlow, what: str) -> None:
    """Refuse parameters with which the flow is no bijection of finite numbers: StorageError."""
    for name, module in flow.named_modules():
        if reason := _misfit(module):
            raise StorageError(f"{what} one whose {name!r} has {reason}")
    for name, parameter in flow.named_parameters():
        if not (parameter.detach().abs() <= MOST_MAGNITUDE).all():
            raise StorageError(f"{what} one whose {name!r} holds numbers beyond {MOST_MAGNITUDE:g}")


@singledispatch
def _misfit(module: nn.Module) -> str:
    """What is wrong with the parameters of a module, in words; nothing where nothing is."""
    return ""


@_misfit.register
def _(module: LU) -> str:
    fit = (module.log_diagonal.detach().abs() <= MOST_LOGARITHM).all()
    return "" if fit else f"logarithms beyond {MOST_LOGARITHM:g}"


@_misfit.register
def _(module: Permutation) -> str:
    order = torch.arange(module.dim, dtype=module.order.dtype)
    return "" if torch.equal(module.order.sort().values, order) else "an order that is no permutation"


@_misfit.register
def _(module: Householder) -> str:
    lengths = torch.linalg.vector_norm(module.vectors.detach(), dim=-1)
    return "" if ((lengths > 1e-15) & (lengths < 1e15)).all() else "vectors of length zero, or too long"


@_misfit.register
def _(module: Standardisation) -> str:
    return "" if (module.deviation > 0).all() else "deviations that are not positive"


@_misfit.register
def _(module: NormLaw) -> str:
    return module.misfit()
