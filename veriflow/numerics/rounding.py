"""Margins for rounding in float64: how far computed numbers may be off, each with its proof.

Every operation gives its exact result times 1 + δ with |δ| ≤ u, the unit roundoff, unless it underflows or overflows. A
product of n such factors, or of their inverses, is 1 + θ with |θ| ≤ γ_n = n u / (1 − n u): Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd edition, 2002, lemma 3.1. All counts n here are below 2⁴⁹, for more terms fit into no memory.

A margin is itself computed in float64. Each proof therefore has room left: what is needed is at most 3/4 of the margin, and
the rounding of a margin, and of a sum of margins of up to 2⁴⁹ terms, takes less than the last quarter.
"""

from __future__ import annotations

import math

ROUNDOFF = 2.0**-53
"""The unit roundoff u of float64."""

ADDITION = 4 * ROUNDOFF
"""Margin of one sum a + b, relative to |a| + |b|.

Proof: |fl(a + b) − (a + b)| ≤ u (|a| + |b|); the subtraction of the margins from the result takes as much again at most.
"""

FEW_OPERATIONS = 8 * ROUNDOFF
"""Margin of at most four operations whose results are no larger than S each, relative to S.

Proof: every rounding is off by u S at most, and no operation is to enlarge the errors of those before it: sums, differences,
maxima, and products with factors up to 1. That makes 4 u S (1 + u)³, and the subtraction of the margin 2 u S.
"""

CONSTANTS = 1e-12
"""Margin of ``limit − row · output`` where limit and row are rationals rounded to float64, relative to
``|limit| + |row| · |output|``.

Proof: each constant is off by u of its size, the difference rounds twice, and the size is too small by γ_{n+2} of itself for n
outputs: at most 4 u / (1 − γ_{n+2}) ≤ 5 u of it are lost, and 10⁻¹² > 9,000 u. The rest is room for rows that were computed
themselves: 9,000 u > `gamma` (4,000), so that each constant may be the result of 4,000 operations. Where the limit is known to
this margin only, a computed bound may be below −size, where a rounding could be larger; −size then is a bound anyway.
"""

LARGEST = 1e150
"""Tensors that may be larger have no bounds: what floats lose to overflow and underflow would not be accounted for."""

UNDERFLOW = 1e-290
"""Absolute margin of a sum of products in which some may underflow.

Proof: an operation that underflows is off by 2⁻¹⁰⁷⁵ < 3·10⁻³²⁴; 10⁻²⁹⁰ is more than 10³³ times that.
"""

UNDERFLOW_OF_COEFFICIENTS = 1e-160
"""Absolute margin of sums of coefficients times tensors of sizes up to `LARGEST`, where coefficients may have underflowed.

Proof: a coefficient is off by 2⁻¹⁰⁷⁵ for each operation that underflows; times `LARGEST` that is 3·10⁻¹⁷⁴, and 10⁻¹⁶⁰ is more
than 10¹³ times that: so many operations may underflow.
"""

UNDERFLOW_OF_NORMS = 1e-150
"""Absolute margin of a root of a sum of squares, where squares may underflow.

Proof: the sum of n squares is off by n · 2⁻¹⁰⁷⁵, and its root by √n · 2⁻⁵³⁷ < √n · 3·10⁻¹⁶²; that is enough for 10²² squares.
"""


def gamma(terms: int) -> float:
    """Margin of a sum of ``terms`` products s = Σ aᵢ bᵢ, added in any order, relative to Σ |aᵢ||bᵢ|; both as computed.

    It is (n + 8) · 2u. A factor that k operations were needed for counts as k more terms.

    Proof: s is off by γ_n Σ |aᵢ||bᵢ| at most (Higham, equation 3.5), and that sum is computed as S ≥ (1 − γ_n) Σ |aᵢ||bᵢ|. So
    s is off by γ_n S / (1 − γ_n) = n u S / (1 − 2 n u) ≤ (8/7) n u S. The subtraction of the margin from s rounds to
    u (|s| + margin) ≤ 2 u S. Both together are at most 3/4 of 2 (n + 8) u S.
    """
    return (terms + 8) * 2 * ROUNDOFF


def growth(terms: int) -> float:
    """Relative margin of a sum of ``terms`` numbers that are never negative, each made by as many operations at most.

    Proof: no such sum or product cancels, so that the result is exact times 1 + θ with |θ| ≤ γ_{2 n} < 2 · `gamma` (n).
    It is 10⁻⁹ at least, which holds for two million terms.
    """
    return max(1e-9, 2 * gamma(terms))


def of_transforms(count: int, length: int) -> float:
    """Margin of sums over a convolution of ``count`` distributions, by transforms of a ``length``; absolute.

    A transform is off by about log₂ N · 8u of its norm (Higham, theorem 24.2), which is √N at most for numbers that sum to
    one; factors are at most 1, so that errors of the factors and of the inverse add up, and a sum over N numbers of a vector
    of norm e is √N e at most. That theorem is one of transforms of lengths that are powers of two; others come close to it.
    """
    return max(1e-12, (count + 1) * math.log2(length) * math.sqrt(length) * 8 * ROUNDOFF)
