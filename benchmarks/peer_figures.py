"""Uncached price and Greeks, single options, 100 connections: this server and its peers in turns, on the same network.

One core for the server, another for the load generator. The turns alternate, so that whatever else the machine does falls on all
alike; each turn asks questions never asked before, so that no cache helps; each server is checked against the closed formula
before it is timed. Medians over the rounds; the peers' best stands for the peers.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.load import wrk
from benchmarks.load.options import Option, body, mistakes, random_options
from benchmarks.load.processes import Program, free_port, post, samples, started, wait_until_ready
from benchmarks.peers.catalogue import NOTHING, OURS, OURS_V2, PEERS, Contender, Launch
from benchmarks.peers.environments import environment, version

RESULTS: Final = Path(__file__).parent / "results"
CONNECTIONS: Final = 100
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "10"))
WARM_UP_SECONDS: Final = 3.0
ENGINE: Final = "ai-edge-litert"
POOL: Final = 250_000
CHECKED: Final = 500
SERVER_CORE, LOAD_CORE = 0, 1
BUSY: Final = 0.9
"""A load generator busier than this may be what was measured."""


@dataclass(frozen=True)
class Turn:
    """One server, once. `per_cpu_second` is per second of CPU it used: the figure that bears a machine with other work."""

    per_second: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    failed: int
    resident_mib: float
    proportional_mib: float
    server_busy: float
    generator_busy: float
    cache_hits: float | None


def measure() -> dict[str, Any]:
    """All figures, also written as a table and a plot beside the JSON."""
    wrk.require()
    contenders = (OURS, OURS_V2, *PEERS, NOTHING)
    versions = {contender.name: contender.version() for contender in contenders}
    same_engine()
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            pools = Pools(Path(folder), number)
            for contender in contenders:
                turn = take_turn(contender, pools)
                turns[contender.name].append(turn)
                say(f"{number + 1}/{ROUNDS} {contender.name:16} {turn.per_second:7.0f}/s  p99 {turn.p99_ms:.1f} ms")
    figures = summary(turns, versions)
    write(figures)
    return figures


class Pools:
    """Questions of one round: the same for every server, in each one's own words, and never asked in another round."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.timed = list(islice(random_options(1000 + number), POOL))
        self.warm_up = list(islice(random_options(2000 + number), 20_000))
        self.checked = list(islice(random_options(3000 + number), CHECKED))

    def file(self, contender: Contender, options: Sequence[Option]) -> Path:
        """The bodies of the options, one a line."""
        path = self.folder / "pool"
        path.write_bytes(b"\n".join(body(contender.question(option)) for option in options))
        return path


def take_turn(contender: Contender, pools: Pools) -> Turn:
    """Starts one server, checks its answers, warms it up, times it, ends it."""
    with running(contender) as (program, launch):
        check(contender, launch, pools.checked)
        path = pools.file(contender, pools.warm_up)
        wrk.run(launch.url, contender.path, path, WARM_UP_SECONDS, CONNECTIONS, LOAD_CORE)
        path = pools.file(contender, pools.timed)
        hits, cpu = cache_hits(launch), program.cpu_seconds()
        figures = wrk.run(launch.url, contender.path, path, SECONDS, CONNECTIONS, LOAD_CORE)
        busy = (program.cpu_seconds() - cpu) / figures.seconds
        memory = program.memory()
        found = cache_hits(launch)
        check(contender, launch, pools.checked)
    return Turn(
        per_second=figures.per_second,
        per_cpu_second=figures.per_second / busy,
        p50_ms=figures.p50_ms,
        p99_ms=figures.p99_ms,
        max_ms=figures.max_ms,
        requests=figures.requests,
        failed=figures.failed,
        resident_mib=memory.resident_mib,
        proportional_mib=memory.proportional_mib,
        server_busy=busy,
        generator_busy=figures.generator_busy,
        cache_hits=found - hits if found is not None and hits is not None else None,
    )


def same_engine() -> None:
    """Raises RuntimeError when an environment has another engine than ours: the comparison would be of engines."""
    ours = importlib.metadata.version(ENGINE)
    for name in sorted({f"bench-{peer.package}" for peer in PEERS}):
        if (theirs := version(environment(name), ENGINE)) != ours:
            raise RuntimeError(f"{name} has {ENGINE} {theirs}, this environment {ours}: run `make lock`")


@contextmanager
def running(contender: Contender) -> Iterator[tuple[Program, Launch]]:
    """The server, ready, on its core."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        launch = contender.launch(free_port(), Path(folder))
        with started(launch.command, log, SERVER_CORE, launch.env) as program:
            wait_until_ready(launch.ready, program)
            yield program, launch


def check(contender: Contender, launch: Launch, options: Sequence[Option]) -> None:
    """Every answer is 200 and right, or the run ends here: speed without that means nothing."""
    if contender.answer is None:
        return
    for option in options:
        status, text = post(launch.url + contender.path, body(contender.question(option)))
        if status != 200:
            raise RuntimeError(f"{contender.name} answers {status}: {text[:500]}")
        if wrong := mistakes(option, contender.answer(json.loads(text))):
            raise RuntimeError(f"{contender.name} is wrong: {wrong[0]}")


def cache_hits(launch: Launch) -> float | None:
    """So far; None when the server does not count them."""
    if launch.admin is None:
        return None
    counts = [value for name, value in samples(launch.admin).items() if name.startswith("pinn_cache_hits_total")]
    return sum(counts) if counts else None


def summary(turns: dict[str, list[Turn]], versions: dict[str, str]) -> dict[str, Any]:
    """Medians of each, ours against the best of the peers, and all the turns they come from."""
    medians = {name: {key: median(of, key) for key in asdict(of[0])} for name, of in turns.items()}

    def best(key: str, of: Callable[[Iterable[float]], float], digits: int, v2: bool = False) -> float:
        ours = medians[(OURS_V2 if v2 else OURS).name]
        return round(ours[key] / of(medians[peer.name][key] for peer in PEERS if peer.v2 or not v2), digits)

    return {
        "setting": f"{CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS:.0f} s, one core each for server and load",
        "times_the_best_peers_rate": best("per_second", max, 2),
        "times_the_best_peers_rate_per_cpu_second": best("per_cpu_second", max, 2),
        "share_of_the_best_peers_p99": best("p99_ms", min, 3),
        "times_the_best_peers_v2_rate": best("per_second", max, 2, v2=True),
        "times_the_best_peers_v2_rate_per_cpu_second": best("per_cpu_second", max, 2, v2=True),
        "times_the_best_peers_rate_of_a_fixed_answer": round(
            medians[NOTHING.name]["per_second"] / max(medians[peer.name]["per_second"] for peer in PEERS), 2
        ),
        "failed": sum(turn.failed for of in turns.values() for turn in of),
        "load_generator_was_the_limit": any(
            turn.generator_busy > BUSY for name, of in turns.items() if name != NOTHING.name for turn in of
        ),
        "versions": versions,
        "medians": medians,
        "turns": {name: [asdict(turn) for turn in of] for name, of in turns.items()},
    }


def median(turns: Sequence[Any], key: str) -> float:
    """Of one figure over the rounds."""
    return round(statistics.median(getattr(turn, key) or 0.0 for turn in turns), 3)


def write(figures: dict[str, Any]) -> None:
    """peers.md, and peers.svg by the environment that has the plotting library."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.md").write_text(table(figures))
    python = environment("bench") / "bin" / "python"
    plot = Path(__file__).parent / "peers" / "plot.py"
    subprocess.run([python, plot, RESULTS / "peers.svg"], input=json.dumps(figures["medians"]), text=True, check=True)


def table(figures: dict[str, Any]) -> str:
    """For a reader."""
    rows = [row(f"{name} {figures['versions'][name]}", m) for name, m in figures["medians"].items()]
    return "\n".join(
        [
            "Uncached price and five Greeks, single options, the same network on LiteRT behind each; medians over the rounds.",
            f"{figures['setting']}.",
            "",
            "| server | requests/s | per CPU second | p50 ms | p99 ms | failed | resident MiB | its core busy | load's |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Against the best peer: {figures['times_the_best_peers_rate']} times the requests/s, "
            f"{figures['share_of_the_best_peers_p99']} of the p99. What only reads and sends a fixed answer has "
            f"{figures['times_the_best_peers_rate_of_a_fixed_answer']} times its requests/s.",
            "",
        ]
    )


def row(name: str, m: dict[str, float]) -> str:
    """One server."""
    cells = [
        f"{m['per_second']:,.0f}",
        f"{m['per_cpu_second']:,.0f}",
        f"{m['p50_ms']:.2f}",
        f"{m['p99_ms']:.2f}",
        f"{m['failed']:.0f}",
    ]
    cells += [f"{m['resident_mib']:.0f}", f"{m['server_busy']:.0%}", f"{m['generator_busy']:.0%}"]
    return f"| {name} | {' | '.join(cells)} |"


def say(line: str) -> None:
    """Progress, apart from the figures."""
    print(f"  {line}", file=sys.stderr, flush=True)
