"""Every write, in the one safe order; each write says which part of the plan asked for it."""

from pinn_operator.act.children import act
from pinn_operator.act.reports import file_report
from pinn_operator.act.status import announce, write_not_understood, write_status

__all__ = ["act", "announce", "file_report", "write_not_understood", "write_status"]
