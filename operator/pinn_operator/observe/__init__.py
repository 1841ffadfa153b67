"""Every read. Cluster and, later, metrics become one immutable `Observed`, with the time in it."""

from pinn_operator.observe.cluster import observe
from pinn_operator.observe.logs import read_logs

__all__ = ["observe", "read_logs"]
