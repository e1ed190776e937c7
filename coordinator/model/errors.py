"""Three kinds of error, because three parties must act on them.

`CallerError`: the input is wrong; the caller is told what and how to mend it, and nothing is lost.
`CorruptionError`: what is stored contradicts itself or the log; the partition stops, nothing is skipped.
`TransientError`: the outside failed for now; the runtime tries again with backoff.
"""


class CoordinatorError(Exception):
    """Base of all errors that this package raises on purpose. `str()` is one sentence for a person."""


class CallerError(CoordinatorError):
    """The request cannot be taken as it is."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        """The offending field, where it is one: `filter.status`."""


class ConflictError(CallerError):
    """It contradicts what is there: another body under the same request id, a status that forbids it."""


class NotFoundError(CallerError):
    """What was asked for is not there, or no longer."""


class CorruptionError(CoordinatorError):
    """Stored state contradicts itself or its log. Fatal to the partition; the message says what to do."""


class UnknownLevelError(CorruptionError):
    """The log was raised to a schema level that this build does not know; a newer build must go on."""


class TransientError(CoordinatorError):
    """A fault of the outside that may pass."""
