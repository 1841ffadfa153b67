"""The worker process: holds one network on one device and answers batches until its server goes.

A process of its own because CUDA errors are sticky and may abort whoever holds the device; it ends when its socket closes,
or with its parent, so that none is left behind.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Final

from pinn_inference.engines import Array
from pinn_inference.engines.frames import HEADER, MAX_WEIGHTS, Frame, Kind, Memory, NotAFrame, decode

PR_SET_PDEATHSIG: Final = 1

Evaluate = Callable[[Array], Array]
Classify = Callable[[Exception], Kind]
Load = Callable[[bytes], tuple[Evaluate, Classify, str]]
"""From weights to what evaluates points, what names its failures, and a description of the device."""


def main() -> int:
    """Entry point: `python -m pinn_inference.engines.worker --device gpu --channel FD --memory FD --capacity N
    --coordinates D --rows K`."""
    arguments = parser().parse_args()
    load = _load_as_it_is if arguments.as_it_is else lambda weights: _load(weights, arguments.device)
    return run(arguments, load)


def run(arguments: argparse.Namespace, load: Load) -> int:
    """Serves on what the arguments name. Returns the exit code."""
    die_with_parent()
    # TensorFlow asks for a folder to write to as it is imported; in a container on CPUs there is none.
    tempfile.tempdir = os.devnull
    with socket.socket(fileno=arguments.channel) as channel:
        shape = arguments.coordinates, arguments.rows
        return serve(channel, Memory(arguments.memory, arguments.capacity, shape), load)


def parser() -> argparse.ArgumentParser:
    """The arguments a server passes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "gpu"], required=True)
    parser.add_argument("--as-it-is", action="store_true", help="a network in another format, see formats/")
    for name in ("--channel", "--memory", "--capacity", "--coordinates", "--rows"):
        parser.add_argument(name, type=int, required=True)
    return parser


def die_with_parent() -> None:
    """Has the kernel end this process with the thread that started it, where the kernel can. Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(channel: socket.socket, memory: Memory, load: Load) -> int:
    """Loads what the server sends, then answers until the socket closes. Returns the exit code."""
    try:
        evaluate, classify, description = load(_weights(channel))
    except EOFError:
        return 0
    except Exception as error:  # noqa: BLE001 - whatever the reason, the server shall read it
        _send(channel, Frame(Kind.MODEL_ERROR, text=_sentence(error)))
        return 1
    _send(channel, Frame(Kind.READY, text=description))
    try:
        while True:
            _send(channel, _answer(_receive(channel), memory, evaluate, classify))
    except (EOFError, ConnectionError):
        return 0


def _answer(question: Frame, memory: Memory, evaluate: Evaluate, classify: Classify) -> Frame:
    if question.kind is not Kind.EVALUATE or not 0 < question.count <= memory.capacity:
        raise NotAFrame(f"{question} is no question")
    try:
        memory.jets(question.count)[:] = evaluate(memory.points(question.count))
    except Exception as error:  # noqa: BLE001 - TensorFlow raises what it likes; the server decides what it means
        return Frame(classify(error), question.number, question.count, _sentence(error))
    return Frame(Kind.DONE, question.number, question.count)


def _weights(channel: socket.socket) -> bytes:
    frame = _receive(channel)
    if frame.kind is not Kind.LOAD or frame.count > MAX_WEIGHTS:
        raise NotAFrame(f"{frame} is not how a server begins")
    return _exactly(channel, frame.count)


def _load(weights: bytes, device: str) -> tuple[Evaluate, Classify, str]:
    from pinn_inference.engines import xla  # here, so that a double of this process needs no TensorFlow

    engine = xla.XlaEngine(weights, "gpu" if device == "gpu" else "cpu")
    otherwise = Kind.DEVICE_ERROR if device == "gpu" else Kind.MODEL_ERROR
    return engine.jets, lambda e: Kind.OUT_OF_MEMORY if xla.is_out_of_memory(e) else otherwise, engine.description


def _load_as_it_is(parcel: bytes) -> tuple[Evaluate, Classify, str]:
    from pinn_inference.engines.automatic import AutomaticEngine

    engine = AutomaticEngine(parcel)
    return engine.jets, lambda _: Kind.MODEL_ERROR, engine.description


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _receive(channel: socket.socket) -> Frame:
    frame, length = decode(_exactly(channel, HEADER.size))
    _exactly(channel, length)
    return frame


def _send(channel: socket.socket, frame: Frame) -> None:
    channel.sendall(frame.encode())


def _exactly(channel: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        piece = channel.recv(min(count - len(content), 1 << 20))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)


if __name__ == "__main__":
    sys.exit(main())
