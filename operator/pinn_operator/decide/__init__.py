"""Observed -> Plan. Pure: no clock, no I/O, no framework, so every state can be tried and every decision replayed."""

from pinn_operator.decide.rollout import decide

__all__ = ["decide"]
