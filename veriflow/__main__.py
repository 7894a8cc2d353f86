"""``python -m veriflow``."""

from .cli import main

main()
