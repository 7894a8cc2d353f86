"""Numerical tools without a word of flows."""
