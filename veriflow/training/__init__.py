"""Training flows by maximum a posteriori, and what is changed in them afterwards."""
