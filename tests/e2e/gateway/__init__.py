"""A real gateway for the tests: Traefik, as one of the many that implement the Gateway API. Nothing in the operator knows it."""
