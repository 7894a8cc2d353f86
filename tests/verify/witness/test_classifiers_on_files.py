"""Classifiers' own files: labels, lists of maps, given models and one sigmoid are run and judged as their graphs."""

from fractions import Fraction

import numpy as np
import pytest
from classical_models import READ
from onnx_models import model, node

from exporters import OnnxNetwork, read_logits
from exporters.testing import inferred, points_for
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.queries.constraints import y
from veriflow.queries.logits import property_on_logits, without_ending
from veriflow.queries.properties import classified_as, formula_property, never_confidently_wrong
from veriflow.queries.query import network_query
from veriflow.queries.relations import robust
from veriflow.regions.box import Box
from verify import verify


def box(size, dim):
    return Box(np.full(dim, -size), np.full(dim, size))


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("name", READ)
def test_files_give_what_exact_logits_give(name, as_bytes):
    proto = READ[name][0]
    for output in (None, *(end.name for end in proto.graph.output if end.name == "label")):
        graph, _, _, inputs = read_logits(proto.SerializeToString() if as_bytes else proto, output)
        points = [list(map(Fraction, point)) for point in points_for(OnnxNetwork(graph, inputs, ())).tolist()]
        for point, seen in zip(points, graph.source.run(points), strict=True):
            logits = evaluate_exact(graph, point)[graph.output]
            assert graph.source.agrees(seen, logits, 1e-4)
            assert graph.source.outputs_of(logits) == pytest.approx(seen.outputs, rel=1e-5, abs=1e-5)
            if output == "label":
                assert np.argmax(seen.logits) == max(range(len(logits)), key=logits.__getitem__)


def test_whole_labels_are_judged_as_they_are_and_texts_by_their_class():
    ending = read_logits(READ["three whole labels"][0], "label")
    query = network_query(
        ending.graph, box(4.0, ending.graph.input_size), property_on_logits(formula_property(y[0] >= 4), *ending.ending)
    )
    own = verify(query).witness.own
    assert own.violated
    assert own.outputs == ((-1.0,),)
    named = read_logits(READ["scaler, binary, maps"][0], "label")
    own = verify(network_query(named.graph, box(100.0, named.graph.input_size), classified_as(0))).witness.own
    assert own.violated
    assert own.outputs == ((1.0,),)


def test_one_sigmoid_is_judged_as_the_two_logits_that_it_stands_for():
    proto = inferred(
        model([node("MatMul", ["x", "w"], ["l"]), node("Sigmoid", ["l"])], {"x": ("n", 2)}, {"w": [[1.0], [-2.0]]})
    )
    network, ending, *_ = read_logits(proto)
    for prop in (classified_as(1), classified_as(0), never_confidently_wrong(1, 0.9), robust(0.5)):
        graph, asked = without_ending(network, ending, prop)
        witness = verify(network_query(graph, box(2.0, 2), asked)).witness
        assert witness.own.violated
        assert witness.own.deviation < 1e-6
        assert witness.own.names[0] == "the given model"
        assert all(len(outputs) == 1 for outputs in witness.own.outputs)
