"""Whose request a log line is about: the caller's request id and W3C trace, taken over where they are valid.

Nothing here runs for a request about which nothing is logged: the wire only notes which request a task works for, and the
headers are read when a line is written (https://www.w3.org/TR/trace-context/).
"""

import os
import re
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol, runtime_checkable

Signal = Literal["TRACES", "METRICS"]

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


@runtime_checkable
class Traced(Protocol):
    """A request with its header fields, and room for what was found in them."""

    trace: dict[str, str] | None

    @property
    def headers(self) -> Any:
        """Its header fields, by lower-case name."""
        ...


current: ContextVar[Traced | None] = ContextVar("request", default=None)


def fields() -> dict[str, str]:
    """trace_id, parent_id and request_id for a line logged now: empty outside a request, the same all through one."""
    request = current.get()
    if request is None:
        return {}
    if request.trace is None:
        request.trace = _read(request.headers)
    return request.trace


def collected(signal: Signal) -> bool:
    """Whether the environment names an OpenTelemetry collector for this signal (telemetry.py), be it for it alone."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and os.environ.get(f"OTEL_{signal}_EXPORTER") != "none" and any(map(os.environ.get, names))


def of_span(headers: Any, trace_id: str, span_id: str) -> dict[str, str]:
    """The fields of a request that a span of this server was begun for."""
    asked = request_id(headers.get("x-request-id"))
    return {"trace_id": trace_id, "span_id": span_id, "request_id": asked or trace_id[:16]}


def request_id(stated: object) -> str | None:
    """An x-request-id fit to be echoed and logged: up to 128 visible ASCII characters."""
    return stated if isinstance(stated, str) and _REQUEST_ID.fullmatch(stated) else None


def _read(headers: Any) -> dict[str, str]:
    found = _trace(headers.get("traceparent")) or {"trace_id": os.urandom(16).hex()}
    asked = request_id(headers.get("x-request-id"))
    return {**found, "request_id": asked or found["trace_id"][:16]}


def _trace(stated: object) -> dict[str, str] | None:
    match = _TRACEPARENT.fullmatch(stated) if isinstance(stated, str) else None
    if match is None:
        return None
    version, trace, parent, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(parent, 16):
        return None
    return {"trace_id": trace, "parent_id": parent}
