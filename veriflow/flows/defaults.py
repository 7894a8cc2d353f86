"""Default sizes of a flow."""

BLOCKS = 4
"""Coupling blocks."""

HIDDEN = (32, 32)
"""Widths of the hidden layers of each conditioner."""
