"""Properties and relations as people write them."""
