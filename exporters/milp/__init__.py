"""Mixed-integer programs: the model of a query, and its files."""
