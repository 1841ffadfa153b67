# The one error this package raises on purpose: its text is for the person at the terminal, so it is
# shown without a traceback. The exit code tells scripts "no cluster can be had here" (3) from "it failed" (1).
from __future__ import annotations

EXIT_FAILED = 1
EXIT_NO_WAY = 3


class ClusterError(Exception):
    """Something went wrong in a way that the message explains in full."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
