"""Pure: status, conditions and Events from what was observed, planned and written."""

from pinn_operator.report.events import happenings
from pinn_operator.report.status import status_of

__all__ = ["happenings", "status_of"]
