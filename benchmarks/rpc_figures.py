"""The open protocol over gRPC: single options, and batches of 10,000 as raw tensors, beside MLServer and KServe.

As in peer_figures: the same network on the same engine behind each, in turns, one core for the server and another for the load,
answers checked against the closed formula first. The batch is also asked over HTTP as binary tensors, where a server takes them,
and held, by the server's CPU time, against the engine alone, asked for as many points on its core in the same run.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from pinn_inference.oip import messages

from benchmarks.load import rpc, wrk
from benchmarks.load.options import OUTPUTS, Option, mistakes, random_options
from benchmarks.peer_figures import (
    LOAD_CORE,
    ROUNDS,
    SECONDS,
    SERVER_CORE,
    WARM_UP_SECONDS,
    median,
    running,
    same_engine,
)
from benchmarks.peers import catalogue
from benchmarks.peers.catalogue import Contender, Launch, kserve, mlserver, ours

CALLS: Final = 100
POOL: Final = 60_000
BATCH: Final = 10_000
BATCHES: Final = 8
CHECKED: Final = 100

LENGTH: Final = "Inference-Header-Content-Length"

Read = Callable[[Any], list[Mapping[str, float]]]


@dataclass(frozen=True)
class Peer:
    """How one server is started and spoken to: `asked` makes a request of options, `read` has the answers of a response."""

    contender: Contender
    asked: Callable[[Sequence[Option], bool], bytes]
    read: Read
    tensors: bool = True
    """Whether it takes binary tensors over HTTP."""


@dataclass(frozen=True)
class Turn:
    """One server, once; None where it takes no binary tensors over HTTP."""

    per_second: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    generator_busy: float
    batch_ms: float
    batch_cpu_ms: float
    batch_failed: int
    http_batch_ms: float | None
    http_batch_cpu_ms: float | None
    resident_mib: float


def measure() -> dict[str, Any]:
    """All figures."""
    wrk.require()
    same_engine()
    turns: dict[str, list[Turn]] = {peer.contender.name: [] for peer in PEERS}
    alone = list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            alone.append(engine_alone_ms())
            for peer in PEERS:
                turn = take_turn(peer, Path(folder), number)
                turns[peer.contender.name].append(turn)
                line = f"{turn.per_second:7.0f}/s, {turn.per_cpu_second:.0f} a CPU second; batch {turn.batch_ms:.1f} ms"
                line += f", over HTTP {turn.http_batch_ms:.1f} ms" if turn.http_batch_ms else ""
                print(f"  {number + 1}/{ROUNDS} {peer.contender.name:12} {line}", file=sys.stderr, flush=True)
    medians = {
        name: {key: median(of, key) for key, value in asdict(of[0]).items() if value is not None}
        for name, of in turns.items()
    }
    mine, theirs = medians[PEERS[0].contender.name], medians[PEERS[1].contender.name]
    engine = round(statistics.median(alone), 2)
    return {
        "setting": f"{CALLS} calls in flight, {ROUNDS} rounds of {SECONDS:.0f} s, one core each for server and load",
        "times_mlservers_rate": round(mine["per_second"] / theirs["per_second"], 2),
        "times_mlservers_rate_per_cpu_second": round(mine["per_cpu_second"] / theirs["per_cpu_second"], 2),
        "engine_alone_batch_ms": engine,
        "batch_share_of_the_engines_speed": f"{100 * engine / mine['batch_cpu_ms']:.0f} %",
        "http_batch_share_of_the_engines_speed": f"{100 * engine / mine['http_batch_cpu_ms']:.0f} %",
        "failed": sum(turn.failed + turn.batch_failed for of in turns.values() for turn in of),
        "versions": {peer.contender.name: peer.contender.version() for peer in PEERS},
        "medians": medians,
        "turns": {name: [asdict(turn) for turn in of] for name, of in turns.items()},
    }


def take_turn(peer: Peer, folder: Path, number: int) -> Turn:
    """Starts one server, checks its answers, times single options and then batches, ends it."""
    with running(peer.contender) as (program, launch):
        target = _target(launch)
        check(peer, target, list(islice(random_options(3000 + number), CHECKED)), together=False)
        check(peer, target, list(islice(random_options(4000 + number), BATCH)), together=True)
        pool = folder / "pool"
        rpc.write_pool(pool, (peer.asked([one], False) for one in islice(random_options(2000 + number), 10_000)))
        rpc.run(target, pool, WARM_UP_SECONDS, CALLS, LOAD_CORE)
        rpc.write_pool(pool, (peer.asked([one], False) for one in islice(random_options(1000 + number), POOL)))
        cpu = program.cpu_seconds()
        single = rpc.run(target, pool, SECONDS, CALLS, LOAD_CORE)
        busy = (program.cpu_seconds() - cpu) / single.seconds
        batches = [list(islice(random_options(5000 + 100 * number + i), BATCH)) for i in range(BATCHES)]
        rpc.write_pool(pool, (peer.asked(batch, True) for batch in batches))
        cpu = program.cpu_seconds()
        batch = rpc.run(target, pool, SECONDS / 2, 1, LOAD_CORE)
        batch_cpu_ms = 1e3 * (program.cpu_seconds() - cpu) / batch.requests
        http_ms, http_cpu_ms, http_failed = None, None, 0
        if peer.tensors:
            check_over_http(peer, launch, batches[0])
            wrk.write_tensors(pool, (over_http(peer.asked(batch, True)) for batch in batches))
            cpu = program.cpu_seconds()
            http = wrk.run(launch.url, peer.contender.path, pool, max(1.0, SECONDS / 2), 1, LOAD_CORE, tensors=True)
            http_ms, http_failed = http.p50_ms, http.failed
            http_cpu_ms = 1e3 * (program.cpu_seconds() - cpu) / http.requests
        memory = program.memory()
    return Turn(
        per_second=single.per_second,
        per_cpu_second=single.per_second / busy,
        p50_ms=single.p50_ms,
        p99_ms=single.p99_ms,
        failed=single.failed,
        generator_busy=single.generator_busy,
        batch_ms=batch.p50_ms,
        batch_cpu_ms=batch_cpu_ms,
        batch_failed=batch.failed + http_failed,
        http_batch_ms=http_ms,
        http_batch_cpu_ms=http_cpu_ms,
        resident_mib=memory.resident_mib,
    )


def check(peer: Peer, target: str, options: Sequence[Option], *, together: bool) -> None:
    """Every answer is right, or the run ends here. Raises RuntimeError."""
    groups = [options] if together else [[one] for one in options]
    for group in groups:
        answer = asyncio.run(rpc.ask(target, peer.asked(group, together)))
        check_answers(peer, group, messages.ModelInferResponse.FromString(answer))


def check_over_http(peer: Peer, launch: Launch, options: Sequence[Option]) -> None:
    """The same for a batch as binary tensors. Raises RuntimeError."""
    text, behind = over_http(peer.asked(options, True))
    headers = {"content-type": "application/octet-stream", LENGTH: str(len(text))}
    asked = urllib.request.Request(launch.url + peer.contender.path, text + behind, headers)
    try:
        with urllib.request.urlopen(asked, timeout=rpc.CALL_SECONDS) as answer:
            length, content = int(answer.headers[LENGTH]), answer.read()
    except OSError as error:
        raise RuntimeError(f"{peer.contender.name} does not take binary tensors over HTTP: {error}") from None
    message, at = messages.ModelInferResponse(), length
    for output in json.loads(content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        message.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        message.raw_output_contents.append(content[at : at + size])
        at += size
    check_answers(peer, options, message)


def check_answers(peer: Peer, options: Sequence[Option], message: Any) -> None:
    """Raises RuntimeError for a wrong one, or one that is missing."""
    found = peer.read(message)
    if len(found) != len(options):
        raise RuntimeError(f"{peer.contender.name} answers {len(found)} of {len(options)} options")
    for option, values in zip(options, found, strict=True):
        if wrong := mistakes(option, values):
            raise RuntimeError(f"{peer.contender.name} is wrong: {wrong[0]}")


def engine_alone_ms() -> float:
    """Milliseconds of CPU time of the engine for a batch, measured as the servers' are: the mean while it is asked on end.

    On the server's core, in a process of its own with one thread.
    """
    code = (
        "from time import perf_counter, process_time\n"
        "from benchmarks.engine_figures import MODEL, points\n"
        "from pinn_inference.engines.litert import LiteRtEngine\n"
        f"engine, asked = LiteRtEngine((MODEL / 'model.tflite').read_bytes()), points({BATCH})\n"
        "engine.jets(asked)\n"
        f"calls, began, end = 0, process_time(), perf_counter() + {SECONDS / 2}\n"
        "while perf_counter() < end:\n"
        "    engine.jets(asked)\n"
        "    calls += 1\n"
        "print(1e3 * (process_time() - began) / calls)"
    )
    command = ["taskset", "--cpu-list", str(SERVER_CORE), sys.executable, "-c", code]
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return float(done.stdout)


def _target(launch: Launch) -> str:
    if launch.rpc is None:
        raise ValueError("a server of this comparison has to be started with gRPC")
    return launch.rpc


# --- What each is asked, and how its answer is read ------------------------------------------------------------------


def _by_name(options: Sequence[Option], raw: bool) -> bytes:
    """A tensor an input, as this server describes itself; a batch past the cache, which the peers do not have."""
    message = messages.ModelInferRequest(model_name=catalogue.V2_NAME)
    if raw:
        message.parameters["exact"].bool_param = True
    for name in options[0]:
        values = [option[name] for option in options]
        kind = "BYTES" if name == "kind" else "FP64"
        tensor = message.inputs.add(name=name, datatype=kind, shape=[len(values)])
        if raw and kind == "FP64":
            message.raw_input_contents.append(np.array(values).tobytes())
        elif raw:
            message.raw_input_contents.append(b"".join(len(v).to_bytes(4, "little") + v.encode() for v in values))
        elif kind == "FP64":
            tensor.contents.fp64_contents.extend(values)
        else:
            tensor.contents.bytes_contents.extend(v.encode() for v in values)
    return bytes(message.SerializeToString())


def over_http(message: bytes) -> tuple[bytes, bytes]:
    """A request with raw tensors as HTTP has it: the JSON, and the bytes behind it."""
    asked = messages.ModelInferRequest.FromString(message)
    raw = list(asked.raw_input_contents)
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(asked.inputs, raw, strict=True)
    ]
    flags = {name: value.bool_param for name, value in asked.parameters.items()}
    return json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True, **flags}}).encode(), b"".join(raw)


def _of_names(message: Any) -> list[Mapping[str, float]]:
    raw = list(message.raw_output_contents)
    columns = {
        output.name: np.frombuffer(raw[at]) if raw else output.contents.fp64_contents
        for at, output in enumerate(message.outputs)
        if output.datatype == "FP64" and (raw or output.contents.fp64_contents)
    }
    count = len(columns["price"])
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(count)]


def _as_rows(options: Sequence[Option], raw: bool) -> bytes:
    """One tensor of seven numbers an option."""
    data = np.array([catalogue.row(option) for option in options])
    message = messages.ModelInferRequest(model_name=catalogue.V2_NAME)
    tensor = message.inputs.add(name="option", datatype="FP64", shape=data.shape)
    if raw:
        message.raw_input_contents.append(data.tobytes())
    else:
        tensor.contents.fp64_contents.extend(data.ravel())
    return bytes(message.SerializeToString())


def _of_rows(message: Any) -> list[Mapping[str, float]]:
    raw = list(message.raw_output_contents)
    values = np.frombuffer(raw[0]) if raw else np.array(message.outputs[0].contents.fp64_contents)
    return [dict(zip(OUTPUTS, row, strict=True)) for row in values.reshape(-1, len(OUTPUTS)).tolist()]


PEERS: Final = (
    Peer(Contender("pinn-server", ours(rpc=True), catalogue.INFER, catalogue.OWN), _by_name, _of_names),
    Peer(Contender("MLServer", mlserver, catalogue.INFER, "mlserver"), _as_rows, _of_rows, tensors=False),
    Peer(Contender("KServe", kserve(rpc=True), catalogue.INFER, "kserve"), _as_rows, _of_rows),
)
