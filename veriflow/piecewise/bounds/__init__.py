"""Sound bounds of a graph over a region: intervals, CROWN, α-CROWN, β-CROWN, semidefinite programs."""
