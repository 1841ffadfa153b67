"""Every failure the server knows, as one tree, so that each layer catches exactly what it can answer.

PinnError
├── StartError            the process cannot serve: one sentence, exit code 1
│   ├── SettingsError         a setting is missing or malformed
│   ├── ModelError            the model is missing, damaged, or not the one asked for
│   └── ListenError           a port is taken or not allowed
├── RequestError          the caller's mistake: answered with `status` and the sentence
│   ├── InvalidInput          400: malformed JSON, a wrong type, a value outside the trained domain
│   ├── NotFound              404
│   ├── MethodNotAllowed      405
│   └── TooLarge              413
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
    """The caller's mistake."""

    status: ClassVar[int] = 400


class InvalidInput(RequestError):
    """Malformed JSON, a wrong type, a missing or unknown field, or a value outside the trained domain."""


class NotFound(RequestError):
    """No such path."""

    status = 404


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405

    def __init__(self, sentence: str, allowed: str) -> None:
        super().__init__(sentence)
        self.allowed = allowed


class TooLarge(RequestError):
    """The body or the batch exceeds its limit."""

    status = 413


class PredictionError(PinnError):
    """The model could not answer a valid question."""

    def __init__(self, sentence: str, error_type: str) -> None:
        super().__init__(sentence)
        self.error_type = error_type
