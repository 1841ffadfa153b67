"""What can go wrong, as one tree; who catches what is decided by the branch, never by a message.

OperatorError
├── ApiError                 the API server answered, but not with what was asked for
│   ├── Refused              403, 422, 400, or the 500 of a type error or a webhook: a person has to act first
│   ├── Conflict             409: what was read is out of date, so observe again
│   └── Unavailable          429, other 5xx, time-outs, broken connections: the same request may work later
├── ServerTrouble            a model server cannot be asked, or says what cannot be used: a reason to wait, never a verdict
└── LeaseLost                another replica leads now; this one must stop writing
"""

from __future__ import annotations


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


class ServerTrouble(OperatorError):
    """What a pod did instead of answering, in a sentence that begins with its name."""

    def __init__(self, pod: str, said: str) -> None:
        super().__init__(f"pod {pod} {said}")
        self.pod = pod


class LeaseLost(OperatorError):
    """The Lease is held by another replica, or could not be renewed in time."""
