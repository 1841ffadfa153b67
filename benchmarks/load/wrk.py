"""wrk with a pool of prepared requests: fast enough, on one core, not to be what is measured. That is checked, not assumed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__).with_name("pool.lua")


class WrkMissing(RuntimeError):
    """The load generator is not installed."""


@dataclass(frozen=True)
class Figures:
    """What one run came to. `failed` are answers of 400 and above, broken connections and time-outs together."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    generator_busy: float
    """Share of its core that wrk itself used: near 1, wrk was the limit and the figures are worthless."""

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def require() -> None:
    """Raises WrkMissing with the remedy."""
    for program, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(program) is None:
            raise WrkMissing(f"{program} is missing: install it with `apt-get install -y {package}`")


def write_tensors(pool: Path, requests: Iterable[tuple[bytes, bytes]]) -> None:
    """Requests of the open protocol's binary extension, each as its JSON and the bytes behind it."""
    parts = (b"%d %d\n%s%s" % (len(text), len(text) + len(behind), text, behind) for text, behind in requests)
    pool.write_bytes(b"".join(parts))


def run(
    url: str, path: str, pool: Path, seconds: float, connections: int, core: int, *, tensors: bool = False
) -> Figures:
    """Keeps `connections` busy for a while, each sending the next request of the pool when its last one is answered.

    `tensors`: the pool is one of `write_tensors`.
    """
    command = ["taskset", "--cpu-list", str(core), "wrk", "--threads", "1", "--connections", str(connections)]
    command += [
        "--duration",
        f"{seconds:.0f}s",
        "--timeout",
        "10s",
        "--script",
        str(SCRIPT),
        url,
        "--",
        str(pool),
        path,
        *(["tensors"] if tensors else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("figures: ")), None)
    if done.returncode or line is None:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    told = json.loads(line.removeprefix("figures: "))
    return Figures(
        requests=told["requests"],
        seconds=told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        max_ms=told["max_ms"],
        failed=told["not_200"] + told["broken"] + told["timed_out"],
        generator_busy=round(told["cpu_seconds"] / told["seconds"], 3),
    )
