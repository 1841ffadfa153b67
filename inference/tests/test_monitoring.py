"""How busy GPUs are: told where there are any, and nothing where nobody knows."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pinn_inference import monitoring
from pinn_inference.monitoring import GPU_WINDOW, GpuUse, Metrics, Nvml

NOT_SUPPORTED, NOT_FOUND = 3, 6


class Library:
    """NVML as ctypes shows it: functions that answer with a code, and write where they are told."""

    def __init__(self, **busy: int) -> None:
        self.devices = {name.encode(): percent for name, percent in busy.items()}
        self.initialised = 0

    def nvmlInit_v2(self) -> int:
        self.initialised += 1
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        if name not in self.devices:
            return NOT_FOUND
        handle._obj.value = list(self.devices).index(name) + 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = index.value + 1
        return 0 if index.value < len(self.devices) else NOT_FOUND

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:
        percent = list(self.devices.values())[handle.value - 1]
        rates._obj[0], rates._obj[1] = max(percent, 0), 7
        return NOT_SUPPORTED if percent < 0 else 0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def nobody() -> Nvml:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def test_a_device_is_asked_by_its_uuid_or_its_number() -> None:
    library = Library(GPU=42, other=7)
    nvml = Nvml(library)
    assert library.initialised == 1
    assert [nvml.busy(name) for name in ("GPU", "other", "0", "1")] == [0.42, 0.07, 0.42, 0.07]


def test_a_device_that_is_not_there_or_has_no_such_share_is_said_with_the_code() -> None:
    nvml = Nvml(Library(MIG=-1))
    with pytest.raises(OSError, match="nvmlDeviceGetHandleByUUID answers 6"):
        nvml.busy("GPU")
    with pytest.raises(OSError, match="nvmlDeviceGetUtilizationRates answers 3"):
        nvml.busy("MIG")


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread: a test looks itself."""
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)


@pytest.mark.usefixtures("unwatched")
def test_the_mean_of_the_last_looks_is_told_by_device_and_old_ones_are_not() -> None:
    clock, library = Clock(), Library(a=100, b=0)
    use = GpuUse(("a", "b"), now=clock)
    nvml = Nvml(library)
    use.look(nvml)
    clock.now += 1
    library.devices[b"a"] = 50
    use.look(nvml)
    assert use.shares() == [("a", 0.75), ("b", 0.0)]
    clock.now += GPU_WINDOW - 0.5
    assert use.shares() == [("a", 0.5), ("b", 0.0)]
    clock.now += 1
    assert use.shares() == []


@pytest.mark.usefixtures("unwatched")
def test_a_device_that_has_gone_does_not_hide_the_others() -> None:
    use = GpuUse(("gone", "b"))
    use.look(Nvml(Library(b=30)))
    assert use.shares() == [("b", 0.3)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is how its thread ends
def test_devices_are_watched_from_the_first_reading_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "GPU_EVERY", 0.01)
    asked, twice = threading.Event(), threading.Event()

    class Watched(Nvml):
        looks = 0

        def busy(self, name: str) -> float:
            self.looks += 1
            if self.looks > 1:
                twice.set()
                raise SystemExit
            assert asked.wait(10)
            return super().busy(name)

    use = GpuUse(("a",), opened=lambda: Watched(Library(a=60)))
    assert use.shares() == []
    asked.set()
    assert twice.wait(10)
    assert use.shares() == [("a", 0.6)]
    assert use._thread is not None
    use._thread.join(10)  # else it ends in the next test


@pytest.mark.parametrize("opened", [nobody, lambda: Nvml(object())])
def test_without_the_library_nothing_is_known_and_the_server_goes_on(opened: Callable[[], Nvml]) -> None:
    use = GpuUse(("a",), opened=opened)
    use.shares()
    assert use._thread is not None
    use._thread.join(10)
    assert not use._thread.is_alive()
    assert use.shares() == []


def test_a_server_tells_how_many_requests_are_in_flight() -> None:
    metrics = Metrics()
    assert "pinn_requests_in_flight 0.0\n" in metrics.text().decode()
    metrics.gauges.in_flight = lambda: 7
    assert "pinn_requests_in_flight 7.0\n" in metrics.text().decode()


def test_a_server_tells_of_its_gpus_and_one_without_any_says_nothing() -> None:
    metrics = Metrics()
    metrics.gauges.gpus = list
    assert "pinn_gpu" not in metrics.text().decode()
    metrics.gauges.gpus = lambda: [("GPU-1", 0.42), ("1", 0.0)]
    assert 'pinn_gpu_utilization_ratio{device="GPU-1"} 0.42\n' in metrics.text().decode()
    assert 'pinn_gpu_utilization_ratio{device="1"} 0.0\n' in metrics.text().decode()
