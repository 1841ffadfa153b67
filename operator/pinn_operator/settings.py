"""What the operator can be told, each as PINN_OPERATOR_<NAME>; every default suits a first installation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

RELEASE = "0.1.0"
SERVER_IMAGE = f"pinn-operator/inference:{RELEASE}"


class Settings(BaseSettings):
    """Read once at the start; a wrong value ends the program with a sentence that names the variable."""

    model_config = SettingsConfigDict(env_prefix="PINN_OPERATOR_", frozen=True)

    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Namespaces to serve, separated by commas; empty means all of them."
    )
    server_image: str = Field(default=SERVER_IMAGE, description="Server image that new revisions are pinned to.")
    namespace: str = Field(default="pinn-system", description="Where the operator itself runs and keeps its Lease.")
    identity: str = Field(default="", description="Name of this replica in the Lease; empty: the host's name.")
    name: str = Field(default="pinn-operator", description="Name of the Deployment, Lease and roles of the operator.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port of /metrics, /healthz and /readyz.")
    resync_seconds: float = Field(default=600.0, ge=1, description="Between two full lists of each kind.")
    passes: int = Field(default=8, ge=1, description="Objects reconciled at the same time.")
    lease_seconds: int = Field(default=10, ge=3, description="A Lease not renewed for so long can be taken over.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
