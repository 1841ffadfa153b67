"""What a person asked for by annotation: `pinn.dev/promote`, `pinn.dev/abort`, `pinn.dev/retry`, value `revision@token`.

Each value is acted upon once and stays where it is, as GitOps would put it back; which ones were, is stored before their effect.
One that its rollout has left over is let go with it. A promote may say which step it is about, `revision/step@token`, and is let
go when the rollout is in another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from pinn_operator.api.memory import Memory
from pinn_operator.api.names import ANNOTATION_ABORT, ANNOTATION_PROMOTE, ANNOTATION_RETRY, requested
from pinn_operator.api.observed import Observed
from pinn_operator.api.status import LastHandled

Verb = Literal["promote", "abort", "retry"]

ANNOTATIONS: Final[Mapping[Verb, str]] = {
    "promote": ANNOTATION_PROMOTE,
    "abort": ANNOTATION_ABORT,
    "retry": ANNOTATION_RETRY,
}
OF_ONE_ROLLOUT: Final[tuple[Verb, ...]] = ("promote", "abort")
KEPT_FORMER: Final = 20
"""Values of a verb that are known beside the last one: Git may put back what it says, whatever a person said since."""


def handled(seen: Observed) -> dict[str, str]:
    """The values acted upon last, by verb, as stored or, where that was lost, as the status says."""
    said = seen.resource.status.last_handled or LastHandled()
    by_status = {verb: value for verb in ANNOTATIONS if (value := getattr(said, verb))}
    return by_status | dict(seen.memory.handled if seen.memory else {})


def asked(seen: Observed, verb: Verb, revision: str) -> str | None:
    """The value with which a person asks for this revision, and that was not acted upon yet."""
    value = seen.resource.metadata.annotations.get(ANNOTATIONS[verb])
    if value is None or value == handled(seen).get(verb) or value in _former(seen).get(verb, ()):
        return None
    return value if requested(value)[0] == revision else None


def step_of(value: str) -> str:
    """The step that a promote is about; empty where it is about whichever the rollout is in."""
    return requested(value)[1]


def is_for_step(value: str, number: int) -> bool:
    """Whether it lets a rollout leave this step."""
    return step_of(value) in ("", str(number))


def promotion(revision: str, number: int) -> str:
    """What a person has to write to leave this step, and no other."""
    return f"{ANNOTATION_PROMOTE}={revision}/{number}@TOKEN"


def left_over(seen: Observed, revision: str) -> dict[str, str]:
    """What was asked of a rollout of this revision and not acted upon in it, by verb."""
    return {verb: value for verb in OF_ONE_ROLLOUT if (value := asked(seen, verb, revision))}


def with_requests(seen: Observed, memory: Memory, done: Mapping[str, str], let_go: Mapping[str, str]) -> Memory:
    """The memory with what was done too, by verb, and with what is let go unless it was done in this pass."""
    now, former = {**memory.handled, **done}, dict(_former(seen))
    before = {verb: value for verb, value in handled(seen).items() if now.get(verb, value) != value}
    left = {verb: value for verb, value in let_go.items() if now.get(verb) != value}
    for verb, value in (*before.items(), *left.items()):
        former[verb] = (*former.get(verb, ()), value)[-KEPT_FORMER:]
    return replace(memory, handled=now, former=former)


def _former(seen: Observed) -> Mapping[str, tuple[str, ...]]:
    return seen.memory.former if seen.memory else {}
