"""How Python runs: imports that wait, time limits, threads."""
