"""Plan -> Kubernetes objects, as plain dicts. Pure: the same plan gives the same objects, byte for byte."""

from pinn_operator.build.children import build
from pinn_operator.build.metadata import metadata_of

__all__ = ["build", "metadata_of"]
