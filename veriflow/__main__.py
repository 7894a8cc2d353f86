"""``python -m veriflow``."""

from verify.cli import main

main()
