"""Which devices this process may give to workers, and whether there is memory for one; read without TensorFlow."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pinn_inference import memory

NODE: Final = re.compile(r"nvidia\d+")
MEMINFO: Final = Path("/proc/meminfo")


def gpus(env: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs of this container, as CUDA names them: what the device plugin said, else the nodes it mounted.

    The plugin's names come first because several MIG slices share one node. Other words of NVIDIA's than `none` leave it to the
    nodes: `void` is what plugins say that mount them in another way.
    """
    nvidia = env.get("NVIDIA_VISIBLE_DEVICES", "")
    given = env.get("CUDA_VISIBLE_DEVICES", nvidia if nvidia.startswith(("GPU-", "MIG-", "none")) else None)
    if given is not None:
        return tuple(part.strip() for part in given.split(",") if part.strip() not in {"", "-1", "none"})
    count = sum(1 for node in dev.glob("nvidia*") if NODE.fullmatch(node.name))
    return tuple(str(index) for index in range(count))


def free_memory(cgroup: Path = memory.CGROUPS, meminfo: Path = MEMINFO, membership: Path = memory.MEMBERSHIP) -> int:
    """Bytes this process may still take: the cgroup's limit less its use, where there is one; else what the machine has."""
    machine = _kib(meminfo, "MemAvailable") * 1024
    left = memory.left(cgroup, membership)
    return machine if left is None else min(machine, left)


def cores() -> int:
    """How many this process may run on; a quota below that shows only as waiting."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kib(meminfo: Path, name: str) -> int:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in lines if line.startswith(f"{name}:")), 0))
