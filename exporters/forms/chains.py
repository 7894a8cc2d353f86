"""Graphs that are chains: affine maps and ReLUs in turn, each of the one before."""

from __future__ import annotations

from veriflow.piecewise.graph import Graph, Relu


def is_chain(graph: Graph) -> bool:
    """Whether every node reads the one before it, and nothing else."""
    before = [graph.input, *(node.output for node in graph.nodes)]
    return bool(graph.nodes) and all(
        node.inputs == (name,) for node, name in zip(graph.nodes, before[:-1], strict=True)
    )


def relu_depths(graph: Graph) -> dict[str, int]:
    """How many ReLUs lie between the input and each tensor, at most."""
    depth = {graph.input: 0}
    for node in graph.nodes:
        depth[node.output] = max((depth[name] for name in node.inputs), default=0) + isinstance(node, Relu)
    return depth
