"""What the operator stores about an object beside its status: the rollout's journal, its evidence, the requests acted upon.

It goes into a ConfigMap that the object owns, before anything that follows from it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pinn_operator.api.journal import Journal


@dataclass(frozen=True, slots=True)
class Memory:
    """`ledger` is the evidence as decide/evidence dumps it; `handled` the values of the annotations acted upon, by verb."""

    journal: Journal | None = None
    ledger: Mapping[str, Any] = field(default_factory=dict)
    handled: Mapping[str, str] = field(default_factory=dict)
