"""The size of a flow that nobody chose."""

BLOCKS = 4
"""Coupling blocks."""

HIDDEN = (32, 32)
"""Widths of the hidden layers of each conditioner."""
