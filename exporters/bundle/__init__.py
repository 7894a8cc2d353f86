"""A query as a folder of files for outside verifiers."""
