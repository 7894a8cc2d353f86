"""Tables of rows: read from files, checked, written."""
