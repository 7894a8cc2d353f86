"""Questions: properties, relations and specifications, as queries."""
