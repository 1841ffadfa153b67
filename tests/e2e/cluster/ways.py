# Chooses where the cluster comes from. The choice is a pure function of what was found on the machine,
# so that it can be tested without a machine; `look` is the part that goes and finds out.
from __future__ import annotations

import enum
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_root
from .errors import EXIT_NO_WAY, ClusterError
from .proc import succeeds


class Way(enum.Enum):
    GIVEN = "the cluster that KUBECONFIG_E2E names"
    ENGINE = "kind on this machine's container engine"
    OWN = "kind on an engine and a node image of our own"


@dataclass(frozen=True)
class Surroundings:
    kubeconfig_e2e: str | None
    engine_answers: bool
    linux: bool
    root: bool
    debian: bool

    def missing_for_own(self) -> list[str]:
        needs = {"Linux": self.linux, "root": self.root, "Debian's packages (apt-get)": self.debian}
        return [name for name, there in needs.items() if not there]


def choose(found: Surroundings) -> Way:
    if found.kubeconfig_e2e:
        return Way.GIVEN
    if found.engine_answers:
        return Way.ENGINE
    missing = found.missing_for_own()
    if not missing:
        return Way.OWN
    raise ClusterError(
        "No cluster can be had here: KUBECONFIG_E2E is not set, no container engine answers `docker info`, "
        f"and building an engine of our own lacks {' and '.join(missing)}.",
        exit_code=EXIT_NO_WAY,
    )


def look(env: Mapping[str, str] | None = None) -> Surroundings:
    env = os.environ if env is None else env
    engine = shutil.which("docker") is not None and not is_own_engine(env, cache_root(env))
    return Surroundings(
        kubeconfig_e2e=env.get("KUBECONFIG_E2E") or None,
        engine_answers=engine and succeeds(["docker", "info"], env=env),
        linux=sys.platform == "linux",
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        debian=is_debian(read_os_release()) and shutil.which("apt-get") is not None,
    )


def is_own_engine(env: Mapping[str, str], root: Path) -> bool:
    """Whether DOCKER_HOST leads to an engine of way 3, as it does under `run`: that one can pull nothing."""
    return env.get("DOCKER_HOST", "").startswith(f"unix://{root}/state/")


def read_os_release() -> str:
    path = Path("/etc/os-release")
    return path.read_text() if path.exists() else ""


def is_debian(os_release: str) -> bool:
    return "ID=debian" in os_release.splitlines()
