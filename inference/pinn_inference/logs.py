"""One line an event, as JSON for machines or plainly for a person at a terminal.

The standard library's logging with one formatter: the usual structured-logging packages cost a third of the time and memory
a server of this size takes to start.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

log = logging.getLogger("pinn_server")


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Sends everything to stderr in the given form. The HTTP library's own start-up lines are left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    http = logging.getLogger("_granian")
    http.handlers = [handler]
    http.propagate = False
    http.setLevel(logging.ERROR)


def event(message: str, level: int = logging.INFO, **fields: object) -> None:
    """Logs a sentence with fields a machine can filter on."""
    log.log(level, message, extra={"fields": fields})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f"  {key}={value}" for key, value in getattr(record, "fields", {}).items())
        text = f"{record.getMessage()}{fields}"
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
