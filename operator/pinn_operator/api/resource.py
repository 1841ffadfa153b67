"""The PinnDeployment as a whole: metadata, spec and status."""

from pydantic import Field

from pinn_operator.api import rules as r
from pinn_operator.api.base import Part
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.spec import Spec
from pinn_operator.api.status import Status, Time


class OwnerReference(Part):
    """Who owns the object, as far as the operator asks."""

    api_version: str
    kind: str
    name: str
    uid: str


class Metadata(Part):
    """What the operator reads of an object's metadata; the rest stays where it is."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = Field(default={})
    annotations: dict[str, str] = Field(default={})
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class PinnDeployment(Part):
    """A physics-informed model: served, watched, and rolled out step by step with automatic rollback."""

    rules = (r.NAME_FITS, r.NAME_IS_A_LABEL)

    api_version: str = Field(default=API_VERSION, description="Version of this schema.")
    kind: str = Field(default=KIND, description="Kind of this object.")
    metadata: Metadata = Field(description="The object's metadata.")
    spec: Spec = Field(description="What is wanted: a model, how it is served, and how a new version of it takes over.")
    status: Status = Field(default=Status(), description="What is, as the operator last saw it. Not yours to write.")
