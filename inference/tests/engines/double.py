"""A worker that speaks the real protocol, evaluates with NumPy, and fails on request: a point with z >= FIRST is a fault,
and with a file `hang` in its folder every batch hangs.

It is a process of its own, so that what a server sees of a fault is what it would see of a real one.
"""

import os
import signal
import socket
import sys
import time
from argparse import Namespace
from enum import IntEnum
from pathlib import Path

from pinn_inference.engines import Array, worker
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.frames import Frame, Kind


class Fault(IntEnum):
    """What a point's z asks for."""

    OUT_OF_MEMORY = 1000
    DEVICE_ERROR = 1001
    MODEL_ERROR = 1002
    EXIT = 1003
    KILLED = 1004
    HANG = 1005
    GARBAGE = 1006
    HALF_AN_ANSWER = 1007
    ANSWER_TO_ANOTHER = 1008
    ABORT_WITH_A_WORD = 1009
    WAIT = 1010


class DeviceError(Exception):
    """A CUDA error that stays."""


class Double:
    """Evaluates, or does what the first point asks for."""

    def __init__(self, channel: socket.socket, arguments: Namespace, weights: bytes) -> None:
        self._channel = channel
        self._arguments = arguments
        self._engine = Float64Engine(weights)

    def evaluate(self, points: Array) -> Array:
        with Path(self._arguments.folder, "batches").open("a") as journal:
            journal.write(f"{len(points)}\n")
        if Path(self._arguments.folder, "hang").exists():
            self._fail(Fault.HANG)
        for fault in sorted({int(z) for z in points[:, 0] if z >= min(Fault)}):
            self._fail(Fault(fault))
        return self._engine.jets(points)

    def _fail(self, fault: Fault) -> None:  # one branch a fault
        match fault:
            case Fault.OUT_OF_MEMORY:
                raise MemoryError("RESOURCE_EXHAUSTED: out of memory while trying to allocate")
            case Fault.DEVICE_ERROR:
                raise DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS")
            case Fault.MODEL_ERROR:
                raise ValueError("a shape does not fit")
            case Fault.EXIT:
                os._exit(3)
            case Fault.KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.HANG:
                while True:
                    signal.pause()
            case Fault.GARBAGE:
                self._channel.sendall(b"\x00not a frame at all" * 50)
            case Fault.HALF_AN_ANSWER:
                self._channel.sendall(Frame(Kind.DONE, 1, 1).encode()[:7])
                os._exit(0)
            case Fault.ANSWER_TO_ANOTHER:
                self._channel.sendall(Frame(Kind.DONE, 4_000_000, 1).encode())
            case Fault.ABORT_WITH_A_WORD:
                sys.stderr.write("noise\n" * 5000 + "F0000 could not synchronize: CUDA_ERROR_LAUNCH_FAILED\n")
                sys.stderr.flush()
                os.abort()
            case Fault.WAIT:
                wait_for(Path(self._arguments.folder, "go"))


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.002)


def classify(error: Exception) -> Kind:
    return {MemoryError: Kind.OUT_OF_MEMORY, DeviceError: Kind.DEVICE_ERROR}.get(type(error), Kind.MODEL_ERROR)


def main() -> int:
    parser = worker.parser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--start", choices=["refuse", "mutter", "exit", "silent", "slow", "once"], default="")
    arguments = parser.parse_args()
    channel = socket.socket(fileno=os.dup(arguments.channel))

    def load(weights: bytes) -> tuple[worker.Evaluate, worker.Classify, str]:
        begin(arguments)
        return Double(channel, arguments, weights).evaluate, classify, "a double"

    return worker.run(arguments, load)


def begin(arguments: Namespace) -> None:
    with Path(arguments.folder, "starts").open("a") as journal:
        journal.write(f"{os.getpid()}\n")
    Path(arguments.folder, "environment").write_text("\n".join(os.environ))
    match arguments.start:
        case "refuse":
            raise OSError("no such device")
        case "mutter":
            sys.stderr.write("noise\nE0000 failed call to cuInit: CUDA_ERROR_NO_DEVICE\n")
            raise OSError("no such device")
        case "exit":
            os._exit(4)
        case "silent":
            signal.pause()
        case "slow":
            wait_for(Path(arguments.folder, "start"))
        case "once" if len(Path(arguments.folder, "starts").read_text().split()) == 1:
            os._exit(4)


if __name__ == "__main__":
    sys.exit(main())
