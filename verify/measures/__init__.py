"""Numbers about a query: certified mass, probability bounds, ranges, reductions."""
