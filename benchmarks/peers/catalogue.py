"""The servers of the comparison: how each is started, asked, and understood. Settings follow each project's documentation.

FastAPI: uvicorn with uvloop and httptools, one worker, no access log. Mosec: one worker process, JSON by msgspec, once with
its dynamic batching and once without. MLServer: no pool of worker processes (a hop that costs more than this model), neither
debug nor access log, no gzip, no metrics; its adaptive batching was slower than none. KServe: its model server with a custom
predictor, uvloop, no gRPC, no latency log. BentoML, LitServe and Ray Serve: one worker or replica, no access log, each once with
its batching and once without.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.load.options import OUTPUTS, Option
from benchmarks.load.processes import ROOT, free_port, pinn_server
from benchmarks.peers.environments import environment, version

BATCH: Final = 32
"""Requests Mosec may take together, and those that batch as it does. Of 1, 8, 32 and 64 it is Mosec's fastest but the last, which
gains nothing more and waits longer."""

OWN: Final = "pinn-operator"
V2_NAME: Final = "black-scholes"
IMPORTS: Final = {"PYTHONPATH": f"{ROOT}:{ROOT / 'inference'}", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Launch:
    """A command with its environment, and the address that says when it is ready."""

    command: list[str]
    env: Mapping[str, str]
    url: str
    ready: str
    admin: str | None = None
    rpc: str | None = None
    """Host and port of its gRPC, where it has been started with it."""


@dataclass(frozen=True)
class Contender:
    """One server of the comparison. `launch` gets a free port and an empty folder."""

    name: str
    launch: Callable[[int, Path], Launch]
    path: str
    package: str
    """What is installed, in an environment bench-PACKAGE unless it is in ours."""
    question: Callable[[Option], Any] = field(default=lambda option: option)
    answer: Callable[[Any], Mapping[str, Any]] | None = field(default=lambda document: document)
    """The numbers in what it says; None where they are no answer to the question."""
    v2: bool = False
    """Whether it is asked in the Open Inference Protocol, version 2."""

    def version(self) -> str:
        """Of what is measured."""
        if self.package in (OWN, NOTHING.package):
            return importlib.metadata.version(self.package)
        return version(environment(f"bench-{self.package}"), self.package)


def ours(*, rpc: bool = False) -> Callable[[int, Path], Launch]:
    """This server, with gRPC or without."""

    def launch(port: int, _: Path) -> Launch:
        admin, second = free_port(), free_port()
        command, env = pinn_server(port, admin, drain="0s", **({"grpc_port": str(second)} if rpc else {}))
        url = f"http://127.0.0.1:{port}"
        target = f"127.0.0.1:{second}" if rpc else None
        return Launch(command, env, url, f"{url}/v2/health/ready", f"http://127.0.0.1:{admin}", target)

    return launch


def _nothing(port: int, _: Path) -> Launch:
    url = f"http://127.0.0.1:{port}"
    return Launch([sys.executable, "-m", "benchmarks.peers.nothing", str(port)], IMPORTS, url, url)


def _fastapi(port: int, _: Path) -> Launch:
    uvicorn = str(environment("bench-fastapi") / "bin" / "uvicorn")
    command = [uvicorn, "benchmarks.peers.fastapi_app:app", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--workers",
        "1",
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    url = f"http://127.0.0.1:{port}"
    return Launch(command, IMPORTS, url, f"{url}/health")


def _mosec(batch: int) -> Callable[[int, Path], Launch]:
    def launch(port: int, folder: Path) -> Launch:
        python = str(environment("bench-mosec") / "bin" / "python")
        command = [python, "-m", "benchmarks.peers.mosec_app", "--address", "127.0.0.1", "--port", str(port)]
        command += ["--path", str(folder / "sockets"), "--log-level", "warning"]
        url = f"http://127.0.0.1:{port}"
        return Launch(command, {**IMPORTS, "MOSEC_BATCH": str(batch)}, url, f"{url}/metrics")

    return launch


def mlserver(port: int, folder: Path) -> Launch:
    """With gRPC: it cannot be started without."""
    second = free_port()
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": second,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
    }
    model = {"name": V2_NAME, "implementation": "benchmarks.peers.mlserver_runtime.Runtime"}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(environment("bench-mlserver") / "bin" / "mlserver"), "start", str(folder)]
    url = f"http://127.0.0.1:{port}"
    ready = f"{url}/v2/models/{V2_NAME}/ready"
    return Launch(command, IMPORTS, url, ready, rpc=f"127.0.0.1:{second}")


def kserve(*, rpc: bool = False) -> Callable[[int, Path], Launch]:
    """Its model server, with gRPC or without."""

    def launch(port: int, folder: Path) -> Launch:
        second, quiet = free_port(), folder / "logging.json"
        quiet.write_text(json.dumps({"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}))
        command = [str(environment("bench-kserve") / "bin" / "python"), "-m", "benchmarks.peers.kserve_app"]
        command += ["--http_port", str(port), "--enable_grpc", str(rpc).lower(), "--grpc_port", str(second)]
        command += ["--enable_latency_logging", "false", "--event-loop", "uvloop", "--log_config_file", str(quiet)]
        url = f"http://127.0.0.1:{port}"
        target = f"127.0.0.1:{second}" if rpc else None
        return Launch(command, IMPORTS, url, f"{url}/v2/models/{V2_NAME}/ready", rpc=target)

    return launch


def _bentoml(port: int, folder: Path) -> Launch:
    bentoml = str(environment("bench-bentoml") / "bin" / "bentoml")
    command = [bentoml, "serve", "benchmarks.peers.bentoml_app:Prices", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    env = {**IMPORTS, "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return Launch(command, env, url, f"{url}/readyz")


def _litserve(batch: int) -> Callable[[int, Path], Launch]:
    def launch(port: int, _: Path) -> Launch:
        python = str(environment("bench-litserve") / "bin" / "python")
        url = f"http://127.0.0.1:{port}"
        env = {**IMPORTS, "LITSERVE_BATCH": str(batch)}
        return Launch([python, "-m", "benchmarks.peers.litserve_app", str(port)], env, url, f"{url}/health")

    return launch


def _ray(batch: int) -> Callable[[int, Path], Launch]:
    def launch(port: int, folder: Path) -> Launch:
        python = str(environment("bench-ray") / "bin" / "python")
        command = [python, "-m", "benchmarks.peers.ray_app", str(port), str(folder)]
        env = {**IMPORTS, "RAY_SERVE_BATCH": str(batch), "RAY_USAGE_STATS_ENABLED": "0"}
        url = f"http://127.0.0.1:{port}"
        return Launch(command, env, url, f"{url}/-/healthz")

    return launch


def row(option: Option) -> list[float]:
    """The seven numbers that an option is to a peer."""
    names = ("spot", "strike", "maturity", "rate", "dividend_yield", "volatility")
    return [*(option[name] for name in names), 1.0 if option["kind"] == "call" else -1.0]


def _tensor(option: Option) -> dict[str, Any]:
    return {"inputs": [{"name": "option", "shape": [1, 7], "datatype": "FP64", "data": row(option)}]}


def _from_tensor(document: Any) -> dict[str, Any]:
    return dict(zip(OUTPUTS, document["outputs"][0]["data"], strict=True))


def _tensors(option: Option) -> dict[str, Any]:
    def tensor(name: str, value: Any) -> dict[str, Any]:
        return {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}

    return {"inputs": [tensor(name, value) for name, value in option.items()]}


def _from_tensors(document: Any) -> dict[str, Any]:
    return {output["name"]: output["data"][0] for output in document["outputs"]}


def _list_of_one(option: Option) -> dict[str, Any]:
    return {"options": [option]}


def _only_one(document: Any) -> dict[str, Any]:
    (found,) = document
    return dict(found)


INFER: Final = f"/v2/models/{V2_NAME}/infer"
OURS: Final = Contender("pinn-server", ours(), "/predict", OWN)
OURS_V2: Final = Contender("pinn-server, v2", ours(), INFER, OWN, question=_tensors, answer=_from_tensors, v2=True)
NOTHING: Final = Contender("a fixed answer", _nothing, "/predict", "uvloop", answer=None)
"""No peer: what the sockets alone take, read and written by the event loop that this server stands on."""

PEERS: Final = (
    Contender("MLServer", mlserver, INFER, "mlserver", question=_tensor, answer=_from_tensor, v2=True),
    Contender("FastAPI", _fastapi, "/predict", "fastapi"),
    Contender("Mosec", _mosec(1), "/inference", "mosec"),
    Contender("Mosec, batching", _mosec(BATCH), "/inference", "mosec"),
    Contender("KServe", kserve(), INFER, "kserve", question=_tensor, answer=_from_tensor, v2=True),
    Contender("BentoML", _bentoml, "/one", "bentoml", question=lambda option: {"option": option}),
    Contender("BentoML, batching", _bentoml, "/many", "bentoml", question=_list_of_one, answer=_only_one),
    Contender("LitServe", _litserve(1), "/predict", "litserve"),
    Contender("LitServe, batching", _litserve(BATCH), "/predict", "litserve"),
    Contender("Ray Serve", _ray(1), "/predict", "ray"),
    Contender("Ray Serve, batching", _ray(BATCH), "/predict", "ray"),
)
