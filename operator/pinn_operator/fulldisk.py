"""How a program ends whose standard output cannot be written: with a sentence, whichever of the two programs it is."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NOT_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of standard output: commands that write files say of those themselves what went wrong."""


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Ends the program with exit code 1 where the disk is full behind its standard output."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        sys.stderr.write(f"error: standard output cannot be written: {error.strerror}\n")
        sys.exit(1)
