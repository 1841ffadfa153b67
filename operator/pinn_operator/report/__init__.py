"""Pure: status, conditions and Events from what was observed, planned and written."""

from pinn_operator.report.certificate import certificate, config_map, forgotten
from pinn_operator.report.events import happenings
from pinn_operator.report.not_understood import not_understood
from pinn_operator.report.status import history_with, status_of

__all__ = ["certificate", "config_map", "forgotten", "happenings", "history_with", "not_understood", "status_of"]
