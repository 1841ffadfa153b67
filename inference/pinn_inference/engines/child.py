"""One worker process as its server sees it: started, asked one batch at a time, ended. Nothing here restarts anything."""

import asyncio
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from pinn_inference.engines import Array, Shape
from pinn_inference.engines.frames import HEADER, Frame, Kind, Memory, NotAFrame, decode, new_memory

KEPT_STDERR: Final = 2000
REAPING: Final = 5.0
"""Seconds to wait for a killed process; one stuck in its driver cannot be had back, and must not hold up the server."""

TURNS: Final = 5
"""Turns of the loop in which what lies in the socket is read, with one to spare."""

NUMBERS: Final = 1 << 32
"""Batches until their numbers begin anew: a header has four bytes for them."""


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
    """A worker process. Use `started`, then `begin`; one batch at a time; `end` it whatever happened.

    `gone` is done when the process is, for which `end` does not wait without end.
    """

    def __init__(self, process: asyncio.subprocess.Process, memory: Memory, channel: socket.socket) -> None:
        self._process = process
        self._memory = memory
        self._channel = channel
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._head: tuple[Frame, int] | None = None
        self._stderr = b""
        self._listening = asyncio.create_task(self._listen())
        self.gone = asyncio.create_task(process.wait())
        self.description = ""

    @property
    def pid(self) -> int:
        """The process, for a person with `ps`."""
        return self._process.pid

    @classmethod
    async def started(cls, command: Sequence[str], env: Mapping[str, str], capacity: int, shape: Shape) -> "Child":
        """A process with room for batches of up to `capacity` points. Raises ChildLost."""
        ours, theirs = socket.socketpair()
        descriptor = new_memory(capacity, shape)
        try:
            process = await _spawned(command, env, theirs.fileno(), descriptor, capacity, shape)
            return cls(process, Memory(descriptor, capacity, shape), ours)
        except OSError as error:
            ours.close()
            raise ChildLost(f"no worker process could be started: {error}") from None
        except asyncio.CancelledError:
            ours.close()  # a process that was started all the same reads the end of its socket, and ends
            raise
        finally:
            theirs.close()
            os.close(descriptor)

    async def begin(self, weights: bytes, limit_s: float) -> None:
        """Hands the network over and waits until it is loaded. Raises ChildLost."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        self._send(Frame(Kind.LOAD, count=len(weights)))
        self._writer.write(weights)
        answer = await self._receive(limit_s)
        if answer.kind is not Kind.READY:
            said, line = answer.text or f"the worker began with {answer.kind.name}", await self._last_line()
            raise ChildLost(f"{said}; its last words: {line}" if line else said)
        self.description = answer.text

    async def evaluate(self, batch: Sequence[Array], limit_s: float) -> list[Array]:
        """The jets (k, n) of each of several lots of points (n, d). Raises ChildFailed, or ChildLost."""
        question = self._question(batch)
        self._send(question)
        await self._answered(limit_s)
        ends = np.cumsum([len(points) for points in batch])[:-1]
        return np.split(self._memory.jets(question.count).copy(), ends, axis=1)

    async def timed(self, points: Array, limit_s: float, held_s: float) -> float:
        """The seconds in which the jets of a batch are here. The loop stands still for `held_s` of them at most: its turns do
        not count in that time. Raises as `evaluate` does.
        """
        began = time.perf_counter()
        question = self._question([points])
        try:
            self._channel.send(question.encode())  # the writer may wait for the loop's next turn
        except OSError:
            raise ChildLost(await self.last_words()) from None
        answer = select.poll()
        answer.register(self._channel, select.POLLIN)
        there = answer.poll(1000 * held_s)
        self._memory.jets(question.count).copy()
        seconds = time.perf_counter() - began
        await self._answered(limit_s)
        return seconds if there else time.perf_counter() - began

    async def end(self) -> bool:
        """Kills the process and waits until it is reaped; whether it is."""
        (self._channel if self._writer is None else self._writer).close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.wait([self.gone], timeout=REAPING)
        self._listening.cancel()
        return self.gone.done()

    def _question(self, batch: Sequence[Array]) -> Frame:
        """The next batch, its points where the worker reads them."""
        count = sum(len(points) for points in batch)
        self._number = (self._number + 1) % NUMBERS
        np.concatenate(batch, out=self._memory.points(count))
        return Frame(Kind.EVALUATE, self._number, count)

    async def _answered(self, limit_s: float) -> None:
        answer = await self._receive(limit_s)
        if answer.number != self._number or answer.kind in {Kind.LOAD, Kind.EVALUATE, Kind.READY}:
            raise ChildLost(f"the worker answered {answer.kind.name} {answer.number} to batch {self._number}")
        if answer.kind is not Kind.DONE:
            raise ChildFailed(answer.kind, answer.text or answer.kind.name.lower())

    def _send(self, frame: Frame) -> None:
        assert self._writer is not None  # noqa: S101 - `started` is the only way to get one
        self._writer.write(frame.encode())

    async def _receive(self, limit_s: float) -> Frame:
        loop = asyncio.get_running_loop()
        due = loop.time() + limit_s
        try:
            try:
                async with asyncio.timeout_at(due):
                    return await self._read()
            except TimeoutError:
                return await self._read_late(limit_s, loop.time() - due)
        except NotAFrame:
            raise ChildLost("the worker sent bytes that are no answer") from None
        except (EOFError, ConnectionError):  # IncompleteReadError is an EOFError
            raise ChildLost(await self.last_words()) from None

    async def _read(self) -> Frame:
        """The next frame. Who is cut off on the way loses nothing of it."""
        if self._head is None:
            self._head = decode(await self._reader.readexactly(HEADER.size))
        frame, length = self._head
        text = await self._reader.readexactly(length)
        self._head = None
        return Frame(frame.kind, frame.number, frame.count, text.decode(errors="replace"))

    async def _read_late(self, limit_s: float, late_s: float) -> Frame:
        """A frame that may lie there though its time is up. By as much as the timer came late this process stood still, and
        perhaps the worker with it: that is not held against it, and it gets as much time again. Raises ChildLost.
        """
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait([reading], timeout=min(late_s, limit_s))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
        raise ChildLost(f"the worker did not answer within {limit_s:.3g} s", hung=True)

    async def last_words(self) -> str:
        """How the process ended, and the last line it wrote."""
        line, code = await self._last_line(), self._process.returncode
        how = "closed its socket" if code is None else f"ended with {f'signal {-code}' if code < 0 else f'code {code}'}"
        return f"the worker {how}" + (f": {line}" if line else "")

    async def _last_line(self) -> str:
        """The last line that a process wrote which ends, or nothing."""
        await asyncio.wait([self.gone, self._listening], timeout=1.0)
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

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
