"""Every read. Cluster and, later, metrics become one immutable `Observed`, with the time in it."""

from pinn_operator.observe.cluster import observe

__all__ = ["observe"]
