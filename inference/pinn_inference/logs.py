"""One line an event, as JSON for machines or plainly for a person at a terminal.

The standard library's logging with one formatter: the usual structured-logging packages cost a third of the time and memory
a server of this size takes to start.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

from pinn_inference import tracing

log = logging.getLogger("pinn_server")


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Sends everything to stderr in the given form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def event(message: str, level: int = logging.INFO, **fields: object) -> None:
    """Logs a sentence with fields a machine can filter on."""
    log.log(level, message, extra={"fields": fields})


class Sparing:
    """Logs what callers can bring about at will: at most `most` lines a second, and then how many were left out."""

    def __init__(self, most: int = 10) -> None:
        self._most = most
        self._second = 0
        self._lines = 0

    def event(self, message: str, level: int = logging.INFO, **fields: object) -> None:
        """Logs the sentence, or counts it."""
        second = int(time.monotonic())
        if second != self._second:
            left_out, self._second, self._lines = self._lines - self._most, second, 0
            if left_out > 0:
                fields["left_out_before"] = left_out
        self._lines += 1
        if self._lines <= self._most:
            event(message, level, **fields)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
            **tracing.fields(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {**getattr(record, "fields", {}), **tracing.fields()}
        text = _printable(f"{record.getMessage()}{''.join(f'  {key}={value}' for key, value in said.items())}")
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _printable(text: str) -> str:
    """With what a caller could forge a line by, or move the cursor with, written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
