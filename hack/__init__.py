"""What `make` runs: a demo, the end-to-end tests, and what both need of a cluster. Not part of the product."""
