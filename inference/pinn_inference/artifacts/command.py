"""`pinn-server models fetch`: what the container runs that comes before the server's.

It ends by itself, whatever a server far away does: a failure is one sentence in the log and in the pod's status.
"""

import argparse
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from pinn_inference import logs, settings
from pinn_inference.errors import ModelError, StartError

ROOM: Final = 5.0
"""Seconds beyond the time limit until what does not even end at its own time limits is broken off."""


def run(arguments: argparse.Namespace) -> int:
    """Fetches the model into a folder; the exit code."""
    # As process 1 of a container nothing is fatal by default.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    try:
        chosen = settings.load(
            model_uri=arguments.uri, model_digest=arguments.digest, model_credentials=arguments.credentials
        )
        logs.configure(chosen.log_level, chosen.log_format)
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # it would log queries, and a query may hold a signature
        _fetch(chosen, arguments)
        return 0
    except StartError as error:
        from pinn_inference.server import explain

        explain(error)
        return 1


def _fetch(chosen: settings.Settings, arguments: argparse.Namespace) -> None:
    from pinn_inference.artifacts import remote
    from pinn_inference.artifacts.address import shown
    from pinn_inference.artifacts.download import Limits

    limits = Limits(chosen.model_max_bytes, chosen.model_fetch_timeout)
    wish = remote.Wish(chosen.model_uri, chosen.model_digest, chosen.model_credentials, limits)
    began = time.monotonic()
    with _at_most(limits.seconds + ROOM, shown(wish.uri)):
        fetched = remote.fetch(wish, arguments.to)
    said = "the model is fetched" if fetched.anew else "the model is there already"
    seconds = round(time.monotonic() - began, 2)
    logs.event(said, uri=shown(wish.uri), digest=fetched.digest, to=str(arguments.to), seconds=seconds)


@contextmanager
def _at_most(seconds: float, said: str) -> Iterator[None]:
    def break_off(_number: int, _frame: FrameType | None) -> None:
        raise ModelError(f"{said} did not answer to its end within {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, break_off)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *others)
        signal.signal(signal.SIGALRM, handler)
