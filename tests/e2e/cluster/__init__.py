# A real Kubernetes cluster wherever the tests run: see docs/how-to/cluster.md. Standard library only, as
# it runs before there is any virtual environment.
from .cluster import Cluster, Status
from .errors import ClusterError

__all__ = ["Cluster", "ClusterError", "Status"]
