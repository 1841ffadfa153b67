"""One worker process as its server sees it: started, asked one batch at a time, ended. Nothing here restarts anything."""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from pinn_inference.engines import Array, Shape
from pinn_inference.engines.frames import HEADER, Frame, Kind, Memory, NotAFrame, decode, new_memory

KEPT_STDERR: Final = 2000
REAPING: Final = 5.0
"""Seconds to wait for a killed process; one stuck in its driver cannot be had back, and must not hold up the server."""


class ChildLost(Exception):
    """The process is of no further use: it ended, hung, or spoke nonsense. `hung` when it did not answer in time."""

    def __init__(self, sentence: str, *, hung: bool = False) -> None:
        super().__init__(sentence)
        self.hung = hung


class ChildFailed(Exception):
    """The process could not evaluate this batch, and says why: OUT_OF_MEMORY, DEVICE_ERROR or MODEL_ERROR."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Child:
    """A worker process. Use `started`; one batch at a time; `end` it whatever happened."""

    def __init__(self, process: asyncio.subprocess.Process, memory: Memory) -> None:
        self._process = process
        self._memory = memory
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._stderr = b""
        self._listening = asyncio.create_task(self._listen())
        self.gone = asyncio.create_task(process.wait())
        self.description = ""

    @property
    def pid(self) -> int:
        """The process, for a person with `ps`."""
        return self._process.pid

    @classmethod
    async def started(
        cls, command: Sequence[str], env: Mapping[str, str], weights: bytes, capacity: int, shape: Shape, limit_s: float
    ) -> "Child":
        """A process that is ready for batches of up to `capacity` points. Raises ChildLost."""
        ours, theirs = socket.socketpair()
        descriptor = new_memory(capacity, shape)
        try:
            process = await _spawned(command, env, theirs.fileno(), descriptor, capacity, shape)
            child = cls(process, Memory(descriptor, capacity, shape))
        except OSError as error:
            ours.close()
            raise ChildLost(f"no worker process could be started: {error}") from None
        except asyncio.CancelledError:
            ours.close()  # a process that was started all the same reads the end of its socket, and ends
            raise
        finally:
            theirs.close()
            os.close(descriptor)
        try:
            await child._begin(ours, weights, limit_s)
        except BaseException:
            await child.end()
            raise
        return child

    async def evaluate(self, batch: Sequence[Array], limit_s: float) -> list[Array]:
        """The jets (k, n) of each of several lots of points (n, d). Raises ChildFailed, or ChildLost."""
        count = sum(len(points) for points in batch)
        self._number += 1
        np.concatenate(batch, out=self._memory.points(count))
        self._send(Frame(Kind.EVALUATE, self._number, count))
        answer = await self._receive(limit_s)
        if answer.number != self._number or answer.kind in {Kind.LOAD, Kind.EVALUATE, Kind.READY}:
            raise ChildLost(f"the worker answered {answer.kind.name} {answer.number} to batch {self._number}")
        if answer.kind is not Kind.DONE:
            raise ChildFailed(answer.kind, answer.text or answer.kind.name.lower())
        ends = np.cumsum([len(points) for points in batch])[:-1]
        return np.split(self._memory.jets(count).copy(), ends, axis=1)

    async def end(self) -> None:
        """Kills the process and waits until it is reaped."""
        if self._writer is not None:
            self._writer.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.wait([self.gone], timeout=REAPING)
        for task in (self.gone, self._listening):
            task.cancel()

    async def _begin(self, channel: socket.socket, weights: bytes, limit_s: float) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=channel)
        self._send(Frame(Kind.LOAD, count=len(weights)))
        self._writer.write(weights)
        answer = await self._receive(limit_s)
        if answer.kind is not Kind.READY:
            raise ChildLost(answer.text or f"the worker began with {answer.kind.name}")
        self.description = answer.text

    def _send(self, frame: Frame) -> None:
        assert self._writer is not None  # noqa: S101 - `started` is the only way to get one
        self._writer.write(frame.encode())

    async def _receive(self, limit_s: float) -> Frame:
        try:
            async with asyncio.timeout(limit_s):
                frame, length = decode(await self._reader.readexactly(HEADER.size))
                text = await self._reader.readexactly(length)
        except TimeoutError:
            raise ChildLost(f"the worker did not answer within {limit_s:.3g} s", hung=True) from None
        except NotAFrame:
            raise ChildLost("the worker sent bytes that are no answer") from None
        except (EOFError, ConnectionError):  # IncompleteReadError is an EOFError
            raise ChildLost(await self.last_words()) from None
        return Frame(frame.kind, frame.number, frame.count, text.decode(errors="replace"))

    async def last_words(self) -> str:
        """How the process ended, and the last line it wrote."""
        await asyncio.wait([self.gone, self._listening], timeout=1.0)
        code = self._process.returncode
        how = "closed its socket" if code is None else f"ended with {f'signal {-code}' if code < 0 else f'code {code}'}"
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return f"the worker {how}" + (f": {lines[-1][:300]}" if lines else "")

    async def _listen(self) -> None:
        """Keeps the end of what the process writes: a CUDA abort says why there and nowhere else."""
        stream: Any = self._process.stderr
        while piece := await stream.read(4096):
            self._stderr = (self._stderr + piece)[-KEPT_STDERR:]


async def _spawned(
    command: Sequence[str], env: Mapping[str, str], channel: int, memory: int, capacity: int, shape: Shape
) -> asyncio.subprocess.Process:
    sizes = ("--capacity", capacity, "--coordinates", shape[0], "--rows", shape[1])
    arguments = ("--channel", channel, "--memory", memory, *sizes)
    return await asyncio.create_subprocess_exec(
        *command,
        *map(str, arguments),
        env=env,
        pass_fds=(channel, memory),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
