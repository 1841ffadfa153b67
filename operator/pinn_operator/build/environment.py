"""What the server is told: every field of the spec that it acts upon, as PINN_SERVER_*, in units that it reads."""

from __future__ import annotations

from pinn_operator.api.location import location_of
from pinn_operator.api.spec import Cache, Spec
from pinn_operator.api.units import bytes_of
from pinn_operator.build.model import server_uri

WARM_UP = {"Stable": "synthetic", "Synthetic": "synthetic", "None": "none"}
"""The operator itself gives a canary the keys of stable, before its first request; a first revision never has a stable."""


def environment(spec: Spec) -> list[tuple[str, str]]:
    """All that the spec says of the server, defaults too: a server of another release may have other defaults."""
    return [
        ("PINN_SERVER_MODEL_NAME", spec.model.name),
        ("PINN_SERVER_MODEL_VERSION", spec.model.version),
        ("PINN_SERVER_MODEL_URI", server_uri(location_of(spec.model.uri))),
        *([("PINN_SERVER_MODEL_DIGEST", spec.model.digest)] if spec.model.digest else []),
        *_cache(spec.cache),
        ("PINN_SERVER_GPU_POLICY", "never"),  # where it has a GPU, build/gpu.py says otherwise
        ("PINN_SERVER_FALLBACK_CPU", _word(spec.fallback.cpu)),
        ("PINN_SERVER_FALLBACK_SOLVER", _word(spec.fallback.solver)),
        ("PINN_SERVER_TIMEOUT", _duration(spec.limits.timeout)),
        ("PINN_SERVER_CONCURRENCY", str(spec.limits.concurrency)),
        ("PINN_SERVER_QUEUE", str(spec.limits.queue)),
        ("PINN_SERVER_RESTART_ABOVE_MEMORY", spec.limits.restart_above_memory),
    ]


def _cache(cache: Cache) -> list[tuple[str, str]]:
    widths = ",".join(f"{name}={width}" for name, width in sorted(cache.bin_widths.items()))
    return [
        ("PINN_SERVER_CACHE_SIZE", str(cache.size)),
        ("PINN_SERVER_CACHE_MAX_BYTES", str(bytes_of(cache.max_bytes))),
        *([("PINN_SERVER_CACHE_BIN_WIDTHS", widths)] if widths else []),
        ("PINN_SERVER_WARM_UP", WARM_UP[cache.warm_up.from_]),
        ("PINN_SERVER_WARM_UP_KEYS", str(cache.warm_up.keys)),
    ]


def _word(value: bool) -> str:
    return "true" if value else "false"


def _duration(text: str) -> str:
    """As Go writes it; the days of the resource are its own."""
    return f"{int(text[:-1]) * 24}h" if text.endswith("d") else text
