"""Which devices this process may give to workers, and whether there is memory for one; read without TensorFlow."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NODE: Final = re.compile(r"nvidia\d+")
CGROUP: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")


def gpus(env: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs of this container, as CUDA names them: what the device plugin said, else the nodes it mounted.

    The plugin's names come first because several MIG slices share one node.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        given = env.get(name)
        if given and (name.startswith("CUDA") or given.startswith(("GPU-", "MIG-"))):
            return tuple(part.strip() for part in given.split(",") if part.strip() not in {"", "-1"})
    count = sum(1 for node in dev.glob("nvidia*") if NODE.fullmatch(node.name))
    return tuple(str(index) for index in range(count))


def free_memory(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes this process may still take: the cgroup's limit less its use, where there is one; else what the machine has."""
    machine = _kib(meminfo, "MemAvailable") * 1024
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text()) - _reclaimable(cgroup)
    except OSError:
        return machine
    return machine if limit == "max" else min(machine, int(limit) - used)


def cores() -> int:
    """How many this process may run on; a quota below that shows only as waiting."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reclaimable(cgroup: Path) -> int:
    lines = (cgroup / "memory.stat").read_text().splitlines()
    return int(next((line.split()[1] for line in lines if line.startswith("inactive_file ")), 0))


def _kib(meminfo: Path, name: str) -> int:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in lines if line.startswith(f"{name}:")), 0))
