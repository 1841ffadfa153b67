"""A real Prometheus for the tests: built from its Go module at a pinned version, as no image can be pulled everywhere.

It finds the server pods by itself, as a user's does, and is asked by the operator for their counters.
"""
