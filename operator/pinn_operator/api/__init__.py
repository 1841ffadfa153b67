"""The custom resource: its types, its names and its rules. Everything else of the operator builds on this."""

from pinn_operator.api.resource import Metadata, PinnDeployment
from pinn_operator.api.spec import Spec
from pinn_operator.api.status import Status

__all__ = ["Metadata", "PinnDeployment", "Spec", "Status"]
