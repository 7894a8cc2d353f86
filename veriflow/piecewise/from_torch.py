"""torch modules of linear layers and ReLUs → graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import GraphError
from ..numerics.arrays import Vector
from .graph import Affine, Graph, Node, Relu


def array_of(tensor: Tensor) -> Vector:
    """The tensor's numbers in float64; they stay as they are where the tensor changes."""
    return tensor.detach().to("cpu", torch.float64, copy=True).numpy()


def from_torch(module: nn.Module, input_size: int) -> Graph:
    """The graph of a ``Sequential`` of Linear, ReLU, Flatten, Identity and Dropout layers; constants are kept exactly.

    Raises:
        GraphError: a layer of another kind, named with its place.
    """
    nodes: list[Node] = []
    tensor = "x"
    for place, layer in _layers(module, ""):
        if isinstance(layer, nn.Linear):
            bias = array_of(layer.bias) if layer.bias is not None else np.zeros(layer.out_features)
            nodes.append(Affine(f"a{len(nodes)}", ((tensor, array_of(layer.weight)),), bias))
        elif isinstance(layer, nn.ReLU):
            nodes.append(Relu(f"h{len(nodes)}", tensor))
        elif isinstance(layer, (nn.Flatten, nn.Identity, nn.Dropout)):
            continue
        else:
            raise GraphError(
                f"expected Linear, ReLU, Flatten, Identity or Dropout layers; got {type(layer).__name__} at {place!r}"
            )
        tensor = nodes[-1].output
    return Graph("x", input_size, tuple(nodes), tensor)


def _layers(module: nn.Module, place: str) -> list[tuple[str, nn.Module]]:
    if not isinstance(module, nn.Sequential):
        return [(place, module)]
    return [pair for name, child in module.named_children() for pair in _layers(child, f"{place}.{name}".lstrip("."))]
