"""The custom resource: its types, its names and its rules. Everything else of the operator builds on this.

The types are imported when they are asked for: whoever needs the names alone should not wait for pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinn_operator.api.resource import Metadata, PinnDeployment
    from pinn_operator.api.spec import Spec
    from pinn_operator.api.status import Status

__all__ = ["Metadata", "PinnDeployment", "Spec", "Status"]

_WHERE = {"Metadata": "resource", "PinnDeployment": "resource", "Spec": "spec", "Status": "status"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"pinn_operator.api.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
