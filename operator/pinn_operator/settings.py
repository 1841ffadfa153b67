"""What the operator can be told, each as PINN_OPERATOR_<NAME>; every default suits a first installation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

RELEASE = "0.1.0"
SERVER_IMAGE = f"pinn-operator/inference:{RELEASE}"
PREFIX: Final = "PINN_OPERATOR_"


class Settings(BaseSettings):
    """Read once at the start; a wrong value ends the program with a sentence that names the variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

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
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged at least: debug, info, warning or error."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="json for programs, console for people.")

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def told() -> Iterator[str]:
    """A line for each setting: its variable, what it is for, its default."""
    for name, field in Settings.model_fields.items():
        default = f" Default: `{field.default}`." if field.default not in ("", ()) else ""
        yield f"`{variable(name)}`: {field.description}{default}"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name}".upper()


def unknown() -> list[str]:
    """Names in the environment that look like settings and are none. Those that Kubernetes gives a pod for each Service of its
    namespace, PINN_OPERATOR_METRICS_SERVICE_HOST and the like, are nobody's mistake."""
    services = [name.removesuffix("SERVICE_HOST") for name in os.environ if name.endswith("_SERVICE_HOST")]
    linked = tuple(f"{service}{part}" for service in services for part in ("SERVICE_", "PORT"))
    known = {variable(name) for name in Settings.model_fields}
    said = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(linked))
    return sorted(name for name in said if name.upper() not in known)
