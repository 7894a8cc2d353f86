"""Files: read only as far as they are safe, written whole or not at all."""
