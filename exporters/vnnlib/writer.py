"""A query's portable form as VNN-LIB text, versions 1.0 and 2.0 (https://www.vnnlib.org).

Both state one bound per assertion on the inputs and a single assertion on the outputs, an ``or`` of ``and``s with every
comparison inside: what all readers take the same way. Numbers are exact decimals, those of a box that was read from a
file as they were there; an end such as 1/3 becomes the float32 number outside of it. No comparison is strict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from ..forms.numerals import decimal_ends, decimal_text
from ..forms.portable_form import Comparison, PortableForm


def to_vnnlib1(form: PortableForm, text: str = "") -> str:
    """VNN-LIB 1.0: a satisfying assignment is an input in the box whose outputs violate the property.

    Args:
        form: the portable form; the network file that goes with the text is the one of ``form.graph``.
        text: the property in words, for a comment.
    """
    size, outputs = form.graph.input_size, form.graph.output_size
    declared = [f"(declare-const X_{i} Real)" for i in range(size)] + [
        f"(declare-const Y_{i} Real)" for i in range(outputs)
    ]
    return _joined(form, text, declared, "X_{}".format, "Y_{}".format)


def to_vnnlib2(form: PortableForm, text: str = "", further: Sequence[str] = ()) -> str:
    """VNN-LIB 2.0: the same statement about a network named N with input X ``[1, d]`` and output Y ``[1, k]``.

    ``further`` are assertions on the input that go between the box and the property.
    """
    declared = [
        "(vnnlib-version <2.0>)",
        "(declare-network N",
        f"    (declare-input X float32 [1, {form.graph.input_size}])",
        f"    (declare-output Y float32 [1, {form.graph.output_size}])",
        ")",
    ]
    return _joined(form, text, declared, "X[0,{}]".format, "Y[0,{}]".format, further)


def _joined(
    form: PortableForm,
    text: str,
    declared: list[str],
    x: Callable[[int], str],
    y: Callable[[int], str],
    further: Sequence[str] = (),
) -> str:
    lines = heading(form, text) + declared
    for i, (low, high) in enumerate(zip(*decimal_ends(form.box), strict=True)):
        lines.append(f"(assert (>= {x(i)} {decimal_text(low)}))")
        lines.append(f"(assert (<= {x(i)} {decimal_text(high)}))")
    lines += further
    rows = [" ".join(comparison_text(comparison, y) for comparison in row) for row in form.disjuncts]
    lines += ["(assert (or", *(f"    (and {row})" for row in rows), "))"]
    return "\n".join(lines) + "\n"


def heading(form: PortableForm, text: str) -> list[str]:
    """Comments: the property in words, what the extra outputs are, and whether strict comparisons were weakened."""
    lines = [f"; {' '.join(note.split())}" for note in (f"can this be violated: {text}", *form.notes)]
    if form.weakened:
        lines.append(f"; {form.weakened} strict comparisons are written as non-strict ones")
    return lines


def comparison_text(comparison: Comparison, y: Callable[[int], str]) -> str:
    """The comparison, its outputs named by ``y``."""
    bound = comparison.bound
    right = decimal_text(bound) if isinstance(bound, Fraction) else y(bound)
    return f"({comparison.sign} {y(comparison.output)} {right})"
