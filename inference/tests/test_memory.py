"""Memory as the kernel says it, limits of both generations of control groups, and the patience before a restart."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from pinn_inference import memory

MIB = 1024 * 1024
BOUNDLESS_V1 = "9223372036854771712"


def test_resident_memory_grows_by_what_is_touched() -> None:
    before = memory.resident()
    block = bytearray(b"x") * (64 * MIB)
    assert memory.resident() - before >= 60 * MIB
    assert len(block) == 64 * MIB


FAULTS = """
import resource, sys
from pinn_inference import memory

memory.give_back_large_blocks()

def call(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [b"x" * size for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

call(900_000)
print(call(900_000), end=" ")
before = memory.resident()
block = b"x" * 64_000_000
del block
print(memory.resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about the GNU C library")
def test_what_a_batch_takes_stays_for_the_next_one_and_large_blocks_do_not() -> None:
    """By page faults: with the heap's end given back each of the 20 calls takes over six hundred."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60)
    faults, kept = map(int, done.stdout.split())
    assert faults < 2000
    assert kept < 8 * MIB


def test_a_process_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="4194305"):
        memory.resident(4194305)  # beyond the largest process number there can be


def _groups(tmp_path: Path, membership: str, **files: str) -> int | None:
    (tmp_path / "cgroup").write_text(membership)
    for path, content in files.items():
        file = tmp_path / "fs" / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        # Keyword names cannot hold a dot.
        file.with_name(file.name.replace("-max", ".max").replace("-limit", ".limit_in_bytes")).write_text(content)
    return memory.limit(tmp_path / "fs", tmp_path / "cgroup")


V2 = "0::/pod/server\n"
V1 = "5:cpu:/pod\n4:memory:/pod/server\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {"pod__server__memory-max": "1000\n"}, 1000),
        (V2, {"pod__server__memory-max": "max\n"}, None),
        (V2, {"pod__server__memory-max": "3000\n", "pod__memory-max": "2000\n"}, 2000),
        (V2, {"memory-max": "1000\n"}, 1000),
        ("0::/../outside\n", {"memory-max": "1000\n"}, 1000),
        (V1, {"memory__pod__server__memory-limit": "1000\n"}, 1000),
        (V1, {"memory__pod__server__memory-limit": BOUNDLESS_V1}, None),
        (V1, {"memory__pod__server__memory-limit": BOUNDLESS_V1, "memory__memory-limit": "5000\n"}, 5000),
        (V1, {"memory__memory-limit": "1000\n"}, 1000),
        (V1, {}, None),
        ("", {}, None),
    ],
)
def test_the_limit_is_the_smallest_of_the_groups_around_the_process(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int | None
) -> None:
    assert _groups(tmp_path, membership, **files) == expected


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory.limit(tmp_path, tmp_path / "absent") is None


def test_the_limit_of_this_very_process_can_be_read() -> None:
    found = memory.limit()
    assert found is None or found > memory.resident()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1000", 1000),
        ("256Mi", 256 * MIB),
        ("1.5Gi", 1536 * MIB),
        ("1.5G", 1_500_000_000),
        ("64Ki", 65536),
        ("64k", 64000),
        ("0.1Ki", 102),
        ("2Ti", 2 * 1024**4),
    ],
)
def test_amounts_are_those_of_kubernetes(text: str, expected: int) -> None:
    assert memory.size(text) == expected


@pytest.mark.parametrize("text", ["", "Mi", "1mb", "-1", "1 Mi", "1e9", "256K", "1ki", "NaN", "٣"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='such as "256Mi"'):
        memory.size(text)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("90%", 1000, 900),
        ("87.5%", 1024 * MIB, 896 * MIB),
        ("100%", 1000, 1000),
        ("90%", None, None),
        ("0%", 1000, None),
        ("", 1000, None),
        ("0", 1000, None),
        ("900Mi", None, 900 * MIB),
        ("900Mi", 1000, 900 * MIB),
    ],
)
def test_a_threshold_is_an_amount_or_a_share_of_the_limit(text: str, most: int | None, expected: int | None) -> None:
    assert memory.threshold(text, most) == expected


@pytest.mark.parametrize("text", ["101%", "%", "9o%", "-1%", "90 %", "nine"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        memory.threshold(text, 1000)


class Watched:
    """`used` is what the test says it is; `told` is what came of it, with the time."""

    def __init__(self) -> None:
        self.used = 0
        self.told: list[tuple[float, str | None]] = []
        self.task = asyncio.create_task(memory.watch(lambda: self.used, 100 * MIB, self._tell))

    def _tell(self, sentence: str | None) -> None:
        self.told.append((asyncio.get_running_loop().time(), sentence))


@pytest.mark.looptime
async def test_memory_above_the_threshold_is_said_after_some_seconds_and_once() -> None:
    watched = Watched()
    watched.used = 101 * MIB
    await asyncio.sleep(60)
    ((at, sentence),) = watched.told
    assert at == pytest.approx(memory.PATIENCE)
    assert sentence == "101 MiB in use beside the cache, above 100 MiB for 10 s: restart me"
    watched.task.cancel()


@pytest.mark.looptime
async def test_a_peak_is_no_leak() -> None:
    watched = Watched()
    for _ in range(5):
        watched.used = 500 * MIB
        await asyncio.sleep(memory.PATIENCE - 1)
        watched.used = 100 * MIB
        await asyncio.sleep(memory.EVERY + 0.1)
    assert watched.told == []
    watched.task.cancel()


@pytest.mark.looptime
async def test_memory_that_is_given_back_is_said_too() -> None:
    watched = Watched()
    watched.used = 500 * MIB
    await asyncio.sleep(20)
    watched.used = 0
    await asyncio.sleep(2)
    assert [sentence is None for _, sentence in watched.told] == [False, True]
    watched.task.cancel()


@pytest.mark.looptime
async def test_a_look_that_cannot_be_taken_is_left_out_and_the_next_ones_count() -> None:
    """As while every file the process may open is in use."""
    told: list[str | None] = []
    fails = True

    def used() -> int:
        if fails:
            raise OSError(24, "Too many open files")
        return 500 * MIB

    task = asyncio.create_task(memory.watch(used, 100 * MIB, told.append))
    await asyncio.sleep(30)
    assert not task.done()
    fails = False
    await asyncio.sleep(memory.PATIENCE + 2)
    fails = True
    await asyncio.sleep(2)
    task.cancel()
    assert len(told) == 1
