"""What a person may set, all of it in the environment as PINN_SERVER_*; the command line's options override it."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pinn_inference.errors import SettingsError

PREFIX = "PINN_SERVER_"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
LogFormat = Literal["json", "console"]
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: object) -> float:
    """Seconds of a duration as Go writes it: "5s", "500ms", "1m30s", "0". A float is seconds already."""
    if isinstance(text, float):
        return text
    if text == "0":
        return 0.0
    if not isinstance(text, str) or not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise ValueError('must be a duration such as "5s" or "500ms"')
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def default_models() -> Path:
    """models/ of the checkout this package lies in, else /models, where the image has them."""
    checkout = Path(__file__).parents[2] / "models"
    return checkout if checkout.is_dir() else Path("/models")


def log_format_here() -> LogFormat:
    """Plain lines for a person at a terminal, JSON for everything else."""
    return "console" if sys.stderr.isatty() else "json"


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, BeforeValidator(seconds)]


class Settings(BaseSettings):
    """Every setting with its default. Port 0 takes a free one and logs it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, protected_namespaces=())

    model_name: str = "black-scholes"
    model_version: str = "2.0.0"
    model_uri: str = "builtin://"
    model_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    models_dir: Path = Field(default_factory=default_models)
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached on its own address
    port: Port = 8080
    admin_port: Port = 8081
    drain: Seconds = 5.0
    max_batch: Annotated[int, Field(ge=1)] = 10_000
    max_body: Annotated[int, Field(ge=1)] = 4 * 1024 * 1024
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = Field(default_factory=log_format_here)


def load(**overrides: object) -> Settings:
    """Settings from the environment, `overrides` that are not None first. Raises SettingsError naming each bad one."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks and converts
    except ValidationError as error:
        problems = (f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()} {_reason(e)}" for e in error.errors())
        raise SettingsError("; ".join(problems)) from None


def unknown() -> list[str]:
    """Names in the environment that look like settings and are none: ignored, but worth a line in the log."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)


def _reason(error: object) -> str:
    assert isinstance(error, dict)  # noqa: S101 - pydantic's own shape
    return f"is {error['input']!r}: {str(error['msg']).removeprefix('Value error, ')}"
