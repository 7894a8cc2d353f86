"""Piecewise affine bijections whose log-determinant is one constant."""

from .affine import LU, AffineBijection, AffineProduct, Householder, Permutation, Standardisation
from .base import Bijection
from .chain import Chain
from .coupling import Conjugate, CouplingBlock, ResidualBijection

__all__ = [
    "LU",
    "AffineBijection",
    "AffineProduct",
    "Bijection",
    "Chain",
    "Conjugate",
    "CouplingBlock",
    "Householder",
    "Permutation",
    "ResidualBijection",
    "Standardisation",
]
