"""Graphs with more inputs, copies and outputs: several points that depend on one latent, several networks, norms.

A builder here only adds nodes. Constants of the graphs that it joins stay bit for bit; what it adds itself are zeros,
ones and the numbers that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy import sparse

from ..numerics.arrays import Matrix, Vector
from .graph import Affine, Graph, Node, Relu, identity

Part = tuple[str, Sequence[int]]
"""A tensor and coordinates of it."""


def fresh(name: str, taken: Collection[str]) -> str:
    """The name, with as many primes as it needs to be new."""
    while name in taken:
        name += "'"
    return name


def selection(place: slice, size: int) -> sparse.csr_array:
    """The matrix that takes the entries ``place`` of a vector of ``size`` entries."""
    return sparse.csr_array(identity(size)[place])


def scattering(place: slice, size: int) -> sparse.csr_array:
    """The matrix that puts a vector to ``place`` among ``size`` entries, the others zero."""
    return sparse.csr_array(selection(place, size).T)


def with_more_inputs(graph: Graph, extra: int) -> Graph:
    """The same graph, reading the first coordinates of an input of ``extra`` more."""
    if not extra:
        return graph
    name = fresh("input", graph.sizes)
    total = graph.input_size + extra
    head = Affine(graph.input, ((name, selection(slice(0, graph.input_size), total)),), np.zeros(graph.input_size))
    return Graph(name, total, (head, *graph.nodes), graph.output)


def with_map(graph: Graph, name: str, terms: Sequence[tuple[str, Matrix]], bias: Vector) -> Graph:
    """The graph with one more affine map, its new output."""
    return Graph(graph.input, graph.input_size, (*graph.nodes, Affine(name, tuple(terms), bias)), name)


def with_outputs_joined(graph: Graph, tensors: Sequence[str]) -> Graph:
    """The graph whose output is these tensors, one after another."""
    sizes = [graph.sizes[name] for name in tensors]
    ends = np.cumsum([0, *sizes]).tolist()
    terms: dict[str, Matrix] = {}
    for name, start, end in zip(tensors, ends, ends[1:], strict=False):
        part = scattering(slice(start, end), ends[-1])
        terms[name] = terms[name] + part if name in terms else part
    return with_map(graph, fresh("outputs", graph.sizes), tuple(terms.items()), np.zeros(ends[-1]))


def select_outputs(graph: Graph, parts: Sequence[Part]) -> Graph:
    """The graph whose output is the listed coordinates of the named tensors, one after the other."""
    total = sum(len(columns) for _, columns in parts)
    places: dict[str, tuple[list[int], list[int]]] = {}
    start = 0
    for tensor, columns in parts:
        rows, chosen = places.setdefault(tensor, ([], []))
        rows += range(start, start + len(columns))
        chosen += columns
        start += len(columns)
    terms: list[tuple[str, Matrix]] = [
        (tensor, sparse.csr_array((np.ones(len(rows)), (rows, chosen)), shape=(total, graph.sizes[tensor])))
        for tensor, (rows, chosen) in places.items()
    ]
    return with_map(graph, fresh("outputs", graph.sizes), terms, np.zeros(total))


def with_norm(graph: Graph, tensor: str, place: slice, p: float) -> Graph:
    """The graph with ``‖tensor[place]‖_p`` as its output, p ∈ {1, ∞}.

    The sum, or a tournament of maxima, of ``|t| = relu(t) + relu(−t)``.
    """
    taken = set(graph.sizes)

    def name(part: str) -> str:
        taken.add(found := fresh(f"norm.{part}", taken))
        return found

    one = selection(place, graph.sizes[tensor])
    size = one.shape[0]
    both = sparse.csr_array(sparse.vstack([one, -one], format="csr"))
    signs, parts = name("signs"), name("parts")
    nodes: list[Node] = [Affine(signs, ((tensor, both),), np.zeros(2 * size)), Relu(parts, signs)]
    if p == 1:
        nodes.append(Affine(name("sum"), ((parts, np.ones((1, 2 * size))),), np.zeros(1)))
        return Graph(graph.input, graph.input_size, (*graph.nodes, *nodes), nodes[-1].output)
    left, pair = name("magnitudes"), sparse.csr_array(sparse.hstack([identity(size)] * 2, format="csr"))
    nodes.append(Affine(left, ((parts, pair),), np.zeros(size)))
    while size > 1:
        # a round of the tournament: max(a, b) = b + relu(a − b) of entries i and i + half; an odd last one passes
        half, rest = size // 2, size - size // 2
        every = identity(size)
        ahead, gain, best = name("ahead"), name("gain"), name("best")
        nodes.append(Affine(ahead, ((left, sparse.csr_array(every[:half] - every[half : 2 * half])),), np.zeros(half)))
        nodes.append(Relu(gain, ahead))
        gains = sparse.csr_array(identity(rest)[:, :half])
        nodes.append(Affine(best, ((left, sparse.csr_array(every[half:])), (gain, gains)), np.zeros(rest)))
        left, size = best, rest
    return Graph(graph.input, graph.input_size, (*graph.nodes, *nodes), left)


def reading_first(graph: Graph, tensor: str) -> Graph:
    """The graph whose input begins with ``tensor`` itself instead of what the tensor is computed from.

    The rest of the input stays as it is, so the tensor must be as long as what it replaces; nodes that other tensors
    need no longer are dropped.
    """
    if tensor == graph.input:
        return graph
    size, total = graph.sizes[tensor], graph.input_size
    if total == size:
        return graph.starting_at(tensor)
    before = {node.output for node in graph.ending_at(tensor).nodes}
    head = Affine(tensor, ((graph.input, selection(slice(0, size), total)),), np.zeros(size))
    rest = [node for node in graph.nodes if node.output not in before]
    return Graph(graph.input, total, (head, *rest), graph.output).ending_at(graph.output)


def with_tensors_given(graph: Graph, tensors: Sequence[str]) -> Graph:
    """The graph that takes some of its tensors as further inputs, one after another behind its own, and computes the rest.

    Nodes that nothing needs any longer are dropped.
    """
    names = list(dict.fromkeys(tensors))
    ends = np.cumsum([graph.input_size, *(graph.sizes[name] for name in names)]).tolist()
    places = {name: slice(start, end) for name, start, end in zip(names, ends, ends[1:], strict=False)}
    places.setdefault(graph.input, slice(0, graph.input_size))
    source = fresh("given", graph.sizes)
    given: list[Node] = [
        Affine(name, ((source, selection(place, ends[-1])),), np.zeros(graph.sizes[name]))
        for name, place in places.items()
    ]
    rest = [node for node in graph.nodes if node.output not in places]
    return Graph(source, ends[-1], (*given, *rest), graph.output).ending_at(graph.output)
