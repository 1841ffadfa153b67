"""`python -m pinn_operator` is `pinn-operator`.

The first process of a container ignores a signal that it has no handler for, so one is set before anything slow is imported: a
pod told to stop while it starts must not hold up its node for the whole grace period.
"""

import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

from pinn_operator.cli import main  # noqa: E402 - after the handler, that is the point

main()
