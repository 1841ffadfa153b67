"""What can go wrong, as one tree; who catches what is decided by the branch, never by a message.

OperatorError
├── ApiError                 the API server answered, but not with what was asked for
│   ├── Refused              403, 422, 400, or the 500 of a type error or a webhook: a person has to act first
│   ├── Conflict             409: what was read is out of date, so observe again
│   └── Unavailable          429, other 5xx, time-outs, broken connections: the same request may work later
├── NotUnderstood            an object says what this release cannot read: another release, or a person, has to act
├── ServerTrouble            a model server cannot be asked, or says what cannot be used: a reason to wait, never a verdict
└── LeaseLost                another replica leads now; this one must stop writing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class OperatorError(Exception):
    """Base of everything this operator raises itself."""


class ApiError(OperatorError):
    """An answer of the API server that is not the one asked for. `status` is 0 when there was none."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Refused(ApiError):
    """Quota, Pod Security, RBAC, validation: repeating the request unchanged cannot help."""


class Conflict(ApiError):
    """Somebody else wrote in between, or the object exists already."""


class Unavailable(ApiError):
    """The server is busy, restarting or unreachable."""


class NotUnderstood(OperatorError):
    """A field of an object that a newer or an older release wrote; `live` is the object as it was read."""

    def __init__(self, live: Mapping[str, Any], field: str, said: str) -> None:
        super().__init__(f"{field}: {said}")
        self.live = live
        self.field = field
        self.said = said


class ServerTrouble(OperatorError):
    """What a pod did instead of answering, in a sentence that begins with its name."""

    def __init__(self, pod: str, said: str) -> None:
        super().__init__(f"pod {pod} {said}")
        self.pod = pod


class LeaseLost(OperatorError):
    """The Lease is held by another replica, or could not be renewed in time."""
