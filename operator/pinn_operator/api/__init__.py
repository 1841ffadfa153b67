"""The custom resource: its types, its names and its rules. Everything else of the operator builds on this."""

from pinn_operator.api.types import PinnDeployment, PinnDeploymentSpec, PinnDeploymentStatus

__all__ = ["PinnDeployment", "PinnDeploymentSpec", "PinnDeploymentStatus"]
