"""Engines: what decides a query, and several of them together."""
