"""A query as boxes and comparisons of single outputs, which is all that outside verifiers agree to read.

Norm balls and weighted sums of outputs become extra outputs of the network, computed exactly by further affine maps
and ReLUs: ``S = ‖z‖_p`` with p ∈ {1, ∞}, and one output for each linear form that the property needs. Readers of
VNN-LIB drop linear constraints without a word: vibecheck 1.1.0 reads ``(>= (+ Y_0 Y_1) 1.0)`` as nothing at all.

Their networks are float32. Other constants are rounded, and the property is widened by what that changes over the region, so
that every violation of the query is still one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy import sparse

from veriflow.errors import QueryError
from veriflow.numerics.arrays import Matrix, Vector
from veriflow.piecewise.bounds.crown import symbolic_bounds
from veriflow.piecewise.build import fresh, scattering, with_map, with_norm
from veriflow.piecewise.graph import Graph, identity
from veriflow.queries.constraints import Constraint
from veriflow.queries.query import Query
from veriflow.regions.box import Box
from veriflow.regions.region import Part

from .float32_form import in_float32, is_float32
from .numerals import portable_constraint

Form = tuple[tuple[int, Fraction], ...]


@dataclass(frozen=True)
class Comparison:
    """``y[output] >= bound`` or ``y[output] <= bound``; the bound is a number or, an int, another output."""

    output: int
    sign: str
    bound: Fraction | int


@dataclass(frozen=True, eq=False)
class PortableForm:
    """Is there a z in ``box`` at which all comparisons of one disjunct hold of ``graph``'s outputs?

    Attributes:
        graph: the query's graph in float32, its outputs first and the extra ones after them; no constant that is a float32
            number is changed.
        precise: the same with the query's own constants, where some are none.
        deviation: how far outputs of ``graph`` may be from those of ``precise`` over the region, by which the comparisons
            are widened.
        box: the region's bounding box, its ends float32 numbers (around the exact ones of a region that has them).
        disjuncts: comparisons, all inside the disjuncts.
        weakened: how many strict comparisons of the violation were made non-strict, as not all tools know strict ones.
        notes: what each extra output is, in words.
    """

    graph: Graph
    box: Box
    disjuncts: tuple[tuple[Comparison, ...], ...]
    weakened: int
    notes: tuple[str, ...]
    precise: Graph | None = None
    deviation: float = 0.0


def portable_form(query: Query) -> PortableForm:
    """The portable form of a query: it has a solution where the query has one, and where a strict tie is one.

    Raises:
        QueryError: an L2 ball, which is not linear; a violation without disjuncts, or with one that always holds; property
            coefficients that no scaling makes float32 numbers.
        GraphError: constants beyond float32.
    """
    if not query.violation:
        raise QueryError("expected a query that could be violated; got one whose property file contradicts itself")
    region = query.region.rounded_outward()
    if not region.is_linear:
        raise QueryError(f"expected a region of linear constraints; got {region}")
    graphs, off = [query.graph], np.zeros(query.graph.output_size)
    if not is_float32(query.graph):
        near, off = in_float32(query.graph, symbolic_bounds(query.graph, region))
        graphs.insert(0, near)
    rows = [[portable_constraint(_widened(constraint, off)) for constraint in row] for row in query.violation]
    if not all(rows):
        raise QueryError("expected a violation that constrains outputs; got one that always holds")
    size = query.graph.output_size
    forms = list(dict.fromkeys(c.coefficients for row in rows for c in row if not _is_simple(c)))
    numbers = {form: size + k for k, form in enumerate(forms)}
    disjuncts = [tuple(_comparison(constraint, numbers) for constraint in row) for row in rows]
    notes = [f"y[{numbers[form]}] = {_form_text(form)}" for form in forms]
    norms: list[tuple[slice, float]] = []
    for place, part in region.placed_parts:
        if part.p == 1 or part.inner:
            output = size + len(forms) + len(norms)
            norms.append((place, part.p))
            disjuncts = [row + _norm_comparisons(part, output) for row in disjuncts]
            of = "the input" if part is region else f"inputs {place.start} to {place.stop - 1}"
            notes.append(f"y[{output}] = the L{'1' if part.p == 1 else 'inf'} norm of {of}")
    if len(graphs) > 1:
        notes.append(
            f"constants are rounded to float32; outputs are within {off.max():.2g}, and bounds wider by as much"
        )
    if forms or norms:
        graphs = [with_extra_outputs(graph, forms, norms) for graph in graphs]
    return PortableForm(
        graphs[0],
        region.bounding_box(),
        tuple(disjuncts),
        sum(constraint.strict for row in rows for constraint in row),
        tuple(notes),
        graphs[1] if len(graphs) > 1 else None,
        float(off.max()),
    )


def _widened(constraint: Constraint, off: Vector) -> Constraint:
    """The constraint met by outputs that are off by so much wherever it is met."""
    lost = sum((abs(c) * Fraction(float(off[i])) for i, c in constraint.coefficients), Fraction(0))
    return replace(constraint, bound=constraint.bound - lost)


def _is_simple(constraint: Constraint) -> bool:
    """Whether it compares one output with a number, or two outputs with each other."""
    numbers = sorted(c for _, c in constraint.coefficients)
    return numbers in ([1], [-1]) or (numbers == [-1, 1] and constraint.bound == 0)


def _comparison(constraint: Constraint, numbers: dict[Form, int]) -> Comparison:
    form, bound = constraint.coefficients, constraint.bound
    if not _is_simple(constraint):
        return Comparison(numbers[form], ">=", bound)
    if len(form) == 1:
        ((index, sign),) = form
        return Comparison(index, ">=", bound) if sign > 0 else Comparison(index, "<=", -bound)
    (small, _), (large, _) = sorted(form, key=lambda term: term[1])
    return Comparison(small, "<=", large)


def _norm_comparisons(region: Part, output: int) -> tuple[Comparison, ...]:
    outer = (Comparison(output, "<=", Fraction(region.radius)),) if region.p == 1 else ()
    return outer + ((Comparison(output, ">=", Fraction(region.inner)),) if region.inner else ())


def _form_text(form: Form) -> str:
    return " + ".join(f"{float(c)!r} y[{i}]" for i, c in form)


def with_extra_outputs(graph: Graph, forms: list[Form], norms: Sequence[tuple[slice, float]]) -> Graph:
    """The graph with the linear ``forms`` of its outputs as further outputs, and then norms of parts of its input.

    Args:
        graph: any graph; its own nodes stay as they are.
        forms: terms ``(output, coefficient)``, the coefficients float32 numbers.
        norms: the place of each part among the coordinates, and 1 or ∞.
    """
    size = graph.output_size
    rows = np.array([[float(dict(form).get(i, 0)) for i in range(size)] for form in forms]).reshape(len(forms), size)
    total = size + len(forms) + len(norms)
    below = sparse.csr_array((len(norms), size))
    terms: list[tuple[str, Matrix]] = [
        (graph.output, sparse.csr_array(sparse.vstack([identity(size), sparse.csr_array(rows), below], format="csr")))
    ]
    for k, (place, p) in enumerate(norms, start=size + len(forms)):
        graph = with_norm(graph, graph.input, place, p)
        terms.append((graph.output, scattering(slice(k, k + 1), total)))
    return with_map(graph, fresh("outputs", graph.sizes), terms, np.zeros(total))
