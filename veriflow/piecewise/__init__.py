"""Piecewise affine graphs: what a flow and a network under test are lowered to."""
