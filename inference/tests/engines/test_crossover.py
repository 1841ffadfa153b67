"""When a worker pays, which devices there are, and how a batch is cut."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.engines import Array, devices, litert, xla
from pinn_inference.engines.crossover import HELD, SIZES, crossover, points_of, time_here, time_there
from pinn_inference.engines.litert import LiteRtEngine

from .conftest import Model


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({1: 9.0, 10: 9.0, 100: 8.9}, 1),
        ({1: 20.0, 10: 9.0, 100: 5.0}, 10),
        ({1: 20.0, 10: 20.0, 100: 9.0}, 100),
        ({1: 5.0, 10: 20.0, 100: 5.0}, 100),
        ({1: 20.0, 10: 9.5, 100: 9.1}, None),
        ({1: 5.0, 10: 5.0, 100: 20.0}, None),
    ],
)
def test_a_worker_is_asked_from_the_size_on_that_gains_a_tenth_and_keeps_it(
    there: dict[int, float], expected: int | None
) -> None:
    assert crossover(dict.fromkeys(there, 10.0), there) == expected


async def test_both_sides_are_timed_at_the_same_sizes(model: Model) -> None:
    asked: list[int] = []

    async def timed(points: Array, _: float) -> float:
        asked.append(len(points))
        return float(len(asked))

    here = time_here(LiteRtEngine(model.tflite))
    there = await time_there(timed, here, (2, 4))
    assert tuple(here) == tuple(there) == SIZES
    assert sorted(set(asked)) == list(SIZES)
    assert list(there.values()) == [1 + asked.index(size) for size in SIZES]  # the best of a few
    assert points_of(10, (3, 5)).shape == (10, 3)


async def test_a_worker_is_not_timed_longer_than_the_loop_would_be_held_up_anyhow() -> None:
    held: dict[int, float] = {}

    async def timed(points: Array, seconds: float) -> float:
        held[len(points)] = seconds
        return 0.0

    await time_there(timed, {64: HELD / 4, 4096: HELD, 10_000: 50 * HELD}, (2, 4))
    assert held == {64: HELD / 4, 4096: HELD, 10_000: HELD}


@given(st.integers(0, 40_000), st.sampled_from(["litert", "cpu", "gpu"]))
def test_every_point_of_a_batch_is_in_exactly_one_piece(count: int, engine: str) -> None:
    cut = list(litert.pieces(count) if engine == "litert" else xla.pieces(count, "gpu" if engine == "gpu" else "cpu"))
    assert [start for start, _, _ in cut] == [sum(n for _, n, _ in cut[:i]) for i in range(len(cut))]
    assert sum(n for _, n, _ in cut) == count
    assert all(0 < n <= size for _, n, size in cut)


@given(st.integers(1, 40_000))
def test_litert_pads_a_batch_by_at_most_two_fifths_of_its_last_piece(count: int) -> None:
    *_, (_, points, size) = litert.pieces(count)
    assert 5 * points >= 3 * size or size == litert.SIZES[0]


@pytest.mark.parametrize(
    ("env", "nodes", "expected"),
    [
        ({}, [], ()),
        ({}, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ("0", "1")),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, ["nvidia0"], ("0",)),
        ({"NVIDIA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, ["nvidia0"], ("MIG-a", "MIG-b")),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["nvidia0"], ("2", "3")),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ["nvidia0"], ()),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["nvidia0"], ()),
        ({"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "GPU-a"}, ["nvidia0"], ()),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, ["nvidia0"], ()),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ["nvidia0"], ("0",)),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, ["nvidia0"], ("0",)),
    ],
)
def test_gpus_are_what_the_device_plugin_gave(
    tmp_path: Path, env: dict[str, str], nodes: list[str], expected: tuple[str, ...]
) -> None:
    for node in nodes:
        (tmp_path / node).touch()
    assert devices.gpus(env, tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 4096 * 1024), ("1048576", 1048576 - 500000 + 100000), ("99999999999", 4096 * 1024)]
)
def test_free_memory_is_what_limit_and_machine_leave(tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable:    4096 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    (tmp_path / "membership").write_text("0::/\n")
    assert devices.free_memory(tmp_path, tmp_path / "meminfo", tmp_path / "membership") == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("9223372036854771712", 4096 * 1024), ("1048576", 1048576 - 500000 + 100000)]
)
def test_control_groups_of_version_1_leave_as_much(tmp_path: Path, limit: str, expected: int) -> None:
    """In a container its own group is where the root is, whatever the host calls it."""
    (tmp_path / "meminfo").write_text("MemAvailable:    4096 kB\n")
    (tmp_path / "membership").write_text("5:cpu:/kubepods/pod\n4:memory:/kubepods/pod\n")
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (group / "memory.usage_in_bytes").write_text("500000\n")
    (group / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 100000\n")
    assert devices.free_memory(tmp_path, tmp_path / "meminfo", tmp_path / "membership") == expected


def test_of_control_groups_within_each_other_the_one_that_leaves_least_counts(tmp_path: Path) -> None:
    """It need not be the one with the smallest limit."""
    (tmp_path / "meminfo").write_text("MemAvailable:    4096 kB\n")
    (tmp_path / "membership").write_text("0::/outer/inner\n")
    for group, limit, used in (("outer", 900_000, 800_000), ("outer/inner", 600_000, 200_000)):
        (tmp_path / group).mkdir()
        (tmp_path / group / "memory.max").write_text(f"{limit}\n")
        (tmp_path / group / "memory.current").write_text(f"{used}\n")
    assert devices.free_memory(tmp_path, tmp_path / "meminfo", tmp_path / "membership") == 100_000


def test_without_a_cgroup_the_machine_decides(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:    4096 kB\n")
    assert devices.free_memory(tmp_path / "none", tmp_path / "meminfo") == 4096 * 1024


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."), True),
        (RuntimeError("Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"), False),
        (MemoryError(), False),
    ],
)
def test_out_of_memory_is_known_by_its_words(error: Exception, expected: bool) -> None:
    assert xla.is_out_of_memory(error) is expected
