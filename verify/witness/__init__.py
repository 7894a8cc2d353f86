"""Verdicts and witnesses: found, replayed exactly, improved."""
