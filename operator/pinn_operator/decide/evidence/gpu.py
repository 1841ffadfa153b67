"""How busy the GPUs of each arm were in a step: a mean over time, each reading counting for the time since the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pinn_operator.decide.evidence.counters import Arm


@dataclass(frozen=True, slots=True)
class Busy:
    """Seconds that an arm was watched in this step, and how many of them its GPUs were busy."""

    seconds: float = 0.0
    busy: float = 0.0

    def after(self, seconds: float, share: float | None) -> Busy:
        """With so many seconds more, where the arm said how busy it was."""
        return self if share is None else Busy(self.seconds + seconds, self.busy + seconds * share)

    @property
    def mean(self) -> float:
        return self.busy / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What is known of it in this step; `at` is the last reading, `there` whether the canary's servers had GPUs then."""

    at: float | None = None
    there: bool = False
    canary: Busy = Busy()
    stable: Busy = Busy()

    def after(self, now: float, shares: Mapping[Arm, float], longest: float) -> GpuUse:
        """With a reading of the servers: the mean share of the time that an arm's GPUs are busy, where it has any. It stands for
        the time since the one before, and for no longer than `longest` seconds: what was not seen is not made up for."""
        seconds = 0.0 if self.at is None else min(max(0.0, now - self.at), longest)
        return GpuUse(
            now,
            "canary" in shares,
            self.canary.after(seconds, shares.get("canary")),
            self.stable.after(seconds, shares.get("stable")),
        )

    def at_a_new_step(self) -> GpuUse:
        """Watched anew."""
        return GpuUse(there=self.there)
