"""The servers of the comparison: how each is started, asked, and understood. Settings follow each project's documentation.

FastAPI: uvicorn with uvloop and httptools, one worker, no access log. Mosec: one worker process, JSON by msgspec, once with
its dynamic batching and once without. MLServer: no pool of worker processes (a hop that costs more than this model), neither
debug nor access log, no gzip, no metrics; its adaptive batching was slower than none.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.load.options import OUTPUTS, Option
from benchmarks.load.processes import ROOT, free_port, pinn_server
from benchmarks.peers.environments import environment, version

BATCH: Final = 32
"""Requests Mosec may take together. Of 1, 8, 32 and 64 the fastest but the last, which gains nothing more and waits longer."""

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


@dataclass(frozen=True)
class Contender:
    """One server of the comparison. `launch` gets a free port and an empty folder."""

    name: str
    launch: Callable[[int, Path], Launch]
    path: str
    version: Callable[[], str]
    question: Callable[[Option], Any] = field(default=lambda option: option)
    answer: Callable[[Any], Mapping[str, Any]] = field(default=lambda document: document)
    v2: bool = False
    """Whether it is asked in the Open Inference Protocol, version 2."""


def _ours(port: int, _: Path) -> Launch:
    admin = free_port()
    command, env = pinn_server(port, admin, drain="0s")
    url = f"http://127.0.0.1:{port}"
    return Launch(command, env, url, f"{url}/v2/health/ready", f"http://127.0.0.1:{admin}")


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


def _mlserver(port: int, folder: Path) -> Launch:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
    }
    model = {"name": V2_NAME, "implementation": "benchmarks.peers.mlserver_runtime.Runtime"}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(environment("bench-mlserver") / "bin" / "mlserver"), "start", str(folder)]
    url = f"http://127.0.0.1:{port}"
    return Launch(command, IMPORTS, url, f"{url}/v2/models/{V2_NAME}/ready")


def _tensor(option: Option) -> dict[str, Any]:
    sign = 1.0 if option["kind"] == "call" else -1.0
    names = ("spot", "strike", "maturity", "rate", "dividend_yield", "volatility")
    data = [*(option[name] for name in names), sign]
    return {"inputs": [{"name": "option", "shape": [1, 7], "datatype": "FP64", "data": data}]}


def _from_tensor(document: Any) -> dict[str, Any]:
    return dict(zip(OUTPUTS, document["outputs"][0]["data"], strict=True))


def _tensors(option: Option) -> dict[str, Any]:
    def tensor(name: str, value: Any) -> dict[str, Any]:
        return {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}

    return {"inputs": [tensor(name, value) for name, value in option.items()]}


def _from_tensors(document: Any) -> dict[str, Any]:
    return {output["name"]: output["data"][0] for output in document["outputs"]}


def _contender(name: str, package: str, launch: Callable[[int, Path], Launch], path: str, **form: Any) -> Contender:
    return Contender(name, launch, path, lambda: version(environment(f"bench-{package}"), package), **form)


def _own(name: str, path: str, **form: Any) -> Contender:
    return Contender(name, _ours, path, lambda: importlib.metadata.version("pinn-operator"), **form)


INFER: Final = f"/v2/models/{V2_NAME}/infer"
OURS: Final = _own("pinn-server", "/predict")
OURS_V2: Final = _own("pinn-server, v2", INFER, question=_tensors, answer=_from_tensors, v2=True)
PEERS: Final = (
    _contender("MLServer", "mlserver", _mlserver, INFER, question=_tensor, answer=_from_tensor, v2=True),
    _contender("FastAPI", "fastapi", _fastapi, "/predict"),
    _contender("Mosec", "mosec", _mosec(1), "/inference"),
    _contender("Mosec, batching", "mosec", _mosec(BATCH), "/inference"),
)
