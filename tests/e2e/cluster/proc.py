# Runs other programs for the rest of the package: output into a log, a limit on every wait, a line on
# the terminal while it lasts, and the log's tail when it fails. Nothing here knows about clusters.
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .errors import ClusterError

QUIET_SECONDS = 2.0
REPORT_EVERY = 15.0
TAIL_LINES = 25


def say(text: str) -> None:
    """Progress goes to standard error, so that what a command prints as its result stays usable in a pipe."""
    print(f"[cluster] {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60:02d}s"


class Progress:
    """Says what is being done, once it has lasted two seconds, and again now and then."""

    def __init__(self, what: str, expected: float | None = None) -> None:
        self.what = what
        self.expected = expected
        self.started = time.monotonic()
        self.next_report = self.started + QUIET_SECONDS

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def tick(self) -> None:
        if time.monotonic() < self.next_report:
            return
        self.next_report = time.monotonic() + REPORT_EVERY
        hint = f" (usually {duration(self.expected)})" if self.expected else ""
        say(f"{self.what}: {duration(self.elapsed)}{hint}")

    def done(self) -> None:
        if self.elapsed >= QUIET_SECONDS:
            say(f"{self.what}: done in {duration(self.elapsed)}")


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return "(the log was never written)"
    return "\n".join(text.splitlines()[-lines:])


def failure(what: str, why: str, log: Path) -> ClusterError:
    return ClusterError(f"{what}: {why}\n--- end of {log}\n{tail(log)}\n--- the whole log: {log}")


def run_logged(
    argv: Sequence[str | Path],
    *,
    what: str,
    log: Path,
    limit: float,
    expected: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run to the end with all output in `log`; raise with its tail on failure or past the limit."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(map(str, argv))}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    progress = Progress(what, expected)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
            progress.tick()
            if progress.elapsed > limit:
                raise failure(what, f"not finished after {duration(limit)}", log)
    finally:
        end_session(process)
    if process.returncode != 0:
        raise failure(what, f"exit status {process.returncode}", log)
    progress.done()


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Stop a child that leads a session of its own, and what it started: Ctrl-C did not reach them."""
    if process.poll() is not None:
        return
    for signum, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def output_of(argv: Sequence[str | Path], *, limit: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a short command; its failure is an error with what it said."""
    name = str(argv[0])
    try:
        result = subprocess.run(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env=None if env is None else dict(env),
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{name}: no answer after {duration(limit)}") from error
    if result.returncode != 0:
        command = " ".join(map(str, argv))
        raise ClusterError(f"{command}: exit status {result.returncode}\n{result.stderr.strip()}")
    return result.stdout


def succeeds(argv: Sequence[str | Path], *, limit: float = 20, env: Mapping[str, str] | None = None) -> bool:
    try:
        output_of(argv, limit=limit, env=env)
    except (ClusterError, OSError):
        return False
    return True


def wait_until(check: Callable[[], bool], *, what: str, log: Path, limit: float, expected: float | None = None) -> None:
    """Poll until `check` holds; past the limit raise with the tail of the log that should tell why."""
    progress = Progress(what, expected)
    while not check():
        progress.tick()
        if progress.elapsed > limit:
            raise failure(what, f"not so after {duration(limit)}", log)
        time.sleep(0.2)
    progress.done()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and a closed terminal unwind like Ctrl-C, so that `finally` blocks stop children and take mounts down."""

    def stop(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
