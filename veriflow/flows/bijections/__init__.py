"""Piecewise affine bijections whose log-determinant is one constant."""
