"""What a person may set, all of it in the environment as PINN_SERVER_*; the command line's options override it."""

import os
import re
import socket
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pinn_inference import memory
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


def count_of_bytes(text: object) -> object:
    """Bytes of a quantity as Kubernetes writes it: "256Mi", "1G", "1048576". A number is bytes already."""
    return memory.size(text) if isinstance(text, str) else text


def widths(text: object) -> dict[str, tuple[float, bool]]:
    """Bin widths by input: "volatility=1%,rate=0.001"; each a number and whether it is relative."""
    if isinstance(text, dict):
        return text
    found = {}
    for part in filter(None, str(text).split(",")):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number.removesuffix("%"))
        except ValueError:
            equals = ""
        if not (name and equals):
            raise ValueError('must be widths by input such as "volatility=1%,rate=0.001"')
        found[name] = (value / 100, True) if number.endswith("%") else (value, False)
    return found


def threshold(text: object) -> str:
    """A share of the memory limit ("90%") or a number of bytes ("900Mi"); empty for none."""
    said = str(text)
    memory.threshold(said, None)
    return said


def token(text: object) -> object:
    """As it will stand in a header field: the line end of the file it was read from is no part of it."""
    if not isinstance(text, str):
        return text
    found = text.strip()
    if not re.fullmatch("[!-~]*", found):
        raise ValueError("must be visible ASCII characters without spaces, as in `openssl rand -hex 32`")
    return found


def warming(text: object) -> str:
    """none, synthetic, or the address of another server's admin port."""
    if text in ("none", "synthetic") or str(text).startswith(("http://", "https://")):
        return str(text)
    raise ValueError('must be "none", "synthetic" or the address of another server\'s admin port, http://...')


def from_batch(text: object) -> int | None:
    """From how many points on; None where it is to be measured ("auto")."""
    if text in ("auto", None):
        return None
    number = int(str(text))
    if number < 1:
        raise ValueError('must be "auto" or a number of points')
    return number


def default_models() -> Path:
    """models/ of the checkout this package lies in, else /models, where the image has them."""
    checkout = Path(__file__).parents[2] / "models"
    return checkout if checkout.is_dir() else Path("/models")


def host_here() -> str:
    """Every address of the machine: `::` where IPv6 leads out, which takes IPv4 callers too unless the kernel forbids it."""
    any4, any6 = EVERYWHERE
    try:
        shared = Path("/proc/sys/net/ipv6/bindv6only").read_text(encoding="ascii").strip() == "0"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))  # sends nothing: it only looks for a way
    except OSError:
        return any4
    return any6 if shared else any4


def log_format_here() -> LogFormat:
    """Plain lines for a person at a terminal, JSON for everything else."""
    return "console" if sys.stderr.isatty() else "json"


EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - a pod is reached on its own address
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, BeforeValidator(seconds)]
Bytes = Annotated[int, BeforeValidator(count_of_bytes), Field(ge=0)]
Widths = Annotated[dict[str, tuple[float, bool]], NoDecode, BeforeValidator(widths)]
GpuPolicy = Literal["never", "prefer", "require"]
EngineChoice = Literal["auto", "litert", "xla", "gpu"]


class Settings(BaseSettings):
    """Every setting with its default. Port 0 takes a free one and logs it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, protected_namespaces=())

    model_name: str = "black-scholes"
    model_version: str = "2.0.0"
    model_uri: str = "builtin://"
    model_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    model_credentials: Path | None = None
    model_max_bytes: Annotated[Bytes, Field(ge=1)] = 1024 * 1024 * 1024
    model_fetch_timeout: Annotated[Seconds, Field(gt=0, le=86_400)] = 300.0
    models_dir: Path = Field(default_factory=default_models)
    host: str = Field(default_factory=host_here)
    port: Port = 8080
    admin_port: Port = 8081
    grpc_port: Port = 0
    """0, unlike the others', is no port: most callers have no use for gRPC, and its library takes memory."""
    drain: Seconds = 5.0
    cache_size: Annotated[int, Field(ge=0)] = 100_000
    cache_max_bytes: Bytes = 256 * 1024 * 1024
    cache_bin_widths: Widths = Field(default_factory=dict)
    warm_up: Annotated[str, BeforeValidator(warming)] = "none"
    warm_up_keys: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    gpu_policy: GpuPolicy = "never"
    engine: EngineChoice = "auto"
    xla_from_batch: Annotated[int | None, BeforeValidator(from_batch)] = None
    fallback_cpu: bool = True
    fallback_solver: bool = True
    timeout: Annotated[Seconds, Field(gt=0)] = 1.0
    concurrency: Annotated[int, Field(ge=1)] = 64
    queue: Annotated[int, Field(ge=0)] = 256
    max_batch: Annotated[int, Field(ge=1)] = 10_000
    max_body: Annotated[int, Field(ge=1)] = 4 * 1024 * 1024
    restart_above_memory: Annotated[str, BeforeValidator(threshold)] = ""
    admin_token: Annotated[SecretStr, BeforeValidator(token)] = SecretStr("")
    access_log: bool = False
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
    shown = "(hidden)" if error["loc"] == ("admin_token",) else repr(error["input"])
    return f"is {shown}: {str(error['msg']).removeprefix('Value error, ')}"
