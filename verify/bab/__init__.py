"""Branch and bound: domains, splits, the frontier, bounds on what is left."""
