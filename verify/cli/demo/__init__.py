"""The demo: its data, models, rows, plots, page and files."""
