"""What can go wrong, one class per thing that a caller can do differently.

    EocatError            message (one lower-case sentence), hint (what to do), exit_code
    ├── UsageError        2   the call is wrong
    ├── InputError        3   a scene or another input cannot be used as it is
    ├── MissingExtra      4   the command needs an extra that is not installed
    ├── ConfigError       5   key, home, port, permission or database set-up
    ├── Forged           21   a signature under a trust root or signed policy is invalid
    ├── Untrusted        22   a trust root or signed policy lacks the signatures that its rules ask for
    ├── LogViolation     25   the transparency log contradicts itself or what was seen of it
    ├── Stale            26   a trust root has expired, or root or policy are older than what was seen
    ├── Malformed        50   a strict parser or a limit refused the bytes
    └── Unavailable      60   something could not be fetched or reached
        └── NotThere     60   the server that was asked says that it has no such thing

The outcomes of a verification are no errors: they are values in `report.py`. Only a `cli` module exits.
"""

from typing import ClassVar


class EocatError(Exception):
    """Base of all errors that eocat raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message.replace("\n", "\\n"))  # text from outside never forges a line of its own
        self.hint = hint


class UsageError(EocatError):
    exit_code = 2


class InputError(EocatError):
    exit_code = 3


class MissingExtra(EocatError):
    exit_code = 4


class ConfigError(EocatError):
    exit_code = 5


class Forged(EocatError):
    exit_code = 21


class Untrusted(EocatError):
    exit_code = 22


class LogViolation(EocatError):
    exit_code = 25


class Stale(EocatError):
    exit_code = 26


class Malformed(EocatError):
    exit_code = 50


class Unavailable(EocatError):
    exit_code = 60


class NotThere(Unavailable):
    pass
