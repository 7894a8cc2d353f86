"""Piecewise affine uniformly scaling flows."""
