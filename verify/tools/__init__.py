"""Outside verifiers and solvers, in processes of their own."""
