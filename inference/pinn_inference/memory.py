"""How much memory the process has, how much it may have, and the decision that it is better started anew.

Read from the kernel's own files: resident memory from /proc, the limit from the process's control group, version 1 or 2.
"""

import asyncio
import ctypes
import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
CGROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
BOUNDLESS: Final = 1 << 60
"""Version 1 has no word for "no limit": it says the largest multiple of the page size."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Of mallopt(3)."""

KEPT: Final = 4 * 1024 * 1024
"""Bytes that stay at the heap's end for the next call: a batch of 10,000 options takes as many."""

EVERY: Final = 1.0
PATIENCE: Final = 10.0
"""Seconds above the threshold until it is said: a burst of large batches is no leak."""

_POWERS: Final = {"": 0, "K": 1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def give_back_large_blocks() -> None:
    """Has the C library give every freed block above a mebibyte back to the kernel, for as long as the process lives.

    By itself glibc stops doing so after the first one: each time the cache's table is made anew, megabytes would stay behind.
    Once told, it would give back all of the heap's end as well, and a batch would take a thousand page faults: `KEPT` stays.
    Nothing happens with another C library.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1024 * 1024)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def resident(process: int | None = None) -> int:
    """Bytes of a process's memory that are in RAM, this one's by default. Raises OSError when there is no such process."""
    pages = Path(f"/proc/{process or 'self'}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * PAGE


def limit(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """The smallest memory limit of the process's control group and of those around it, in bytes; None without one."""
    found = [value for file in _limit_files(root, membership) if (value := _bytes_in(file)) is not None]
    return min(found, default=None)


def left(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that the limits of the same groups leave: each less what its group uses; None without one."""
    limits = {file.parent: _bytes_in(file) for file in _limit_files(root, membership)}
    return min((limit - _used(group) for group, limit in limits.items() if limit is not None), default=None)


def size(text: str) -> int:
    """Bytes of an amount as Kubernetes writes it: "256Mi", "1.5G", "900000". Raises ValueError when it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:([kMGTP])|([KMGTP])i)?", text)
    if match is None:
        raise ValueError('must be an amount of memory such as "256Mi" or a number of bytes')
    decimal, binary = match[2] or "", match[3] or ""
    return int(Decimal(match[1]) * (Decimal(1024) ** _POWERS[binary] if binary else Decimal(1000) ** _POWERS[decimal]))


def threshold(text: str, most: int | None) -> int | None:
    """Bytes of "900Mi", or of a share such as "90%" of `most`. None, never, for "", for 0, and for a share of no limit.

    Raises ValueError when it is neither.
    """
    if not text:
        return None
    if not text.endswith("%"):
        return size(text) or None
    if not re.fullmatch(r"(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%", text):
        raise ValueError('must be a share such as "90%", or an amount of memory such as "900Mi"')
    return int(Decimal(text[:-1]) * most / 100) or None if most is not None else None


def spare_the_collector() -> None:
    """Has the garbage collector leave alone what is there, for as long as the process lives, and look seldom at what comes: to
    look through every module again and again would be felt as latency, and requests make no circles.

    Call it before the first model is loaded: what is left alone and no longer used stays for ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def watch(
    used: Callable[[], int],
    above: int,
    tell: Callable[[str | None], None],
    *,
    patience: float = PATIENCE,
    every: float = EVERY,
) -> None:
    """Tells a sentence when `used` has been beyond `above` bytes for `patience` seconds, and None when it no longer is.

    `used` is what a restart would give back: resident memory less what the cache is meant to take. Where it cannot be read, as
    all files are in use, that look is left out. Ends when it is cancelled.
    """
    loop = asyncio.get_running_loop()
    since: float | None = None
    said = False
    while True:
        now = loop.time()
        try:
            taken = used()
        except OSError:
            await asyncio.sleep(every)
            continue
        since = None if taken <= above else now if since is None else since
        over = since is not None and now - since >= patience
        if over != said:
            tell(_sentence(taken, above, patience) if over else None)
            said = over
        await asyncio.sleep(every)


def _sentence(taken: int, above: int, patience: float) -> str:
    mib = 1024 * 1024
    return (
        f"{taken / mib:.0f} MiB in use beside the cache, above {above / mib:.0f} MiB for {patience:.0f} s: restart me"
    )


def _limit_files(root: Path, membership: Path) -> Iterator[Path]:
    """From the process's own group up to the root. In a container the path is the host's, and only the root is there."""
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        base, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
        if controllers and "memory" not in controllers.split(","):
            continue
        group = base / path.lstrip("/")
        yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(base))


def _used(group: Path) -> int:
    """What a group cannot give back: cached files that nobody uses are counted to it, and go first. Of them version 1 has a count
    without the groups within it, under the name of version 2's, and the total."""
    counts = dict(line.split() for line in _lines(group / "memory.stat"))
    inactive = int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
    used = _bytes_in(group / "memory.current") or _bytes_in(group / "memory.usage_in_bytes") or 0
    return used - inactive


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _bytes_in(file: Path) -> int | None:
    """None for "max", for version 1's boundless number, and where there is no such file."""
    said = "".join(_lines(file)).strip()
    return int(said) if said.isdecimal() and int(said) < BOUNDLESS else None
