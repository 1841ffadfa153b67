"""Plan -> Kubernetes objects, as plain dicts. Pure: the same plan gives the same objects, byte for byte."""

from pinn_operator.build.children import build

__all__ = ["build"]
