"""Branch and bound: domains and their bounds, splits, frontiers, checkpoints."""
