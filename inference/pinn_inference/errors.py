"""Every failure the server knows, as one tree, so that each layer catches exactly what it can answer.

PinnError
├── StartError            the process cannot serve: one sentence, exit code 1
│   ├── SettingsError         a setting is missing or malformed
│   ├── ModelError            the model is missing, damaged, or not the one asked for
│   └── ListenError           a port is taken or not allowed
├── RequestError          the caller's mistake: answered with `status` and the sentence
│   ├── InvalidInput          400: malformed JSON, a wrong type, a value nobody can answer
│   │   └── OutOfDomain           a value outside the trained domain: the reference solver may still answer
│   ├── NotFound              404
│   ├── MethodNotAllowed      405
│   ├── TooSlow               408: the body did not arrive in time
│   ├── TooLarge              413
│   ├── UnsupportedMedia      415: a body in an encoding this server does not read
│   ├── Overloaded            429: come back later
│   ├── Unauthorized          401: a token is missing or wrong
│   └── Forbidden             403: switched off until a person configures it
├── BenchError            bench.py: nothing could be measured
├── Timeout               the answer, or an engine without anything behind it, took longer than the limit: 504
├── EngineError           an engine could not evaluate: falls back for `reason`, the label of pinn_fallback_total
└── PredictionError       ours: answered with 500 and counted under `error_type`
"""

from typing import ClassVar


class PinnError(Exception):
    """The root; its text is a sentence meant for a person."""


class StartError(PinnError):
    """The process cannot serve."""


class SettingsError(StartError):
    """A setting is missing or malformed."""


class ModelError(StartError):
    """The model is missing, damaged, or not the one asked for."""


class ListenError(StartError):
    """A port is taken or not allowed."""


class RequestError(PinnError):
    """The caller's mistake; answered with its status and header fields."""

    status: ClassVar[int] = 400
    headers: tuple[tuple[str, str], ...] = ()


class InvalidInput(RequestError):
    """Malformed JSON, a wrong type, a missing or unknown field, or a value outside the trained domain."""


class OutOfDomain(InvalidInput):
    """The model was not trained for this `point`."""

    def __init__(self, sentence: str, point: object) -> None:
        super().__init__(sentence)
        self.point = point


class NotFound(RequestError):
    """No such path."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405

    def __init__(self, sentence: str, allowed: str) -> None:
        super().__init__(sentence)
        self.headers = (("allow", allowed),)


class TooLarge(RequestError):
    """The body or the batch exceeds its limit."""

    status = 413


class PredictionError(PinnError):
    """The model could not answer a valid question."""

    status: ClassVar[int] = 500

    def __init__(self, sentence: str, error_type: str) -> None:
        super().__init__(sentence)
        self.error_type = error_type


class EngineError(PinnError):
    """An engine could not evaluate; `reason` is gpu_oom, gpu_error, model_error, non_finite or timeout."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class TooSlow(RequestError):
    """The body did not arrive within the time limit."""

    status = 408


class UnsupportedMedia(RequestError):
    """The body is in an encoding this server does not read."""

    status = 415


class Overloaded(RequestError):
    """As many requests as the limits allow are being worked on already. A full queue is worked off in less than a second."""

    status = 429
    headers = (("retry-after", "1"),)


class Unauthorized(RequestError):
    """A token is missing or wrong."""

    status = 401
    headers = (("www-authenticate", "Bearer"),)


class Forbidden(RequestError):
    """Switched off until a person configures it."""

    status = 403


class Timeout(PinnError):
    """The answer took longer than the time limit."""

    status: ClassVar[int] = 504
