"""What all replays on one graph share: the flow in float64, the exported form, onnxruntime sessions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from weakref import WeakKeyDictionary

import onnxruntime
import torch

from exporters import FileRun, OnnxFile, Port, graph_to_onnx
from veriflow.flows.flow import Flow
from veriflow.piecewise.graph import Graph
from veriflow.queries.query import Application, Query

Values = dict[str, list[Fraction]]


class Replayer:
    """Made once for a graph; serves every query on it, whatever its region and violation.

    It holds no reference to the graph, so that it is freed with the graph.

    Args:
        flow: in the graph, if there is one; taken as it is at the first replay.
    """

    def __init__(self, flow: Flow | None) -> None:
        self.given = flow
        self._exported: Application | None = None
        self._sessions: dict[tuple[OnnxFile, bool], onnxruntime.InferenceSession] = {}

    @cached_property
    def flow(self) -> Flow | None:
        """The flow in float64."""
        return None if self.given is None else copy.deepcopy(self.given).double()

    @cached_property
    def log_volume(self) -> float:
        """log|det φ| of the flow."""
        assert self.flow is not None  # noqa: S101 - asked of a query with a flow alone
        with torch.no_grad():
            return float(self.flow.bijection.forward_and_logdet(torch.zeros(self.flow.dim, dtype=torch.float64))[1])

    def exported(self, graph: Graph) -> Application:
        """The graph as a network of its own, whose file is the exported form.

        Raises:
            GraphError: a graph that is too large to write.
        """
        if self._exported is None:
            sizes = (("X", graph.input_size), ("Y", graph.output_size))
            start, end = (Port(name, (1, size), 0, size) for name, size in sizes)
            file = OnnxFile("the exported form", graph_to_onnx(graph), (start,), (end,))
            self._exported = Application(replace(graph, source=file), graph.input, graph.output)
        return self._exported

    def run(self, file: OnnxFile, points: Sequence[Sequence[Fraction]], *, optimised: bool = True) -> list[FileRun]:
        """What onnxruntime computes at points of the file's graph, by one session; a file that has changed is refused.

        Raises:
            StorageError, GraphError: as `OnnxFile.open` and `OnnxFile.run`.
        """
        key = (file, optimised)
        if key in self._sessions:
            file.check_unchanged()
        else:
            self._sessions[key] = file.open(optimised=optimised)
        return file.run(points, self._sessions[key])


_replayers: WeakKeyDictionary[Graph, Replayer] = WeakKeyDictionary()


def replayer(query: Query) -> Replayer:
    """The replayer of the query's graph and flow, made at the first call."""
    found = _replayers.get(query.graph)
    if found is None or found.given is not query.flow:
        found = _replayers[query.graph] = Replayer(query.flow)
    return found
