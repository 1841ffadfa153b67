"""What a person asked for by annotation: `pinn.dev/promote`, `pinn.dev/abort`, `pinn.dev/retry`, value `revision@token`.

Each value is acted upon once and stays where it is, as GitOps would put it back; which ones were, is stored before their effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pinn_operator.api.names import ANNOTATION_ABORT, ANNOTATION_PROMOTE, ANNOTATION_RETRY
from pinn_operator.api.observed import Observed
from pinn_operator.api.status import LastHandled

Verb = Literal["promote", "abort", "retry"]

ANNOTATIONS: Final[Mapping[Verb, str]] = {
    "promote": ANNOTATION_PROMOTE,
    "abort": ANNOTATION_ABORT,
    "retry": ANNOTATION_RETRY,
}


def handled(seen: Observed) -> dict[str, str]:
    """The values acted upon, by verb, as stored or, where that was lost, as the status says."""
    said = seen.resource.status.last_handled or LastHandled()
    by_status = {verb: value for verb in ANNOTATIONS if (value := getattr(said, verb))}
    return by_status | dict(seen.memory.handled if seen.memory else {})


def asked(seen: Observed, verb: Verb, revision: str) -> str | None:
    """The value with which a person asks for this revision, and that was not acted upon yet."""
    value = seen.resource.metadata.annotations.get(ANNOTATIONS[verb])
    if value is None or value == handled(seen).get(verb):
        return None
    return value if value.partition("@")[0] == revision else None
