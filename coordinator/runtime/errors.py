"""Errors of the running system, beside those of `model.errors`."""

from coordinator.model.errors import CallerError, TransientError


class UnavailableError(TransientError):
    """A partition has no owner for now, or did not answer in time; what was appended will still be applied."""


class BusyError(CallerError):
    """Too much is under way; the caller may come again."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
