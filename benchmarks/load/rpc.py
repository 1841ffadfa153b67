"""`python -m benchmarks.load.rpc TARGET POOL SECONDS CALLS`: keeps so many gRPC calls of the open protocol in flight, in Python.

The pool holds requests as they go over the wire, each after its length (4 bytes, big-endian). Python costs the generator more
than wrk does, so it may be what limits requests/s: its share of its core is told, and requests for each second of the server's
CPU bear it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc.aio

from benchmarks.load.processes import ROOT
from benchmarks.load.wrk import Figures

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
CHANNELS: Final = 4
CALL_SECONDS: Final = 30.0
OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 2**25))


def run(target: str, pool: Path, seconds: float, calls: int, core: int) -> Figures:
    """In a process of its own, on a core of its own. Raises RuntimeError when that fails."""
    command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "benchmarks.load.rpc"]
    command += [target, str(pool), str(seconds), str(calls)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode:
        raise RuntimeError(f"the gRPC load failed: {done.stderr[-2000:]}")
    return Figures(**json.loads(done.stdout))


def write_pool(path: Path, requests: Iterable[bytes]) -> None:
    """Requests as they go over the wire."""
    path.write_bytes(b"".join(struct.pack(">I", len(request)) + request for request in requests))


def read_pool(path: Path) -> list[bytes]:
    """The requests of a file."""
    data, found, at = path.read_bytes(), list[bytes](), 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


async def ask(target: str, request: bytes) -> bytes:
    """One call. Raises grpc.RpcError when it fails."""
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        answer: bytes = await channel.unary_unary(METHOD)(request, timeout=CALL_SECONDS)
        return answer


async def load(target: str, requests: Sequence[bytes], seconds: float, calls: int) -> dict[str, Any]:
    """The fields of Figures."""
    took, failed = list[float](), 0
    pool: Iterator[bytes] = itertools.cycle(requests)
    began = time.perf_counter()

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal failed
        method = channel.unary_unary(METHOD)
        while (now := time.perf_counter()) - began < seconds:
            try:
                await method(next(pool), timeout=CALL_SECONDS)
            except grpc.RpcError:
                failed += 1
            took.append(time.perf_counter() - now)

    channels = [grpc.aio.insecure_channel(target, options=OPTIONS) for _ in range(min(CHANNELS, calls))]
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*(caller(channels[number % len(channels)]) for number in range(calls)))
    after, elapsed = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    await asyncio.gather(*(channel.close() for channel in channels))
    took.sort()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "requests": len(took),
        "seconds": elapsed,
        "p50_ms": 1e3 * took[len(took) // 2],
        "p99_ms": 1e3 * took[min(len(took) - 1, len(took) * 99 // 100)],
        "max_ms": 1e3 * took[-1],
        "failed": failed,
        "generator_busy": round(cpu / elapsed, 3),
    }


if __name__ == "__main__":
    found = asyncio.run(load(sys.argv[1], read_pool(Path(sys.argv[2])), float(sys.argv[3]), int(sys.argv[4])))
    print(json.dumps(found))
