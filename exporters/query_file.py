"""A query as one file of arrays, for a process of its own that is to decide it: nothing of it is executed when it is read.

The file is NumPy's ``.npz``: the matrices, biases and divisors, and one array of bytes that is the JSON of everything else.
The flow and the networks' files are not in it, as no engine needs more of them than the graph.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from veriflow.errors import StorageError, VeriflowError
from veriflow.files.array_files import Archive
from veriflow.files.documents import (
    FLAG,
    FRACTION,
    OBJECT,
    TEXT,
    Form,
    check_record,
    list_of,
    none_or,
    number,
    one_of,
    whole,
)
from veriflow.piecewise.graph import Affine, Divisor, Graph, Node, Relu
from veriflow.queries.constraints import Constraint, Disjunction
from veriflow.queries.query import Query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from veriflow.regions.region import Part, Region

Arrays: TypeAlias = "dict[str, NDArray[Any]]"

FORMAT = "veriflow query 3"
_HEAD = "head"
MOST_INPUTS = 2**24

_FRACTIONS = list_of(FRACTION)
_BALL = {
    "p": one_of(1, 2, "inf"),
    "radius": number(0),
    "dim": whole(1, MOST_INPUTS),
    "inner": number(0),
    "limit": Form("a number or 'inf'", lambda value: value == "inf" or number(0).fits(value)),
}
_BOX = {"exact": none_or(list_of(_FRACTIONS, 2, 2))}
_COEFFICIENT = Form(
    "a place and a fraction",
    lambda value: isinstance(value, list) and len(value) == 2 and whole(0).fits(value[0]) and FRACTION.fits(value[1]),
)
_ROW = Form(
    "coefficients, a bound and whether it is strict",
    lambda value: (
        isinstance(value, list)
        and len(value) == 3
        and list_of(_COEFFICIENT).fits(value[0])
        and FRACTION.fits(value[1])
        and FLAG.fits(value[2])
    ),
)
_FORMS = {
    "format": TEXT,
    "input": TEXT,
    "input_size": whole(1, MOST_INPUTS),
    "output": TEXT,
    "nodes": list_of(OBJECT),
    "region": list_of(OBJECT, 1),
    "product": FLAG,
    "violation": list_of(list_of(_ROW)),
    "text": TEXT,
    "data": TEXT,
    "latent": none_or(TEXT),
    "network_outputs": none_or(whole(0)),
    "others": list_of(TEXT),
    "output_names": list_of(TEXT),
}
"""What the JSON of a query file holds."""

_DAMAGE = (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def query_to_bytes(query: Query) -> bytes:
    """The query without its flow; `query_from_bytes` gives it back, every number bit for bit."""
    arrays: Arrays = {}
    nodes = [_node_entry(node, k, arrays) for k, node in enumerate(query.graph.nodes)]
    head = {
        "format": FORMAT,
        "input": query.graph.input,
        "input_size": query.graph.input_size,
        "output": query.graph.output,
        "nodes": nodes,
        "region": [_part_entry(part, k, arrays) for k, part in enumerate(query.region.parts)],
        "product": isinstance(query.region, Product),
        "violation": [
            [[[[i, str(c)] for i, c in row.coefficients], str(row.bound), row.strict] for row in disjunct]
            for disjunct in query.violation
        ],
        "text": query.text,
        "data": query.data,
        "latent": query.latent,
        "network_outputs": query.network_outputs,
        "others": query.others,
        "output_names": query.output_names,
    }
    arrays[_HEAD] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    stream = BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def query_from_bytes(data: bytes) -> Query:
    """The query that `query_to_bytes` wrote.

    Raises:
        StorageError: bytes that are no such file.
        VeriflowError: a graph or region in it that makes no sense.
    """
    try:
        arrays = dict(Archive(data, most=len(data)))
        if odd := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
            raise StorageError(
                f"expected arrays of numbers in a query file; got {arrays[odd[0]].dtype} in {odd[0][:80]!r}"
            )
        head = json.loads(arrays[_HEAD].tobytes())
        if head["format"] != FORMAT:
            raise StorageError(f"expected a query file of the format {FORMAT!r}; got {head['format']!r}")
        _check_head(head)
        nodes = tuple(_node(entry, k, arrays) for k, entry in enumerate(head["nodes"]))
        return Query(
            Graph(head["input"], head["input_size"], nodes, head["output"]),
            _region(head, arrays),
            _violation(head["violation"]),
            head["text"],
            head["data"],
            latent=head["latent"],
            network_outputs=head["network_outputs"],
            others=tuple(head["others"]),
            output_names=tuple(head["output_names"]),
        )
    except VeriflowError:
        raise
    except (*_DAMAGE, ValueError) as error:
        raise StorageError(f"expected a query file; got {type(error).__name__}: {error}") from None


def _check_head(head: object) -> None:
    """Refuse what `query_to_bytes` does not write: StorageError."""
    what = "expected a query file; got one with another document"
    check_record(head, _FORMS, what)
    assert isinstance(head, dict)  # noqa: S101 - as checked
    for entry in head["nodes"]:
        own = {"relu": TEXT} if "relu" in entry else {"terms": list_of(TEXT)}
        check_record(entry, {"output": TEXT, **own}, what)
    for entry in head["region"]:
        check_record(entry, _BALL if "p" in entry else _BOX, what)


def _node_entry(node: Node, k: int, arrays: Arrays) -> dict[str, Any]:
    if isinstance(node, Relu):
        return {"output": node.output, "relu": node.input}
    arrays[f"bias.{k}"] = node.bias
    if node.divisor is not None:
        arrays[f"divisor.{k}"] = np.stack([node.divisor.low, node.divisor.high])
    for j, (_, weight) in enumerate(node.terms):
        name = f"weight.{k}.{j}"
        if sparse.issparse(weight):
            entries = sparse.coo_array(weight)
            arrays[f"{name}.rows"], arrays[f"{name}.columns"] = entries.row, entries.col
            arrays[f"{name}.values"], arrays[f"{name}.shape"] = entries.data, np.array(entries.shape)
        else:
            arrays[name] = np.asarray(weight)
    return {"output": node.output, "terms": list(node.inputs)}


def _node(entry: dict[str, Any], k: int, arrays: Arrays) -> Node:
    if "relu" in entry:
        return Relu(entry["output"], entry["relu"])
    terms = []
    for j, source in enumerate(entry["terms"]):
        name = f"weight.{k}.{j}"
        if name in arrays:
            terms.append((source, arrays[name]))
            continue
        places = (arrays[f"{name}.rows"], arrays[f"{name}.columns"])
        shape = tuple(int(size) for size in arrays[f"{name}.shape"])
        if len(shape) != 2 or shape[0] != len(arrays[f"bias.{k}"]) or not 0 <= shape[1] <= MOST_INPUTS:
            raise StorageError(
                f"expected a weight of {len(arrays[f'bias.{k}'])} rows in a query file; got shape {shape}"
            )
        terms.append((source, sparse.csr_array(sparse.coo_array((arrays[f"{name}.values"], places), shape=shape))))
    ends = arrays.get(f"divisor.{k}")
    return Affine(entry["output"], tuple(terms), arrays[f"bias.{k}"], None if ends is None else Divisor(*ends))


def _part_entry(part: Part, k: int, arrays: Arrays) -> dict[str, Any]:
    if (ball := part.ball) is not None:
        p = "inf" if ball.p == math.inf else ball.p
        limit = "inf" if ball.limit == math.inf else ball.limit
        return {"p": p, "radius": ball.radius, "dim": ball.dim, "inner": ball.inner, "limit": limit}
    box = part.bounding_box()
    arrays[f"lower.{k}"], arrays[f"upper.{k}"] = box.lower, box.upper
    return {"exact": None if box.exact is None else [[str(value) for value in ends] for ends in box.exact]}


def _part(entry: dict[str, Any], k: int, arrays: Arrays) -> Part:
    if "p" in entry:
        p, limit = (math.inf if entry[name] == "inf" else entry[name] for name in ("p", "limit"))
        return Ball(p, entry["radius"], entry["dim"], entry["inner"], limit)
    exact = None
    if entry["exact"] is not None:
        lower, upper = (tuple(Fraction(value) for value in ends) for ends in entry["exact"])
        exact = (lower, upper)
    return Box(arrays[f"lower.{k}"], arrays[f"upper.{k}"], exact)


def _region(head: dict[str, Any], arrays: Arrays) -> Region:
    parts = tuple(_part(entry, k, arrays) for k, entry in enumerate(head["region"]))
    return Product(parts) if head["product"] else parts[0]


def _violation(rows: list[Any]) -> Disjunction:
    return tuple(
        tuple(
            Constraint(tuple((int(i), Fraction(c)) for i, c in coefficients), Fraction(bound), bool(strict))
            for coefficients, bound, strict in row
        )
        for row in rows
    )
