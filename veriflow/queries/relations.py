"""Properties that compare several data points, or several networks, where inputs are probable.

A relation builds one graph: the latents and free numbers (a perturbation δ, a changed feature) in, all points computed
from them, one copy of the network at each point, the outputs one after another. Its violation is then a disjunction
over these outputs, as for any property. Numbers that become constants of the graph are float64.

**Decisions.** A network of two outputs or more decides for the classes whose output is largest; ties decide for all of
them. A network of one output decides positively where it is positive (a sigmoid above one half), else negatively. A
decision is *kept* from x to x' where every class decided for at x is decided for at x'.

**Tolerance.** Where a point and its copy may coincide, the least difference of their outputs is zero, and an engine that
works in floats cannot tell whether it is passed: take a positive ``tolerance``, or the exact engine ``smt``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from ..errors import PropertyError
from ..flows.flow import USFlow
from ..numerics.arrays import Vector
from ..piecewise.build import with_outputs_joined
from ..piecewise.graph import Graph, compose
from ..regions.ball import Ball
from ..regions.box import Box
from ..wording import perhaps, shortened
from .calls import number_text, write_call
from .constraints import Disjunction, Expression, Formula, Joined, y
from .points import Points
from .properties import never_confident
from .query import Application, Query, Setting
from .rationals import exact, rational_text

MOST_VALUES, MOST_CASES = 256, 32_768
"""Most values of a feature to compare, and most disjuncts of the violation."""

Feature = str | int
"""A feature by its name or, counted from 0, by its number."""

Scale = Sequence[float] | Literal["deviation"] | None
"""What one unit of a perturbation is, for each feature: given numbers, or the deviations that the flow has learned."""


@dataclass(frozen=True)
class Relation:
    """A property of several points or networks.

    Attributes:
        text: the relation as `veriflow.parse_property` reads it.
        query: from the setting to the question whether the relation is violated.
        of_logits: whether it is about classes, and so about the logits of a network that ends in probabilities.
    """

    text: str
    query: Callable[[Setting], Query]
    of_logits: bool = False

    def __repr__(self) -> str:
        return f"Relation({shortened(self.text)})"


def robust(
    eps: float, norm: float = math.inf, c: int | None = None, *, scale: Scale = None, tolerance: float = 0.0
) -> Relation:
    """Small perturbations of a probable point keep the decision: for x = φ(z) and x' = x + s ∘ δ with ‖δ‖_norm ≤ eps.

    Violation: ⋁_{c≠j} (y_c ≥ y_i for all i) ∧ y'_j − y'_c > tolerance; with one output,
    (y > 0 ∧ y' ≤ −tolerance) ∨ (y ≤ 0 ∧ y' > tolerance).

    Args:
        eps: size of the perturbation, rounded up to a float32.
        norm: 1 or inf.
        c: only decisions for this class must be kept (0 or 1 with one output); all by default.
        scale: the s above, in units of the data; ones by default.
        tolerance: a decision counts as kept where it is missed by no more than this.

    Raises:
        PropertyError: another norm, numbers out of range, a class that is not there, a scale of another length.
    """
    _check_perturbation(eps, norm, tolerance)

    def query(setting: Setting) -> Query:
        points = Points(setting)
        points.perturb("x'", Ball(norm, eps, setting.network.input_size), _scales(setting, scale))
        violation = _changes(0, setting.network.output_size, setting.network.output_size, tolerance, c)
        return points.query(text, ["x", "x'"], violation)

    text = write_call(
        "robust", eps, norm, *([] if c is None else [c]), **_scale_text(scale), **_given(tolerance=tolerance)
    )
    return Relation(text, query, of_logits=True)


def fair(
    feature: Feature,
    values: Sequence[float] | None = None,
    *,
    within: tuple[float, float] | None = None,
    allow: Mapping[Feature, float | tuple[float, float]] | None = None,
    tolerance: float = 0.0,
) -> Relation:
    """A probable person keeps the decision when one attribute changes, all else being equal.

    With ``values`` v_1, …, v_n the points are x[v_k]: x = φ(z) with the feature set to each value in turn, and the
    decision at x[v_1] is kept at all others. With ``within`` they are x itself and x with the feature anywhere in the
    range. Where ``allow`` lets other features change too, by δ, the decision at every x[v_k] is kept at x[v_l] + δ for all
    l ≠ k. Violation: as for `robust`, for one of these pairs.

    Args:
        feature: the attribute.
        values: at least two values.
        within: or a range, least and greatest value.
        allow: by how much other features may change: at most r in both directions, or from a to b.
        tolerance: as for `robust`.

    Raises:
        PropertyError: neither or both of values and range, too many of them, features that are not there, numbers out of range.
    """
    if (values is None) == (within is None):
        raise PropertyError("expected either values or a range of the feature; got " + ("both" if values else "none"))
    if values is not None and len(set(values)) < max(len(values), 2):
        raise PropertyError(f"expected two different values at least; got {list(values)}")
    if values is not None and len(values) > MOST_VALUES:
        raise PropertyError(
            f"expected at most {MOST_VALUES} values, as each takes a copy of the network, or a range, within=[low, high]; "
            f"got {len(values)}"
        )
    _check_tolerance(tolerance)
    moves = {name: _range(reach) for name, reach in (allow or {}).items()}

    def query(setting: Setting) -> Query:
        place, size = _column(setting, feature), setting.network.output_size
        columns = [_column(setting, name) for name in moves]
        if place in columns or len(set(columns)) < len(columns):
            raise PropertyError(f"expected other features than {feature!r} to be allowed to change, once each")
        points = Points(setting)
        steps = points.add_free_numbers(Box(*np.transpose(list(moves.values())))) if moves else None
        label = _feature_name(setting, place)
        if values is None:
            assert within is not None  # noqa: S101 - checked above
            low, high = map(_ends, _range(within))
            level = points.add_free_numbers(Box(low, high))
            named = ["x", f"x with another {label}"]
            points.change(named[1], place, level, columns, steps)
            pairs = [(0, 1)]
        else:
            named = [f"x[{label}={number_text(v)}]" for v in values]
            for name, v in zip(named, values, strict=True):
                points.change(name, place, v)
            pairs = [(0, k) for k in range(1, len(values))]
            if moves:
                named += [f"{name} changed" for name in named]
                for name, v in zip(named[len(values) :], values, strict=True):
                    points.change(name, place, v, columns, steps)
                pairs = [(k, len(values) + j) for k, j in itertools.permutations(range(len(values)), 2)]
        if len(pairs) * max(size * (size - 1), 2) > MOST_CASES:
            raise PropertyError(
                f"expected at most {MOST_CASES} ways to lose a decision; got {len(pairs)} pairs of points and {size} outputs"
            )
        rows = [row for a, b in pairs for row in _changes(a * size, b * size, size, tolerance)]
        return points.query(text, named, tuple(rows))

    arguments = [] if values is None else [list(values)]
    ranges = {} if within is None else {"within": list(within)}
    allowed = {"allow": {name: _short(reach) for name, reach in moves.items()}} if moves else {}
    text = write_call("fair", feature, *arguments, **ranges, **allowed, **_given(tolerance=tolerance))
    return Relation(text, query, of_logits=True)


def monotone(
    feature: Feature,
    output: int | Expression = 0,
    *,
    increasing: bool = True,
    by: float | None = None,
    tolerance: float = 0.0,
) -> Relation:
    """An output does not fall when one feature of a probable point rises: for x = φ(z), x' = x + t e_f, 0 ≤ t ≤ by.

    Violation: y(x) − y(x') > tolerance (y(x') − y(x) > tolerance for a decreasing output).

    Args:
        feature: the feature that rises.
        output: number of an output, or a linear expression of outputs such as ``y[1] - y[0]``.
        increasing: False where the output must not rise.
        by: how far the feature rises at most; one deviation of the data that the flow has seen by default.
        tolerance: changes up to this are forgiven.

    Raises:
        PropertyError: features or outputs that are not there, numbers out of range, no ``by`` without a flow.
    """
    _check_tolerance(tolerance)
    if by is not None and not (math.isfinite(by) and by > 0):
        raise PropertyError(f"expected a positive rise of the feature; got {by}")

    def query(setting: Setting) -> Query:
        place, size = _column(setting, feature), setting.network.output_size
        score = _expression(output, size)
        points = Points(setting)
        most = float(_scales(setting, "deviation")[place]) if by is None else by
        rise = points.add_free_numbers(Box(np.zeros(1), np.array([most])))
        points.change("x'", None, None, [place], rise)
        fall = _shifted(score, 0) - _shifted(score, size)
        return points.query(text, ["x", "x'"], ((fall if increasing else -fall) > exact(tolerance)).disjuncts())

    options = {} if increasing else {"increasing": "no"}
    text = write_call("monotone", feature, _score_text(output), **options, **_given(by=by, tolerance=tolerance))
    return Relation(text, query)


def lipschitz(
    bound: float | Fraction,
    norm: float,
    eps: float,
    output: int | Expression | None = None,
    *,
    scale: Scale = None,
    tolerance: float = 0.0,
) -> Relation:
    """Outputs change by at most ``bound`` times the perturbation of a probable point: x' = x + s ∘ δ with ‖δ‖_norm ≤ eps.

    Violation: y_i(x') − y_i(x) > bound · ‖δ‖ + tolerance for some i, or the same with both exchanged. The norm of δ is
    one more output, computed by ReLUs.

    Args:
        bound: the Lipschitz constant, as the decimal it is written as.
        norm: 1 or inf.
        eps: size of the perturbation, rounded up to a float32.
        output: only this output, or this linear expression of outputs; every output by default.
        scale: as for `robust`.
        tolerance: changes up to this are forgiven.

    Raises:
        PropertyError: another norm, numbers out of range, an output that is not there, a scale of another length.
    """
    _check_perturbation(eps, norm, tolerance)
    slope = Fraction(str(bound)) if math.isfinite(bound) else exact(bound)
    if slope < 0:
        raise PropertyError(f"expected a bound of at least 0; got {bound}")

    def query(setting: Setting) -> Query:
        size = setting.network.output_size
        points = Points(setting)
        part = points.perturb("x'", Ball(norm, eps, setting.network.input_size), _scales(setting, scale))
        scores = [_expression(i, size) for i in range(size)] if output is None else [_expression(output, size)]
        changes = [_shifted(score, size) - _shifted(score, 0) for score in scores]
        least = y[2 * size] * slope + exact(tolerance)
        violation = Joined("or", tuple(sign * change > least for change in changes for sign in (1, -1)))
        return points.query(text, ["x", "x'"], violation.disjuncts(), norm=(part, norm))

    which = [] if output is None else [_score_text(output)]
    text = write_call(
        "lipschitz", rational_text(slope), norm, eps, *which, **_scale_text(scale), **_given(tolerance=tolerance)
    )
    return Relation(text, query)


def equivalent(other: Graph, tolerance: float, name: str = "other") -> Relation:
    """Another network (pruned, quantised, …) gives nearly the same outputs: |y_i − y'_i| ≤ tolerance for all i.

    Violation: y_i − y'_i > tolerance or y'_i − y_i > tolerance for some i.

    Args:
        other: the other network, of as many inputs and outputs.
        tolerance: largest difference; at 0 only the exact engine ``smt`` can prove equality.
        name: what to call the other network in reports.

    Raises:
        PropertyError: a negative tolerance, a network of other sizes.
    """
    _check_tolerance(tolerance)

    def violation(size: int) -> Disjunction:
        ahead = [y[i] - y[size + i] for i in range(size)]
        limit = exact(tolerance)
        return Joined("or", tuple(sign * one > limit for one in ahead for sign in (1, -1))).disjuncts()

    return _compared("equivalent", other, name, violation, [tolerance])


def same_decision(other: Graph, name: str = "other", *, tolerance: float = 0.0) -> Relation:
    """Another network keeps every decision: each class that this one decides for, the other one decides for too.

    Violation: as for `robust`, with y' the outputs of the other network at the same point.

    Raises:
        PropertyError: a negative tolerance, a network of other sizes.
    """
    _check_tolerance(tolerance)

    def violation(size: int) -> Disjunction:
        return _changes(0, size, size, tolerance)

    compared = _compared("same_decision", other, name, violation, [], **_given(tolerance=tolerance))
    return replace(compared, of_logits=True)


def abstains_outside(delta: float, reach: float = 2.0) -> Relation:
    """Outside the region, from its radius to ``reach`` times its radius, the network is nowhere confident.

    The epistemic property of VeriFlow (arXiv 2406.14265). The query's region is the shell r ≤ ‖z‖ ≤ reach · r around the
    ball of radius r that the question is about. Violation: ⋁_c (y_c − y_j ≥ delta for all j ≠ c); with one output,
    |y| ≥ delta.

    Raises:
        PropertyError: a margin that is not positive, a reach of 1 or less, a region that is not a ball.
    """
    if not (math.isfinite(reach) and reach > 1):
        raise PropertyError(f"expected a reach above 1, as a multiple of the radius; got {reach}")
    inside = never_confident(delta)

    def query(setting: Setting) -> Query:
        ball = setting.region.ball
        if ball is None or ball.inner or not ball.radius or ball.is_trimmed:
            raise PropertyError(f"expected a ball to be outside of; got {setting.region}")
        shell = Ball(ball.p, reach * ball.radius, ball.dim, ball.radius)
        around = Setting(setting.decoder, setting.network, shell, setting.features, setting.flow)
        return replace(inside.query(around), text=text)

    text = write_call("abstains_outside", delta, reach)
    return Relation(text, query, of_logits=True)


def _compared(
    call: str,
    other: Graph,
    name: str,
    violation: Callable[[int], Disjunction],
    arguments: Sequence[float],
    **options: object,
) -> Relation:
    """The network and another one at the same point."""

    def query(setting: Setting) -> Query:
        sizes, wanted = [(g.input_size, g.output_size) for g in (other, setting.network)]
        if sizes != wanted:
            raise PropertyError(
                f"expected another network of {wanted[0]} inputs and {wanted[1]} outputs; got {sizes[0]} and {sizes[1]}"
            )
        graph = compose(setting.decoder, setting.network)
        first = graph.output
        graph = compose(graph, other, setting.decoder.output)
        applied = zip((setting.network, other), (first, graph.output), strict=True)
        graph = with_outputs_joined(graph, [first, graph.output])
        names = [f"{network}y[{i}]" for network in ("", f"{name} ") for i in range(wanted[1])]
        region = setting.region.rounded_outward()
        data, flow = setting.decoder.output, setting.flow
        return Query(
            graph,
            region,
            violation(wanted[1]),
            text,
            data,
            flow,
            output_names=tuple(names),
            applications=tuple(Application(network, data, output) for network, output in applied),
        )

    text = write_call(call, name, *arguments, **options)
    return Relation(text, query)


def _changes(first: int, second: int, size: int, tolerance: float, c: int | None = None) -> Disjunction:
    """Where a decision of the outputs from ``first`` on is not kept by those from ``second`` on."""
    forgiven = exact(tolerance)
    if c is not None and not (isinstance(c, int) and 0 <= c < max(size, 2)):
        raise PropertyError(f"expected a class from 0 to {max(size, 2) - 1}; got {c!r}")
    rows: list[Formula] = []
    if size == 1:
        rows = [(y[first] <= 0) & (y[second] > forgiven), (y[first] > 0) & (y[second] <= -forgiven)]
        return Joined("or", tuple(rows if c is None else [rows[c]])).disjuncts()
    for won, lost in itertools.permutations(range(size), 2):
        if c in (None, won):
            largest = tuple(y[first + won] - y[first + i] >= 0 for i in range(size) if i != won)
            rows.append(Joined("and", (*largest, y[second + lost] - y[second + won] > forgiven)))
    return Joined("or", tuple(rows)).disjuncts()


def _expression(output: int | Expression, size: int) -> Expression:
    score = output if isinstance(output, Expression) else y[output]
    for index in score.coefficients:
        if index >= size:
            raise PropertyError(f"expected an output from y[0] to y[{size - 1}]; got y[{index}]")
    return score


def _shifted(score: Expression, places: int) -> Expression:
    return Expression({i + places: c for i, c in score.coefficients.items()})


def _column(setting: Setting, feature: Feature) -> int:
    names = list(setting.features)
    if isinstance(feature, str) and feature in names:
        return names.index(feature)
    size = setting.network.input_size
    if isinstance(feature, str) and feature.isdecimal():
        feature = int(feature)
    if isinstance(feature, int) and not isinstance(feature, bool) and 0 <= feature < size:
        return feature
    known = f"among {', '.join(names)}" if names else f"by its number from 0 to {size - 1}"
    raise PropertyError(f"expected a feature {known}; got {feature!r}{perhaps(feature, names)}")


def _feature_name(setting: Setting, place: int) -> str:
    return setting.features[place] if setting.features else str(place)


def _scales(setting: Setting, scale: Scale) -> Vector:
    """The scales ``[inputs]``."""
    size = setting.network.input_size
    if scale is None:
        return np.ones(size)
    if isinstance(scale, str):
        if scale != "deviation" or not isinstance(setting.flow, USFlow):
            raise PropertyError(f"expected numbers as scales, or 'deviation' and a flow; got {scale!r}")
        scales = setting.flow.deviations().double().cpu().numpy()
    else:
        scales = np.asarray(scale, dtype=np.float64)
    if scales.shape != (size,) or not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise PropertyError(f"expected {size} scales of at least 0; got {scale}")
    return scales


def _range(reach: float | tuple[float, float]) -> tuple[float, float]:
    low, high = reach if isinstance(reach, Sequence) else (-reach, reach)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise PropertyError(f"expected a finite range from low to high; got {low} and {high}")
    return low, high


def _ends(value: float) -> Vector:
    return np.array([value])


def _check_perturbation(eps: float, norm: float, tolerance: float) -> None:
    if norm not in (1, math.inf):
        raise PropertyError(f"expected the norm 1 or inf; got {norm}")
    if not (math.isfinite(eps) and eps > 0):
        raise PropertyError(f"expected a perturbation of positive finite size; got {eps}")
    _check_tolerance(tolerance)


def _check_tolerance(tolerance: float) -> None:
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise PropertyError(f"expected a finite tolerance of at least 0; got {tolerance}")


def _given(**options: float | None) -> dict[str, float]:
    return {name: value for name, value in options.items() if value}


def _scale_text(scale: Scale) -> dict[str, object]:
    return {} if scale is None else {"scale": scale if isinstance(scale, str) else [float(value) for value in scale]}


def _short(reach: tuple[float, float]) -> object:
    return reach[1] if reach[0] == -reach[1] else list(reach)


def _score_text(output: int | Expression) -> str:
    return str(output if isinstance(output, Expression) else y[output])
